"""The Evaluate tab in the page: the figures are those that Python computes, and what is copied is marked as copied."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from handmade import checkpoint_with_logits
from playwright.sync_api import expect

from playground.checkpoint import Checkpoint
from playground.compression import compressed_bits_per_char
from playground.copies import copying
from playground.corpora import BUILT_IN
from playground.corpus import built_in, split
from playground.diversity import diversity
from playground.evaluation import Evaluator, evaluate
from playground.generation import Sampling, generate_ids
from playground.learned import Learned
from playground.surprise import most_surprising, surprises
from playground.tokenizer import CharTokenizer

pytestmark = pytest.mark.browser

OWN = 'The <img src=x onerror="window.pwned=1"> goose & the "cat" went by; the grey one slept. ' * 5


@pytest.fixture(scope="module")
def learned(shipped: Checkpoint) -> tuple[str, Learned]:
    """The held-out part of what the shipped model learned from, and the rest of it, sorted."""
    titles = {corpus.title: name for name, corpus in BUILT_IN.items()}
    text = built_in(titles[shipped.provenance[-1].name])
    return split(text.text)[1], Learned.build(text, shipped.tokenizer)


def measure_own(visitor, text: str) -> None:
    visitor.open("Evaluate")
    visitor.choose("measured-on", "A text of your own")
    visitor.fill("measured-text", text)
    visitor.at("measure").click()


def figure(visitor, name: str) -> str:
    return visitor.own("report").locator(f".rp-{name}").inner_text()


def test_the_figures_of_a_text_are_those_that_python_computes(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    measure_own(visitor, OWN)
    report = visitor.own("report")
    expect(report).to_have_attribute("data-others", "3")  # the text that it learned from is not here
    expected = evaluate(tiny_checkpoint, OWN)
    assert figure(visitor, "loss") == f"{expected.loss:.4f}"
    assert float(figure(visitor, "perplexity")) == pytest.approx(expected.perplexity, abs=6e-4)
    assert figure(visitor, "bits-per-char") == f"{expected.bits_per_char:.4f}"
    assert figure(visitor, "bits-per-byte") == f"{expected.bits_per_byte:.4f}"
    assert figure(visitor, "top1") == f"{100 * expected.accuracy:.1f} %"
    assert figure(visitor, "top5") == f"{100 * expected.top5_accuracy:.1f} %"
    assert figure(visitor, "tokens") == f"{expected.n_tokens:,}"
    expect(report.locator(".rp-calibration")).to_contain_text(f"error {100 * expected.calibration_error:.1f} %")
    expect(report.locator(".rp-note")).to_contain_text("is not here, so nothing could be counted in it")
    packed = {name: report.locator(f"[data-name={name}] .look-bar").inner_text() for name in ("gzip", "bz2", "xz")}
    assert packed == {name: f"{bits:.3f}" for name, bits in compressed_bits_per_char(OWN).items()}
    report.get_by_text("As a table").click()
    rows = report.locator(".rp-bins tbody tr").all()
    assert [row.locator("td").last.inner_text() for row in rows] == [f"{bin.count:,}" for bin in expected.bins]
    bars = report.locator(".rp-bin").count()
    assert bars == sum(bin.count > 0 for bin in expected.bins)
    name, svg = visitor.download("report", "Download this figure as SVG")
    assert name == "evaluation.svg" and ElementTree.fromstring(svg).tag.endswith("svg")


def test_simple_models_stand_beside_the_shipped_one(visitor, shipped, learned):
    text, known = learned
    visitor.open("Evaluate")
    visitor.at("measure").click()
    report = visitor.own("report")
    expect(report).to_have_attribute("data-others", "8")
    evaluator = Evaluator(shipped, text)
    *_, expected = evaluator.parts()
    assert expected.loss == pytest.approx(shipped.val_loss, abs=1e-4)
    assert figure(visitor, "loss") == f"{expected.loss:.4f}"
    nats = known.ngrams.losses(evaluator.ids.numpy()).sum(axis=1)
    for name, bits in zip(("uniform", "unigram", "bigram", "trigram", "5-gram"), nats / math.log(2), strict=True):
        row = report.locator(f"[data-name='{name}']")
        assert row.locator(".look-bar").inner_text() == f"{bits / expected.n_chars:.3f}"
        assert row.locator(".rp-measured").inner_text() == f"{expected.n_tokens:,} tokens"
    shown = [float(bits) for bits in report.locator(".rp-table .look-bar").all_inner_texts()]
    assert shown == sorted(shown) and len(shown) == 9  # the best on top, this model among them


def test_the_text_is_coloured_by_surprise(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    measure_own(visitor, OWN)
    view, told = visitor.own("surprise"), visitor.own("surprise").locator(".sv-told")
    expect(view).to_have_attribute("data-start", "0")
    ids = tiny_checkpoint.tokenizer.encode(OWN)
    found = surprises(tiny_checkpoint, ids)
    tokens = view.locator(".surprise-token")
    expect(tokens).to_have_count(min(len(ids), 256 + 24))
    tokens.nth(0).hover()
    expect(told).to_contain_text("is the first: nothing predicts it")
    tokens.nth(30).hover()
    assert float(told.get_attribute("data-loss")) == pytest.approx(float(found.loss[30]), abs=1e-4)
    assert int(told.get_attribute("data-rank")) == found.rank[30]
    expected = [f"{100 * p:.1f} %" for p in found.top_probs[30]]
    expect(view.locator(".sv-one .look-bar")).to_have_text(expected)
    tokens.nth(30).focus()
    visitor.page.keyboard.press("ArrowLeft")
    assert float(told.get_attribute("data-loss")) == pytest.approx(float(found.loss[29]), abs=1e-4)
    visitor.expect_nothing_run()

    view.locator(".sv-order").select_option("most")
    losses = Evaluator(tiny_checkpoint, OWN)
    *_, _ = losses.parts()
    starts = most_surprising(losses.losses, 64, 50)
    expect(view).to_have_attribute("data-passages", str(len(starts)))
    expect(view.locator(".sv-place")).to_have_text(
        re.compile(f"^tokens {starts[0] + 1} to {starts[0] + 64} of {len(ids)}$")
    )
    shown = view.locator(".surprise-token:not(.sv-around)")
    expect(shown).to_have_count(64)
    shown.first.hover()
    assert float(told.get_attribute("data-loss")) == pytest.approx(float(losses.losses[starts[0]]), abs=1e-4)


def test_what_is_copied_is_marked_with_where_it_stands(visitor, shipped, learned):
    _, known = learned
    visitor.open("Evaluate")
    visitor.fill("judged-prompt", "Once")
    visitor.fill("judged-length", 100)
    visitor.at("write-and-compare").click()
    view = visitor.own("copies")
    expect(view).to_have_attribute("data-tokens", "100")
    drawn = generate_ids(shipped.model, shipped.tokenizer.encode("Once"), Sampling(0.8), 0)
    ids = np.array([next(drawn)[0] for _ in range(100)])
    at_least = int(view.locator("output").inner_text())
    for n in (at_least, 10, 30):
        view.locator(".cv-slider input").fill(str(n))
        expect(view).to_have_attribute("data-at", str(n))
        for column, sample in enumerate((ids, known.held_out[:100])):
            found = copying(known.suffixes, sample, n)
            row = {
                name: view.locator(f"[data-name='{name}'] td").nth(column).inner_text()
                for name in ("copied", "longest copy")
            }
            assert row == {"copied": f"{100 * found.share:.1f} %", "longest copy": str(found.longest)}
            marked = "".join(view.locator(".cv-text").nth(column).locator("mark").all_text_contents())
            kept = shipped.tokenizer.decode(sample[found.copied].tolist())
            assert re.sub(r"\W", "", marked) == re.sub(r"\W", "", kept)
    varied = diversity(ids)
    assert view.locator("[data-name='distinct-2'] td").first.inner_text() == f"{varied.distinct[2]:.3f}"

    view.locator(".cv-slider input").fill("5")
    expect(view).to_have_attribute("data-at", "5")
    span = copying(known.suffixes, ids, 5).spans[0]
    view.locator(".cv-text").first.locator("mark").first.hover()
    expect(view.locator(".cv-told")).to_contain_text(f"from token {span.where + 1:,} on")
    assert view.locator(".cv-passage").text_content() == shipped.tokenizer.decode(ids[span.start : span.end].tolist())


def test_where_the_text_is_not_at_hand_the_page_says_so(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Evaluate")
    visitor.at("measure").click()
    visitor.expect_message("is not here: choose “A text of your own” and paste one")
    visitor.at("write-and-compare").click()
    view = visitor.own("copies")
    expect(view.locator(".cv-note")).to_contain_text("is not here, so that copies cannot be told from inventions")
    expect(view.locator(".cv-slider")).to_be_hidden()
    expect(view.locator("[data-name='entropy'] td")).to_have_count(1)
    visitor.at("sweep").click()
    visitor.expect_message("is not here, so that copies cannot be told")
    measure_own(visitor, "a")
    visitor.expect_message("give at least two tokens")
    visitor.fill("judged-length", 5)
    visitor.at("write-and-compare").click()
    visitor.expect_message("Tokens must be a whole number from 20 to 2,000")


def test_a_model_that_is_sure_and_wrong_has_an_infinite_perplexity(visitor):
    visitor.use(checkpoint_with_logits([-5_000.0, 5_000.0, 0.0], CharTokenizer.train("ab")))
    measure_own(visitor, "aaaa")
    expect(visitor.own("report")).to_have_attribute("data-others", "3")
    assert figure(visitor, "perplexity") == "∞"
    expect(visitor.own("report").locator(".rp-calibration")).to_contain_text("too few tokens to judge")


def test_a_text_of_which_little_was_held_out(visitor):
    visitor.train("abcdefghij" * 2, block_size=4, batch_size=2)
    visitor.open("Evaluate")
    visitor.fill("judged-length", 40)
    visitor.at("write-and-compare").click()
    view = visitor.own("copies")
    expect(view.locator(".cv-note")).to_contain_text("only 2 tokens were held out")
    assert "NaN" not in view.inner_text()
    visitor.at("sweep").click()
    visitor.expect_message("too few to compare with: train on a longer text")


def test_what_another_model_has_begun_does_not_come_under_the_new_one(visitor, shipped, tiny_checkpoint):
    visitor.open("Evaluate")
    visitor.at("measure").click()
    expect(visitor.own("report")).to_have_attribute("data-share", re.compile(r"0\.\d"))
    visitor.at("stop-measuring").click()
    expect(visitor.own("report").locator(".rp-title")).to_contain_text("% of it so far")
    visitor.at("measure").click()
    visitor.at("sweep").click()
    expect(visitor.own("swept")).to_have_attribute("data-cells", re.compile("[1-9]"))
    visitor.use(tiny_checkpoint)
    visitor.open("Evaluate")
    visitor.page.wait_for_timeout(3_000)  # in which the old ones would have come
    for part in (".rp-shown", ".sm-shown", ".cv-shown"):
        expect(visitor.page.locator(part)).to_be_hidden()


def test_temperature_and_top_k_are_tried_against_held_out_text(visitor, shipped, learned):
    _, known = learned
    visitor.open("Evaluate")
    visitor.fill("judged-prompt", "Once")
    visitor.at("sweep").click()
    swept = visitor.own("swept")
    expect(swept).to_have_attribute("data-cells", "20", timeout=60_000)
    drawn = generate_ids(shipped.model, shipped.tokenizer.encode("Once"), Sampling(0.5, 10), 0)
    ids = np.array([next(drawn)[0] for _ in range(150)])
    quality = known.ngrams.losses(ids)[-1].mean() / math.log(2)
    cells = [swept.locator("table").nth(part).locator("tbody tr").nth(1).locator("td").nth(1) for part in (0, 1)]
    assert [cell.inner_text() for cell in cells] == [f"{quality:.2f}", f"{diversity(ids).distinct[3]:.3f}"]
