"""Figures show the numbers of the inspection, and text as text."""

import io
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from playground.figures import attention_figure, to_bytes
from playground.inspection import Inspection
from playground.tokenizer import Token


@pytest.fixture
def inspection():
    texts = ["a", "$x", "<b>", "\n"]
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
    assert labels == ["a", "$x", "<b>", "↵"]
    svg = ElementTree.fromstring(to_bytes(figure, "svg"))
    assert not [node for node in svg.iter() if node.tag.endswith("script")]


def test_png_can_be_read_again(inspection):
    data = to_bytes(attention_figure(inspection, 0, 0, "caption"), "png")
    picture = matplotlib.image.imread(io.BytesIO(data), format="png")
    assert picture.shape[0] > 400
    assert picture.std() > 0.01  # something is drawn
