"""Losses against a dictionary that counts every context anew, probabilities worked out by hand, and sums to 1."""

import doctest
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground import ngrams as ngrams_module
from playground.ngrams import NAMES, NGrams
from playground.suffixes import SuffixArray

settings.register_profile("no deadline", deadline=None)  # a busy machine is no defect
settings.load_profile("no deadline")

V = 4
BEFORE = {"unigram": 0, "bigram": 1, "trigram": 2, "5-gram": 4}

small_texts = st.integers(1, V).flatmap(lambda n_ids: st.lists(st.integers(0, n_ids - 1), max_size=60))


def as_ids(ids: list[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int64)


def losses(train: list[int], ids: list[int], vocab_size: int = V) -> dict[str, list[float]]:
    rows = NGrams(SuffixArray(as_ids(train)), vocab_size).losses(as_ids(ids))
    return dict(zip(NAMES, rows.tolist(), strict=True))


def plain_probability(train: list[int], context: list[int], id: int, vocab_size: int = V) -> Fraction:
    """Witten and Bell's estimate, every count taken anew and no number rounded."""
    shorter = plain_probability(train, context[1:], id, vocab_size) if context else Fraction(1, vocab_size)
    k = len(context)
    after = Counter(train[i + k] for i in range(len(train) - k) if train[i : i + k] == context)
    if not after:
        return shorter
    return (after[id] + len(after) * shorter) / (after.total() + len(after))


def nats(*probabilities: Fraction) -> list[float]:
    return pytest.approx([-math.log(p) for p in probabilities])


def test_the_example_is_true():
    results = doctest.testmod(ngrams_module)
    assert results.attempted > 0 and results.failed == 0


@given(train=small_texts, ids=small_texts)
def test_losses_are_those_of_counting_in_a_dictionary(train, ids):
    found = losses(train, ids)
    assert found["uniform"] == [math.log(V)] * max(0, len(ids) - 1)
    for name, k in BEFORE.items():
        contexts = [ids[max(0, t - k) : t] for t in range(1, len(ids))]
        expected = [plain_probability(train, h, id) for h, id in zip(contexts, ids[1:], strict=True)]
        assert found[name] == nats(*expected)


def test_a_longer_text_in_which_every_length_of_context_recurs():
    train = np.random.default_rng(0).integers(0, V, 3_000).tolist()
    ids = np.random.default_rng(1).integers(0, V, 40).tolist()
    expected = [plain_probability(train, ids[max(0, t - 4) : t], ids[t]) for t in range(1, len(ids))]
    assert losses(train, ids)["5-gram"] == nats(*expected)


@pytest.mark.parametrize("train", [[], [0], [0, 1, 2, 1, 0, 1, 2, 2, 0, 1, 2], [0, 0, 0, 0, 0, 0], [1, 2] * 9])
@pytest.mark.parametrize("context", [[0], [3], [0, 1], [1, 2, 2], [2, 0, 1, 2], [0, 0, 0, 0, 0]])
def test_probabilities_sum_to_one(train, context):
    p = {name: [math.exp(-losses(train, [*context, id], 6)[name][-1]) for id in range(6)] for name in NAMES}
    assert [sum(p[name]) for name in NAMES] == pytest.approx([1] * len(NAMES))


def test_probabilities_worked_out_by_hand():
    # The text is "abac": 4 ids of 3 kinds, so that p(a) = (2 + 3/3) / (4 + 3), and p(b) = p(c) = (1 + 3/3) / 7.
    a, b, c, d = range(4)
    p_a, p_c = Fraction(3, 7), Fraction(2, 7)
    # After b comes one a: p(a|b) = (1 + 1 p(a)) / (1 + 1).
    a_after_b = Fraction(5, 7)
    # After a come b and c, of 2 kinds: p(c|a) = (1 + 2 p(c)) / (2 + 2).
    c_after_a = Fraction(11, 28)
    # After ba comes one c: p(c|ba) = (1 + 1 p(c|a)) / (1 + 1).
    c_after_ba = Fraction(39, 56)
    # The text ends with c, so that nothing follows it: p(a|c) = p(a), and the same after ac and bac.
    found = losses([a, b, a, c], [b, a, c, a], vocab_size=3)
    assert found["uniform"] == nats(*[Fraction(1, 3)] * 3)
    assert found["unigram"] == nats(p_a, p_c, p_a)
    assert found["bigram"] == nats(a_after_b, c_after_a, p_a)
    assert found["trigram"] == found["5-gram"] == nats(a_after_b, c_after_ba, p_a)
    # An id of the vocabulary that is not in the text: p(d) = (0 + 3/4) / (4 + 3), and p(d|a) = (0 + 2 p(d)) / (2 + 2).
    assert losses([a, b, a, c], [a, d])["bigram"] == nats(Fraction(3, 28) / 2)


def test_a_text_learnt_by_heart_is_hardly_a_surprise_and_one_never_seen_is():
    train = np.random.default_rng(0).integers(0, 1_000, 5_000).tolist()
    known, strange = losses(train, train[2_000:2_500], 1_000), losses(train, train[::-1][:500], 1_000)
    assert np.mean(known["5-gram"]) < np.mean(known["trigram"]) < np.mean(known["bigram"]) < math.log(1_000)
    assert np.mean(strange["5-gram"]) > math.log(1_000)


@pytest.mark.parametrize("n_ids", [0, 1, 2, 3])
def test_the_first_id_is_not_predicted(n_ids):
    found = losses([0, 1, 2], [0] * n_ids)
    assert {len(row) for row in found.values()} == {max(0, n_ids - 1)}
