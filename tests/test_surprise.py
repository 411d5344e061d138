"""The surprise of every token against a loop over them, and hard passages against one that tries all places."""

import doctest
import math

import numpy as np
import pytest
import torch
from handmade import checkpoint_with_logits
from hypothesis import given
from hypothesis import strategies as st
from test_evaluation import BLOCK, CHARS, TEXT, make_checkpoint, plain_probs, with_each_tokenizer

from playground import surprise
from playground.evaluation import evaluate
from playground.surprise import most_surprising, surprises
from playground.tokenizer import CharTokenizer


def test_the_examples_are_true():
    results = doctest.testmod(surprise)
    assert results.attempted > 0 and results.failed == 0


@with_each_tokenizer
def test_surprises_are_those_of_predicting_one_token_at_a_time(tokenizer):
    checkpoint, ids = make_checkpoint(tokenizer), tokenizer.encode(TEXT)
    found = surprises(checkpoint, ids)
    assert found.top_ids.shape == found.top_probs.shape == (len(ids), 5)
    for t, probs in enumerate(plain_probs(checkpoint.model, ids), start=1):
        order = sorted(range(len(probs)), key=probs.__getitem__, reverse=True)
        assert found.loss[t] == pytest.approx(-math.log(probs[ids[t]]), rel=1e-4, abs=1e-5)
        assert np.exp(-found.loss[t]) == pytest.approx(probs[ids[t]], rel=1e-4)
        assert found.rank[t] == order.index(ids[t]) + 1
        assert found.top_ids[t].tolist() == order[:5]
        assert found.top_probs[t].tolist() == pytest.approx([probs[id] for id in order[:5]], rel=1e-4)


def test_the_first_token_is_not_predicted():
    found = surprises(make_checkpoint(), CHARS.encode("to"))
    assert np.isnan([found.loss[0], *found.top_probs[0]]).all()
    assert found.rank[0] == 0 and not found.top_ids[0].any()
    assert len(surprises(make_checkpoint(), []).loss) == 0


def test_surprises_worked_out_by_hand():
    # a, b and the unknown one have the probabilities 1/2, 3/8 and 1/8.
    checkpoint = checkpoint_with_logits(np.log([4, 3, 1]).tolist(), CharTokenizer.train("ab"))
    found = surprises(checkpoint, [0, 1, 2, 0])
    assert found.rank.tolist() == [0, 2, 3, 1]
    assert np.exp(-found.loss[1:]).tolist() == pytest.approx([3 / 8, 1 / 8, 1 / 2])
    assert found.loss[1:].tolist() == pytest.approx([math.log(8 / 3), math.log(8), math.log(2)])
    assert found.top_ids[1:].tolist() == [[0, 1, 2]] * 3  # no more than the vocabulary has
    assert found.top_probs[3].tolist() == pytest.approx([1 / 2, 3 / 8, 1 / 8])


def test_an_evaluation_is_the_mean_of_the_surprises():
    checkpoint = make_checkpoint()
    found, figures = surprises(checkpoint, CHARS.encode(TEXT)), evaluate(checkpoint, TEXT)
    assert np.nanmean(found.loss) == pytest.approx(figures.loss, rel=1e-5)
    assert (found.rank[1:] == 1).mean() == figures.accuracy
    assert (found.rank[1:] <= 5).mean() == figures.top5_accuracy


def test_a_passage_that_begins_with_a_window_is_as_surprising_alone():
    checkpoint, ids = make_checkpoint(), CHARS.encode(TEXT)
    whole, part = surprises(checkpoint, ids).loss, surprises(checkpoint, ids[3 * BLOCK : 6 * BLOCK]).loss
    np.testing.assert_allclose(part[1:], whole[3 * BLOCK + 1 : 6 * BLOCK], rtol=1e-4, atol=1e-5)


# --- Passages ---------------------------------------------------------------------------------------------------------

whole_or_unknown = st.integers(0, 9).map(float) | st.just(math.nan)  # sums of whole numbers are exact


@given(st.lists(whole_or_unknown, max_size=40), st.integers(1, 8), st.integers(0, 6))
def test_the_most_surprising_passages_are_those_that_trying_all_places_finds(losses, length, n):
    free, expected = set(range(len(losses))), []
    while len(expected) < n:
        fitting = [
            (sum(losses[i : i + length]), -i)
            for i in range(len(losses) - length + 1)
            if free.issuperset(range(i, i + length)) and not any(map(math.isnan, losses[i : i + length]))
        ]
        if not fitting:
            break
        start = -max(fitting)[1]
        expected.append(start)
        free -= set(range(start, start + length))
    assert most_surprising(np.array(losses), length, n) == expected


def test_the_least_surprising_passages_are_the_most_surprising_of_the_negative():
    losses = np.array([math.nan, 4.0, 1.0, 1.0, 7.0, 7.0, 0.0, 3.0])
    assert most_surprising(losses, 2, 2) == [4, 1]
    assert most_surprising(-losses, 2, 2) == [2, 6]


def test_passages_of_a_long_text_are_found_by_their_means():
    """A million tokens: sums that run over all of them stay exact enough to tell two passages apart."""
    losses = torch.rand(1_000_000, generator=torch.Generator().manual_seed(0)).numpy()
    losses[123_456:123_476] = 3.0
    losses[999_980:] = 3.0001
    assert most_surprising(losses, 20, 2) == [999_980, 123_456]
