"""Figures show the numbers of the inspection, and text as text."""

import io
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
import torch
from handmade import random_checkpoint
from matplotlib.text import Text

from playground.checkpoint import Beginning, TrainStep
from playground.comparison import Compared
from playground.config import ModelConfig
from playground.corpus import References
from playground.embeddings import TokenMap, positions
from playground.evaluation import evaluate
from playground.figures import (
    attention_figure,
    comparison_figure,
    evaluation_figure,
    lens_figure,
    life_figure,
    loss_figure,
    mask_figure,
    merges_figure,
    next_token_figure,
    passage_figure,
    positions_figure,
    rises_figure,
    scores_figure,
    stages_figure,
    to_bytes,
    token_map_figure,
)
from playground.inspection import Inspection, head_stages, logit_lens
from playground.life import begin_life, look
from playground.merging import Replay
from playground.model import GPT, Trace
from playground.tokenizer import CharTokenizer, Token


@pytest.fixture
def inspection():
    texts = ["a", "$\\frac{$", "<b>", "\n"]
    T = len(texts)
    weights = np.tril(np.random.default_rng(0).random((2, 3, T, T), dtype=np.float32))
    weights /= weights.sum(-1, keepdims=True)
    tokens = [Token(i, text, "known") for i, text in enumerate(texts)]
    return Inspection(tokens, 0, weights, np.zeros((T, 5), np.float32))


@pytest.mark.parametrize(("layer", "head"), [(1, 2), (0, None), (None, None)])
def test_the_picture_holds_the_weights_of_the_head_or_their_average(inspection, layer, head):
    weights = inspection.attention
    expected = {
        (1, 2): weights[1, 2],
        (0, None): (weights[0, 0] + weights[0, 1] + weights[0, 2]) / 3,
        (None, None): sum(weights[i, j] for i in range(2) for j in range(3)) / 6,
    }[layer, head]
    drawn = attention_figure(inspection, layer, head, "caption").axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn.filled(0), expected, atol=1e-6)
    assert np.array_equal(drawn.mask, np.triu(np.ones((4, 4), bool), 1))  # the future is not drawn


def test_names_and_tokens_are_text_not_formulas(inspection):
    figure = attention_figure(inspection, 0, 0, r"$\frac{$ <script>")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["a", "$\\frac{$", "<b>", "↵"]
    svg = ElementTree.fromstring(to_bytes(figure, "svg"))
    assert not [node for node in svg.iter() if node.tag.endswith("script")]


def test_png_can_be_read_again(inspection):
    data = to_bytes(attention_figure(inspection, 0, 0, "caption"), "png")
    picture = matplotlib.image.imread(io.BytesIO(data), format="png")
    assert picture.shape[0] > 400
    assert picture.std() > 0.01  # something is drawn


def texts_of(figure) -> str:
    """All that an SVG of it says."""
    return "".join(text.get_text() for text in figure.findobj(Text))


def test_the_mask_is_drawn_beside_what_is_seen_without_it(inspection):
    unmasked = np.random.default_rng(1).random((2, 3, 4, 4), dtype=np.float32)
    figure = mask_figure(inspection, unmasked, 1, None, "Verses, step 3, “$x”")
    before, after = (axes.images[0].get_array() for axes in figure.axes[:2])
    np.testing.assert_allclose(np.ma.filled(before, 0), inspection.attention[1].mean(0), atol=1e-6)
    np.testing.assert_allclose(after, unmasked[1].mean(0), atol=1e-6)
    assert not np.ma.is_masked(after) and np.array_equal(before.mask, np.triu(np.ones((4, 4), bool), 1))
    assert "Verses, step 3, “$x”" in texts_of(figure)


def test_all_heads_of_a_snapshot_are_drawn_with_their_badges():
    config = ModelConfig(vocab_size=9, block_size=32, n_layer=2, n_head=3, n_embd=12)
    model = GPT(config, torch.Generator().manual_seed(0))
    life = look(begin_life(config, [1, 2, 3, 4, 5], []), model, 7)
    figure = life_figure(life, 0, "caption")
    trace = Trace(("attention",))
    model(torch.tensor([[1, 2, 3, 4, 5]]), trace)
    weights = torch.cat(trace.attention).detach().numpy()
    drawn = figure.axes[0].images[0].get_array()
    for i, (layer, head) in enumerate(np.ndindex(2, 3)):
        tile = drawn[7 * layer : 7 * layer + 5, 7 * head : 7 * head + 5]
        np.testing.assert_allclose(tile.filled(0), np.sqrt(weights[layer, head]), atol=1 / 255)
        assert np.array_equal(tile.mask, np.triu(np.ones((5, 5), bool), 1))
        assert figure.axes[0].texts[i].get_text() == life.head_scores(0).badge(layer, head)
    assert "caption" in texts_of(figure)


def test_the_scores_of_all_heads_are_drawn_and_one_stands_out():
    config = ModelConfig(vocab_size=40, block_size=32, n_layer=2, n_head=3, n_embd=12)
    life = begin_life(config, [1, 2, 3], [])
    for step in range(3):
        life = look(life, GPT(config, torch.Generator().manual_seed(step)), 10 * step)
    axes = scores_figure(life, "first", 1, 2, "Verses, $x").axes[0]
    *all_heads, chosen, clear = axes.lines
    for line, (layer, head) in zip([*all_heads, chosen], [*np.ndindex(2, 3), (1, 2)], strict=True):
        expected = [[10 * i, life.head_scores(i).first[layer, head]] for i in range(3)]
        np.testing.assert_allclose(line.get_xydata(), expected, rtol=1e-6)
    assert clear.get_ydata()[0] == 0.4
    assert "Layer 2, head 3" in texts_of(axes.figure) and "Verses, $x" in texts_of(axes.figure)
    to_bytes(axes.figure, "svg")


def test_a_passage_is_drawn_letter_by_letter_in_the_colours_of_its_losses():
    config = ModelConfig(vocab_size=9, block_size=32, n_layer=1, n_head=1, n_embd=12)
    life = begin_life(config, [1], [1, 2, 3, 4])
    for step in range(5):
        life = look(life, GPT(config, torch.Generator().manual_seed(step)), 10 * step)
    texts = ["To", " $b", "e\n", "x" * 40]
    figure = passage_figure(life, 2, texts, "Verses, $x")
    panels = figure.axes[:3]
    for axes, at in zip(panels, (0, 2, 4), strict=True):
        losses = life.losses[at].tolist()
        expected = np.full((3, 36), np.nan)  # a line ends after 36 letters, and where the text's does
        expected[0, 2:5], expected[0, 5:7] = losses[0], losses[1]
        expected[1], expected[2, :4] = losses[2], losses[2]
        np.testing.assert_allclose(axes.images[0].get_array().filled(np.nan), expected)
        letters = {(round(text.get_position()[1]), round(text.get_position()[0])): text for text in axes.texts}
        assert "".join(letters[0, column].get_text() for column in range(7)) == "To $be↵"
        assert len(letters) == 7 + 40
        assert axes.get_title() == f"step {10 * at}: {np.mean(losses):.3f} nats a token"
    assert "Verses, $x" in texts_of(figure)
    to_bytes(figure, "svg")
    assert len(passage_figure(life, 0, texts, "").axes) == 3  # two panels and the scale
    assert len(passage_figure(life, 0, ["a" * 99_999] * 4, "").axes[0].texts) == 1_500


def test_the_curve_of_the_merges_falls_with_each_and_one_of_them_is_marked():
    seen = Replay("aaa", np.array([1, 1]), np.array([4, 2, 1]), n_bytes=10, n_chars=8)
    axes = merges_figure(seen, 2, "Verses, $x").axes[0]
    curve, mark = axes.lines
    assert np.array_equal(curve.get_xydata(), [[0, 10 / 8], [1, 6 / 8], [2, 4 / 8], [3, 3 / 8]])
    assert np.array_equal(mark.get_xydata(), [[2, 4 / 8]])
    assert axes.texts[0].get_text() == "after 2 merges: 4 tokens, 0.500 per character"
    assert "Verses, $x" in axes.get_title()


def test_the_curves_are_those_of_the_history():
    history = [TrainStep(i, 3 / i, 0.1, 1.0, float(i), 4 / i if i % 2 else None) for i in range(1, 8)]
    figure = loss_figure(history, References(2.0, 1.5, 1.0, 10), "caption")
    training, validation, *lines = figure.axes[0].lines
    assert np.array_equal(training.get_xydata(), [[i, 3 / i] for i in range(1, 8)])
    assert np.array_equal(validation.get_xydata(), [[i, 4 / i] for i in (1, 3, 5, 7)])
    assert [line.get_ydata()[0] for line in lines] == [2.0, 1.5, 1.0]
    assert len(loss_figure(history, None, "caption").axes[0].lines) == 2


def test_a_fine_tunings_curves_begin_before_its_first_step():
    history = [TrainStep(i, 3 / i, 0.1, 1.0, float(i), *((4 / i, "", i / 2) if i % 2 else ())) for i in range(1, 8)]
    tuned = loss_figure(history, None, "caption", Beginning(5.0, "", 0.25, "$x_verses.txt"))
    _, validation, first = tuned.axes[0].lines
    assert np.array_equal(validation.get_xydata(), [[0, 5.0], *([i, 4 / i] for i in (1, 3, 5, 7))])
    assert np.array_equal(first.get_xydata(), [[0, 0.25], *([i, i / 2] for i in (1, 3, 5, 7))])
    names = [text.get_text() for text in tuned.axes[0].get_legend().get_texts()]
    assert names == ["training", "validation, new text", "validation, earlier text: $x_verses.txt"]
    to_bytes(tuned, "svg")
    endless = loss_figure(history, None, "caption", Beginning(5.0, "", 0.25, "long" * 25_000))
    assert len(endless.axes[0].get_legend().get_texts()[-1].get_text()) < 120
    unknown = loss_figure(history, None, "caption", Beginning(5.0, "", None, None))
    assert len(unknown.axes[0].lines) == 2


def test_runs_are_drawn_in_bits_if_all_know_them_and_the_reference_is_thicker():
    def run(name: str, bits_per_nat: float | None, n_unknown: int = 0) -> Compared:
        steps = [TrainStep(i, 3.0, 0.1, 1.0, i / 4, 4 / i) for i in (1, 2, 4)]
        unknown = n_unknown, n_unknown / 8
        losses = 1.0, 4, 8, None, None, None, bits_per_nat
        return Compared("id", name, "finished", {}, 9, 4, 32, 1.0, *losses, *unknown, "", steps, steps)

    runs = {1: run("Verses", 0.5), 8: run("$\\frac{$ " * 9, 2.0)}
    told = {1: "4 layers", 2: "same settings", 8: "reference"}
    axes = comparison_figure(runs, told, 8, "tokens", "tokens seen").axes[0]
    for line, unit in zip(axes.lines, (0.5, 2.0), strict=True):
        assert np.array_equal(line.get_xydata(), [[32 * i, unit * 4 / i] for i in (1, 2, 4)])
    assert [line.get_linewidth() for line in axes.lines] == [1.4, 3.0]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()  # they have the first colours of two rounds
    assert [text.get_text() for text in axes.texts] == ["1", "8"]
    assert "bits per character" in axes.get_ylabel() and axes.get_xlabel() == "tokens seen"
    assert "1  Verses · 4 layers" in texts_of(axes.figure) and "8  $\\frac{$" in texts_of(axes.figure)
    to_bytes(axes.figure, "svg")
    axes = comparison_figure({1: runs[1], 2: run("Older", None)}, told, None, "seconds", "seconds").axes[0]
    assert np.array_equal(axes.lines[0].get_xydata(), [[i / 4, 4 / i] for i in (1, 2, 4)])
    assert "nats per token" in axes.get_ylabel()

    # What is too low because tokens are unknown looks like no other run, and says why.
    axes = comparison_figure({1: runs[1], 2: run("Odd", 0.5, 2), 8: runs[8]}, told, 1, "step", "steps").axes[0]
    true, bound, seventh = axes.lines
    assert bound.get_linestyle() not in (true.get_linestyle(), seventh.get_linestyle()) and bound.get_alpha() < 1
    assert "lower bound, 25.0 % of tokens unknown" in texts_of(axes.figure).replace("\n", " ")


def test_tokens_stand_at_their_places():
    points = np.random.default_rng(0).random((5, 2), dtype=np.float32)
    figure = token_map_figure(
        TokenMap(points, np.array([0.5, 0.25])), ["a", "$", "<b>", "\n", "e"], [3, 1, 3], "caption"
    )
    axes = figure.axes[0]
    assert np.array_equal(axes.collections[0].get_offsets(), points)
    assert [(text.get_text(), *text.xy) for text in axes.texts] == [
        (shown, *point) for shown, point in zip(["a", "$", "<b>", "↵", "e"], points.tolist(), strict=True)
    ]
    assert [text.get_bbox_patch() is not None for text in axes.texts] == [False, True, False, True, False]
    assert axes.get_xlabel() == "1st component: 50.0 % of the variance"
    to_bytes(figure, "svg")


@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_positions_are_drawn_beside_their_likeness(position):
    places = positions(random_checkpoint(CharTokenizer.train("abc"), position=position))
    table, likeness = (axes.images[0].get_array() for axes in positions_figure(places, "caption").axes[:2])
    expected = np.cos(places.angles) if position == "rotary" else places.vectors
    np.testing.assert_allclose(table, expected)
    np.testing.assert_allclose(likeness, places.similarity)


def test_the_stages_of_a_head_are_drawn_as_they_are():
    stages = head_stages(random_checkpoint(CharTokenizer.train("abc")), [0, 1, 2], 0, 0)
    figure = stages_figure(stages, ["a", "$x", "<b>"], "caption " * 30)
    drawn = [axes.images[0].get_array() for axes in figure.axes]
    future = np.triu(np.ones((3, 3), bool), 1)
    for place, table in ((0, stages.query), (1, stages.key), (4, stages.value), (5, stages.output)):
        np.testing.assert_array_equal(drawn[place], table)
    for place, table in ((2, stages.scaled), (3, stages.weights)):
        np.testing.assert_array_equal(drawn[place][~future], table[~future])
        assert np.array_equal(drawn[place].mask, future)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "$x", "<b>"]
    to_bytes(figure, "svg")


def test_the_lens_is_drawn_place_by_place():
    checkpoint = random_checkpoint(CharTokenizer.train("ab$ "), n_layer=2)
    lens = logit_lens(checkpoint, [0, 1, 2])
    words, added = lens_figure(lens, checkpoint.tokenizer.token_text, "Verses, $x").axes
    np.testing.assert_allclose(words.images[0].get_array(), lens.top_probs)
    assert [bar.get_width() for bar in added.patches] == pytest.approx(lens.length.tolist())
    places = ["Embedding", "Layer 1 attention", "Layer 1 MLP", "Layer 2 attention", "Layer 2 MLP"]
    assert [label.get_text() for label in words.get_yticklabels()] == places
    first = checkpoint.tokenizer.token_text(int(lens.top_ids[0, 0])).replace(" ", "·")
    assert words.texts[0].get_text() == f"{first} {100 * lens.top_probs[0, 0]:.1f} %"
    assert "Verses, $x" in texts_of(words.figure)
    to_bytes(words.figure, "png")


def test_the_rises_of_the_loss_stand_where_their_parts_are():
    rises = np.array([[0.25, -0.01, 4.0], [0.0, 0.125, 1.0]])
    axes = rises_figure(rises, "Verses, $x").axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), np.sign(rises) * np.sqrt(np.abs(rises)))
    told = {text.get_position(): text.get_text() for text in axes.texts}
    assert told == {(j, i): f"{rises[i, j]:+.3f}" for i in range(2) for j in range(3)}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["head 1", "head 2", "MLP"]
    assert "Verses, $x" in texts_of(axes.figure)
    to_bytes(rises_figure(np.zeros((1, 2)), "nothing rises").axes[0].figure, "svg")


def test_bars_are_as_long_as_the_probabilities():
    probs, uncut = np.array([0.7, 0.3, 0.0]), np.array([0.5, 0.3, 0.2])
    axes = next_token_figure(["a", "$\\frac{$", "\n"], probs, uncut, "caption").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [*uncut, *probs]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "$\\frac{$", "↵"]
    to_bytes(axes.figure, "png")


def test_a_model_stands_among_others_beside_its_reliability():
    evaluation = evaluate(random_checkpoint(CharTokenizer.train("abcd")), "abca bcda abcd" * 5)
    figure = evaluation_figure(evaluation, {"gzip": 0.5, "$x$": 9.0}, "Verses on <b>")
    left, right = figure.axes
    bits = [0.5, evaluation.bits_per_char, 9.0]
    assert [label.get_text() for label in left.get_yticklabels()] == ["gzip", "This model", "$x$"]
    assert [bar.get_width() for bar in left.patches] == pytest.approx(bits)
    filled = [bin for bin in evaluation.bins if bin.count]
    assert [bar.get_height() for bar in right.patches] == pytest.approx([bin.accuracy for bin in filled])
    middles = [bar.get_x() + bar.get_width() / 2 for bar in right.patches]
    assert middles == pytest.approx([bin.confidence for bin in filled])
    assert "Verses on <b>" in texts_of(figure) and f"{evaluation.n_tokens} tokens" in texts_of(figure)
    to_bytes(figure, "svg")
