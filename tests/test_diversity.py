"""Variety against plain counting, and figures worked out by hand."""

import doctest
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground import diversity as diversity_module
from playground.diversity import Diversity, diversity

settings.register_profile("no deadline", deadline=None)  # a busy machine is no defect
settings.load_profile("no deadline")


def plain_diversity(ids: list[int], window: int) -> Diversity:
    grams = {n: [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)] for n in (1, 2, 3, 4)}
    distinct = {n: len(set(grams[n])) / len(grams[n]) for n in grams if grams[n]}
    again = sum(id in ids[max(0, t - window) : t] for t, id in enumerate(ids))
    shares = [count / len(ids) for count in Counter(ids).values()]
    entropy = -sum(share * math.log2(share) for share in shares)
    return Diversity(distinct, again / max(1, len(ids)), pytest.approx(entropy))


def test_the_example_is_true():
    results = doctest.testmod(diversity_module)
    assert results.attempted > 0 and results.failed == 0


@pytest.mark.parametrize("window", [1, 5, 128])
@given(ids=st.lists(st.integers(0, 6), max_size=50))
def test_diversity_is_that_of_plain_counting(window, ids):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity_module, "WINDOW", window)
        assert diversity(np.array(ids, dtype=np.int64)) == plain_diversity(ids, window)


@pytest.mark.parametrize(("gap", "repeated"), [(127, 1 / 128), (128, 1 / 129), (129, 0)])
def test_an_id_is_repeated_if_it_was_among_the_128_before(gap, repeated):
    ids = np.append(np.arange(gap), 0)
    assert diversity(ids).repeated == repeated


def test_figures_worked_out_by_hand():
    # a a b a a c: the pairs aa ab ba aa ac, the triples aab aba baa aac. Three times a came before.
    found = diversity(np.array([0, 0, 1, 0, 0, 2]))
    assert found.distinct == {1: 3 / 6, 2: 4 / 5, 3: 4 / 4, 4: 3 / 3}
    assert found.repeated == 3 / 6
    # a has 4/6 of the ids, and b and c 1/6 each.
    assert found.entropy == pytest.approx(4 / 6 * math.log2(6 / 4) + 2 / 6 * math.log2(6))


def test_one_id_for_ever_has_no_variety():
    found = diversity(np.zeros(1_000, dtype=np.int64))
    assert found == Diversity({1: 1 / 1_000, 2: 1 / 999, 3: 1 / 998, 4: 1 / 997}, 999 / 1_000, 0)


def test_ids_that_are_all_different_have_the_most():
    assert diversity(np.arange(256)) == Diversity({1: 1, 2: 1, 3: 1, 4: 1}, 0, 8)


@pytest.mark.parametrize(("n_ids", "sizes"), [(0, []), (1, [1]), (3, [1, 2, 3])])
def test_a_sample_too_short_for_some_sizes(n_ids, sizes):
    found = diversity(np.arange(n_ids))
    assert list(found.distinct) == sizes
    assert (found.repeated, found.entropy) == (0, pytest.approx(math.log2(max(1, n_ids))))
