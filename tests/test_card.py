"""The model's card: what it tells is true, and nothing in a checkpoint becomes markup in it."""

import doctest
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from handmade import random_checkpoint
from markdown_it import MarkdownIt

from playground import card
from playground.card import LOSS_PICTURE, MAX_POINTS, MAX_ROWS, loss_picture, model_card
from playground.checkpoint import Provenance, TrainStep
from playground.tokenizer import CharTokenizer

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    "`` ` ``<img src=x onerror=alert(1)>",
    "![a](http://b.c)",
    "[a](javascript:b)",
    "a | b\n---\n# c",
    "www.example.com a@example.com http:b",
    "&lt;b&gt; *a* __b__ ~~c~~",
    "---\nlicense: mit",
]


def rendered(markdown: str) -> str:
    """As HTML, with all that GitHub's and the Hub's Markdown have: raw HTML, links by themselves, tables."""
    head, body = markdown.removeprefix("---\n").split("\n---\n", 1)
    assert head == card.HEAD.removeprefix("---\n").removesuffix("\n---\n")
    return MarkdownIt("gfm-like", {"linkify": False}).render(body)


def test_the_card_of_a_trained_model(tiny_checkpoint):
    text, page = (
        model_card(tiny_checkpoint, "Qwen3ForCausalLM"),
        rendered(model_card(tiny_checkpoint, "Qwen3ForCausalLM")),
    )
    config, learned = tiny_checkpoint.config, tiny_checkpoint.provenance[0]
    assert "<h1><code>Verses</code></h1>" in page
    assert f"{sum(w.numel() for w in tiny_checkpoint.weights.values()):,} parameters" in text
    assert f"context: {config.block_size} tokens" in text and "single characters" in text
    assert f"`verses.txt`: {learned.n_chars:,} characters, SHA-256 `{learned.sha256}`" in text
    assert f"**{tiny_checkpoint.val_loss:.4f}**" in text and "`Qwen3ForCausalLM`" in text
    assert f'<img src="{LOSS_PICTURE}" alt="Loss while training" />' in page
    measured = [step for step in tiny_checkpoint.history if step.val_loss is not None]
    assert page.count("<tr>") == 1 + len(measured) <= 1 + MAX_ROWS
    assert f"| {measured[-1].step} | {measured[-1].train_loss:.4f} | {measured[-1].val_loss:.4f} |" in text


def test_a_model_that_was_not_trained_here_has_neither_data_nor_curve():
    text = model_card(random_checkpoint(CharTokenizer.train("ab")), "GPT2LMHeadModel")
    assert "## How to use it" in text and "## Data" not in text and "## Training" not in text


def test_a_fine_tuned_model_names_its_texts_in_order(tiny_checkpoint):
    tuned = replace(tiny_checkpoint, provenance=(*tiny_checkpoint.provenance, Provenance("second", 5, "ab" * 32)))
    text = model_card(tuned, "Qwen3ForCausalLM")
    assert text.index("`verses.txt`") < text.index("`second`") and "in this order" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_markup(name, tiny_checkpoint):
    def page(name: str) -> str:
        texts = (Provenance(name, 5, name), Provenance(name, 6, name))
        return rendered(model_card(replace(tiny_checkpoint, name=name, provenance=texts), "Qwen3ForCausalLM"))

    def tags(html: str) -> list[str]:
        return [part.split(">")[0] for part in html.split("<")[1:]]

    assert tags(page(name)) == tags(page("plain"))


def steps(*losses: float) -> tuple[TrainStep, ...]:
    return tuple(TrainStep(i + 1, loss, 0.1, 1.0, 0.1, loss) for i, loss in enumerate(losses))


def test_the_curve_stands_where_the_losses_are():
    picture = ElementTree.fromstring(loss_picture(steps(4.0, 3.0, 2.0)))
    points = [(float(c.get("cx")), float(c.get("cy"))) for c in picture.iter(f"{SVG}circle")]
    (x1, y1), (x2, y2), (x3, y3) = points
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.11) and x1 < x2
    assert y2 - y1 == pytest.approx(y3 - y2, abs=0.11) and y1 < y2  # down the page
    labels = {
        text.text: float(text.get("y")) for text in picture.iter(f"{SVG}text") if text.get("text-anchor") == "end"
    }
    assert labels["4"] == pytest.approx(y1 + 4, abs=0.11) and labels["2"] == pytest.approx(y3 + 4, abs=0.11)


def test_a_long_history_is_thinned_and_ends_where_it_ended():
    history = steps(*(5 / (i + 1) for i in range(5_000)))
    drawn = ElementTree.fromstring(loss_picture(history)).find(f"{SVG}polyline").get("points").split()
    assert len(drawn) <= MAX_POINTS
    assert [step.step for step in card._thinned(history, MAX_ROWS)][-1] == 5_000
    assert len(card._thinned(history, MAX_ROWS)) <= MAX_ROWS


@pytest.mark.parametrize(
    "history",
    [
        steps(1.0),
        steps(2.0, 2.0),
        (TrainStep(0, 1.0, 0.1, 1.0, 0.1),),
        steps(1e308, -1e308),
        (TrainStep(10**308, 1e308, 0.1, 1.0, 0.1), TrainStep(-5, -1e308, 0.1, 1.0, 0.1, 3.0)),
    ],
    ids=["one step", "always the same", "nothing measured", "far apart", "as a stranger may say"],
)
def test_any_history_has_a_picture_and_a_card(history, tiny_checkpoint):
    ElementTree.fromstring(loss_picture(history))
    rendered(model_card(replace(tiny_checkpoint, history=history, val_loss=1e308), "Qwen3ForCausalLM"))


def test_examples_in_docstrings():
    assert doctest.testmod(card).failed == 0
