"""Runs side by side in the page: table, differences to a reference, curves and files are those that Python computes."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

TEXT = "The goose and the cat went by; the grey one slept, and the brown one hissed at the door. " * 12


ODD_TEXT = TEXT + "Æ goose, ØØØ goose, Å goose; the unforeseen Æ hissed. "  # the held-out end of it has new letters
# Of every line that a canvas draws: its dashes and how much of its colour it has.
RECORD_LINES = """() => {
  const stroke = CanvasRenderingContext2D.prototype.stroke;
  window.lines = [];
  CanvasRenderingContext2D.prototype.stroke = function () {
    window.lines.push([this.strokeStyle, this.getLineDash().length > 0, this.lineWidth, this.globalAlpha]);
    stroke.call(this);
  };
}"""
CUT = "all => all.filter((n) => n.scrollWidth > n.clientWidth).map((n) => n.textContent)"


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


def train_again(visitor, number: int, tokenizer: str, size: int) -> None:
    visitor.choose("tokenizer", tokenizer)
    visitor.fill("tokenizer_vocab_size", size)
    visitor.fill("max_iters", 20)
    visitor.start()
    expect(visitor.own("chart").locator(".name")).to_have_text(f"The pasted text ({number})")
    visitor.expect_state("finished")


def legend(section: Locator) -> list[str]:
    return section.locator(".rt-legend li:not(.rt-thin)").all_inner_texts()


def drag(page: Page, canvas: Locator, start: float, end: float) -> None:
    """Across a part of the canvas; 0 is its left edge, 1 its right."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * start, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * end, y, steps=3)
    page.mouse.up()


@pytest.fixture
def trained(visitor):
    """A visitor with two runs of a moment on one text, by characters and by subwords; none are unknown."""
    visitor.train(TEXT, max_iters=30, seed=1)
    train_again(visitor, 2, "Byte-pair subwords", 280)
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
    for name in ("best", "val"):
        over = [f"over {run[name + '_tokens']:,} tokens" for run in runs]
        expect(section.locator(f"tbody [data-column={name}_loss] .rt-over")).to_have_text(over)
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
    expect(section.locator(".rt-note")).to_contain_text("Press a column’s name to sort by it")
    expect(section.locator(".rt-note")).to_contain_text("The reference is the run that the others are measured by")

    sign = "node => getComputedStyle(node.querySelector('button'), '::after').content"
    for head in section.locator("thead th:has(button)").all():
        expect(head).to_have_attribute("aria-sort", "none")
        assert head.evaluate(sign) == '"↕"'
    for rising in (True, False):
        sort_by(section, "bits_per_char")
        head = section.locator("thead th", has=trained.page.locator("[data-column=bits_per_char]"))
        expect(head).to_have_attribute("aria-sort", "ascending" if rising else "descending")
        assert head.evaluate(sign) == ('"↑"' if rising else '"↓"')
        expect(section.locator("thead [aria-sort=none]")).to_have_count(len(heads) - 1)
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


def test_runs_with_unknown_tokens_stand_apart(visitor):
    """The lower bounds of two runs are below the bits of the third, and never before it."""
    visitor.train(ODD_TEXT, max_iters=30)
    train_again(visitor, 2, "Words", 20)
    train_again(visitor, 3, "Byte-pair subwords", 280)
    section = opened(visitor)
    expect(section).to_have_attribute("data-drawn", "1,2,3")
    _, data = visitor.download("compare", "Download this table as JSON")
    runs = json.loads(data)
    by_chars, by_words, by_pairs = runs
    assert by_chars["n_unknown"] and by_words["n_unknown"] and not by_pairs["n_unknown"]
    assert by_words["bits_per_char"] < by_pairs["bits_per_char"]  # which is no better for that
    for name in ("bits_per_char", "val_loss", "best_loss"):
        bounds = sorted([by_chars[name], by_words[name]])
        for last in (bounds, bounds[::-1]):
            sort_by(section, name)
            expect(section.locator("tbody tr").first).to_contain_text("The pasted text (3)")
            assert numbers(column(section, name)) == pytest.approx([by_pairs[name], *last], abs=6e-4)

    lines, unknown = legend(section), []
    for run, line in zip(runs, lines, strict=True):
        row = section.locator("tbody tr", has=visitor.page.get_by_role("rowheader", name=run["name"], exact=True))
        cell, share = row.locator("[data-column=bits_per_char]"), f"{100 * run['unknown_share']:.1f} %"
        unknown.append(run["n_unknown"] > 0)
        assert cell.inner_text().startswith("≥") == unknown[-1]
        assert (f"{share} unknown" in cell.inner_text()) == unknown[-1]
        assert (f"lower bound, {share} of tokens unknown" in line) == unknown[-1]
        assert ("dashed" in row.locator(".rt-line").get_attribute("style")) == unknown[-1]
    visitor.page.evaluate(RECORD_LINES)
    section.get_by_role("button", name="log y").click()
    drawn = visitor.page.evaluate("() => lines.filter(([, , width]) => width === 1.75 || width === 3.5)")
    assert [(dashed, strength < 1) for _, dashed, _, strength in drawn] == [(u, u) for u in unknown]
    section.locator(".rt-axis").select_option("tokens")
    name, svg = visitor.download("compare", "Download this figure as SVG")
    assert name == "runs.svg" and b"lower bound" in svg


def test_runs_are_named_with_what_tells_them_from_the_reference(trained):
    section = opened(trained)
    expect(section).to_have_attribute("data-drawn", "1,2")
    size = column(section, "vocab_size")[0]
    assert legend(section) == [
        f"1 The pasted text · reference: char tokens, vocabulary {size}, 30 steps",
        "2 The pasted text (2) · bpe tokens, vocabulary 280, 20 steps",
    ]
    section.get_by_role("radio", name="Measure the others by The pasted text (2)").check()
    line = section.locator(".rt-legend li").first
    expect(line).to_have_text(f"1 The pasted text · char tokens, vocabulary {size}, 30 steps")
    section.get_by_role("checkbox", name="Show the curve of The pasted text", exact=True).uncheck()
    assert [line[:1] for line in legend(section)] == ["2"]


def test_the_whole_fall_is_in_view_until_one_zooms_in(trained):
    section, page = opened(trained), trained.page
    expect(section).to_have_attribute("data-drawn", "1,2")
    _, data = trained.download("compare", "Download this table as JSON")
    runs = json.loads(data)
    losses = [point["val_loss"] * run["bits_per_nat"] for run in runs for point in run["curve"]]

    def view() -> list[float]:
        return [float(loss) for loss in section.get_attribute("data-losses").split()]

    low, high = view()
    assert low <= min(losses) and high >= max(losses)
    reset = section.get_by_role("button", name="Reset zoom")
    expect(reset).to_be_hidden()
    canvas = section.locator("canvas")
    for leave in (reset.click, lambda: canvas.press("Escape"), canvas.dblclick):
        drag(page, canvas, 0.7, 0.9)
        expect(section).to_have_attribute("data-zoom", re.compile(r"^[\d.]+ [\d.]+$"))
        start, end = (float(place) for place in section.get_attribute("data-zoom").split())
        assert 15 < start < 23 < 25 < end < 30  # of 30 steps
        assert view()[1] < high
        leave()
        expect(section).to_have_attribute("data-zoom", "")
        assert view() == [low, high]
    drag(page, canvas, 0.7, 0.9)
    section.locator(".rt-axis").select_option("seconds")
    expect(section).to_have_attribute("data-zoom", "")
    for axis in ("log x", "log y"):
        button = section.get_by_role("button", name=axis)
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        assert view()[0] <= min(losses) and view()[1] >= max(losses)
    # Dragging is the same on the chart of one run.
    chart = trained.own("chart")
    drag(page, chart.locator("canvas"), 0.5, 0.9)
    expect(chart).to_have_attribute("data-zoom", re.compile(r"^\d+ \d+$"))
    chart.locator("canvas").press("Escape")
    expect(chart).to_have_attribute("data-zoom", "")


def test_a_run_that_has_ended_leads_to_all_of_them(visitor):
    visitor.train(TEXT, max_iters=10)
    link = visitor.own("chart").get_by_role("button", name="Compare your runs")
    expect(link).to_be_hidden()  # there is nothing to compare it with
    train_again(visitor, 2, "Characters", 280)
    link.click()
    section = visitor.own("compare")
    expect(section).to_have_attribute("data-runs", "2")
    expect(section.locator("summary")).to_be_focused()
    expect(section.locator("tbody tr").last).to_be_in_viewport()
    visitor.page.evaluate("scrollTo(0, 0)")
    link.click()
    expect(section.locator("tbody tr").last).to_be_in_viewport()


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
    expect(section.locator("tbody [data-column=bits_per_char]")).to_have_text(re.compile(r"^\d\.\d{3}over \d+ tokens$"))


def test_no_word_is_cut_on_a_wide_page(trained):
    section = opened(trained)
    expect(section).to_have_attribute("data-runs", "2")
    assert section.locator(".rt-scroll, .rt-scroll :is(th, td), .rt-legend li").evaluate_all(CUT) == []
    room = section.locator(".rt-axis").evaluate(
        """select => {
          const style = getComputedStyle(select), context = document.createElement("canvas").getContext("2d");
          context.font = style.font;
          const texts = [...select.options].map((option) => context.measureText(option.text).width);
          const inside = select.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
          return inside - Math.max(...texts);
        }"""
    )
    assert room >= 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_section_fits_a_narrow_page(new_visitor, tmp_path, dark):
    visitor = new_visitor(width=390, dark=dark)
    visitor.train(TEXT, max_iters=10)
    section = opened(visitor)
    expect(section).to_have_attribute("data-drawn", "1")
    expect(section.locator(".rt-note")).to_contain_text("Train another run")
    section.screenshot(path=tmp_path / "compare.png")
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    table = section.locator(".rt-scroll")
    assert table.evaluate("node => node.scrollWidth > node.clientWidth")  # which alone scrolls
    assert section.locator(".rt-scroll :is(th, td), .rt-legend, .rt-bar").evaluate_all(CUT) == []
