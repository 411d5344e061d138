"""Runs side by side in the page: table, differences to a reference, curves and files are those that Python computes."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from playwright.sync_api import Locator, expect

pytestmark = pytest.mark.browser

TEXT = "The goose and the cat went by; the grey one slept, and the brown one hissed at the door. " * 12


def opened(visitor) -> Locator:
    section = visitor.own("compare")
    section.locator("summary").click()
    return section


def column(section: Locator, name: str) -> list[str]:
    return section.locator(f"tbody [data-column={name}]").all_inner_texts()


def sort_by(section: Locator, name: str) -> None:
    section.locator(f"thead button[data-column={name}]").click()


def numbers(texts: list[str]) -> list[float]:
    """The numbers before the differences."""
    return [float(re.match(r"(?:≥ )?([\d.]+)", text).group(1)) for text in texts]


@pytest.fixture
def trained(visitor):
    """A visitor with two runs of a moment on one text, by characters and by words that leave none unknown."""
    visitor.train(TEXT, max_iters=30, seed=1)
    visitor.choose("tokenizer", "Byte-pair subwords")
    visitor.fill("tokenizer_vocab_size", 280)
    visitor.fill("max_iters", 20)
    visitor.start()
    expect(visitor.own("chart").locator(".name")).to_have_text("The pasted text (2)")
    visitor.expect_state("finished")
    return visitor


def test_without_a_run_the_section_says_what_to_do(visitor):
    section = opened(visitor)
    expect(section.locator(".look-note")).to_have_text(re.compile("train two with different settings"))
    expect(section.locator("table")).to_be_hidden()


def test_runs_stand_side_by_side_and_their_files_agree(trained):
    section = opened(trained)
    expect(section).to_have_attribute("data-runs", "2")
    _, data = trained.download("compare", "Download this table as JSON")
    runs = json.loads(data)
    name, data = trained.download("compare", "Download this table as CSV")
    lines = list(csv.DictReader(io.StringIO(data.decode())))
    assert name == "runs.csv"
    for line, run in zip(lines, runs, strict=True):
        assert {k: v for k, v in line.items() if v} == {
            k: str(v) for k, v in run.items() if k not in ("bits_per_nat", "curve") and v is not None
        }

    # Only what differs is a column: 30 steps against 20, characters against subwords.
    heads = section.get_attribute("data-columns").split(",")
    assert heads[:5] == ["name", "state", "tokenizer", "vocab_size", "max_iters"]
    assert heads[5] == "n_params"
    assert column(section, "tokenizer") == ["Characters", "Byte-pair subwords"]
    assert column(section, "tokens") == [f"{n * 4 * 16:,}" for n in (30, 20)]
    assert column(section, "n_params") == [f"{run['n_params']:,}" for run in runs]
    for name in ("best_loss", "val_loss", "bits_per_char"):
        assert numbers(column(section, name)) == pytest.approx([run[name] for run in runs], abs=6e-4)
    for run in runs:
        curve = [point["val_loss"] for point in run["curve"]]
        assert min(curve) == run["best_loss"] and run["curve"][-1]["step"] == run["step"]
        assert run["bits_per_char"] == pytest.approx(run["val_loss"] * run["bits_per_nat"])

    # The difference is to the reference; in nats a token, other tokens do not compare.
    off = runs[1]["bits_per_char"] - runs[0]["bits_per_char"]
    shown = section.locator("tbody tr").nth(1).locator(".rt-away")
    expect(shown).to_have_text([f"{'−' if off < 0 else '+'}{abs(off):.3f}"])
    section.get_by_role("radio", name="Measure the others by The pasted text (2)").check()
    shown = section.locator("tbody tr").first.locator(".rt-away")
    expect(shown).to_have_text([f"{'−' if -off < 0 else '+'}{abs(off):.3f}"])
    expect(section.locator("tbody tr").nth(1).locator(".rt-away")).to_have_count(0)
    expect(section.locator(".rt-note")).to_contain_text("bits per character compare them")

    for rising in (True, False):
        sort_by(section, "bits_per_char")
        head = section.locator("thead th", has=trained.page.locator("[data-column=bits_per_char]"))
        expect(head).to_have_attribute("aria-sort", "ascending" if rising else "descending")
        bits = [run["bits_per_char"] for run in runs]
        assert numbers(column(section, "bits_per_char")) == pytest.approx(sorted(bits, reverse=not rising), abs=6e-4)
    trained.expect_nothing_run()


def test_curves_are_shown_hidden_and_read(trained):
    section = opened(trained)
    expect(section).to_have_attribute("data-drawn", "1,2")
    expect(section).to_have_attribute("data-unit", "bits per character")
    _, data = trained.download("compare", "Download this table as JSON")
    first, second = json.loads(data)
    canvas, readout = section.locator("canvas"), section.locator(".rt-readout")
    canvas.focus()
    for key, run, at in (("ArrowLeft", first, -1), ("ArrowLeft", first, -2), ("ArrowDown", second, -1)):
        trained.page.keyboard.press(key)
        point = run["curve"][at]
        expect(readout).to_contain_text(f"step {point['step']}, {point['tokens']:,} tokens")
        expect(readout).to_contain_text(f"validation loss {point['val_loss']:.3f} nats per token")
        expect(readout).to_contain_text(f"{point['val_loss'] * run['bits_per_nat']:.3f} bits per character")
    section.get_by_role("checkbox", name="Show the curve of The pasted text", exact=True).uncheck()
    expect(section).to_have_attribute("data-drawn", "2")
    section.locator(".rt-axis").select_option("seconds")
    name, svg = trained.download("compare", "Download this figure as SVG")
    assert name == "runs.svg" and ElementTree.fromstring(svg).tag.endswith("svg")
    section.get_by_role("checkbox", name="Show the curve of The pasted text (2)", exact=True).uncheck()
    section.get_by_role("button", name="Download this figure as PNG").click()
    expect(section.locator(".rt-figure .figure-fault")).to_contain_text("show one of the runs first")
    canvas.hover()
    expect(readout).to_have_text(re.compile("^Point at a curve"))


def test_a_run_that_is_going_gets_on_in_the_table(visitor):
    section = opened(visitor)
    visitor.paste_text(TEXT)
    visitor.set_up(**(visitor.TINY | {"max_iters": 100_000}))
    visitor.start()
    state, step = section.locator("tbody [data-column=state]"), section.locator("tbody [data-column=step]")
    expect(state).to_have_text("running")
    seen = int(step.inner_text().replace(",", ""))
    section.get_by_role("checkbox").focus()
    visitor.until(lambda: int(step.inner_text().replace(",", "")) > seen, "the table says that the run has got on")
    expect(section.get_by_role("checkbox")).to_be_focused()
    expect(section.locator("tbody [data-column=bits_per_char]")).to_have_text("—")
    visitor.at("stop").click()
    expect(state).to_have_text("stopped")
    expect(section.locator("tbody [data-column=bits_per_char]")).to_have_text(re.compile(r"^\d\.\d{3}$"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_section_fits_a_narrow_page(new_visitor, tmp_path, dark):
    visitor = new_visitor(width=390, dark=dark)
    visitor.train(TEXT, max_iters=10)
    section = opened(visitor)
    expect(section).to_have_attribute("data-drawn", "1")
    expect(section.locator(".rt-note")).to_contain_text("Train another run")
    section.screenshot(path=tmp_path / "compare.png")
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
