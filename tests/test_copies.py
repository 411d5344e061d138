"""Planted passages are found where they were planted, and all others as by a search through the whole text."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground import copies as copies_module
from playground.copies import SIZES, Span, copying
from playground.suffixes import SuffixArray

settings.register_profile("no deadline", deadline=None)  # a busy machine is no defect
settings.load_profile("no deadline")

small_texts = st.integers(1, 4).flatmap(lambda n_ids: st.lists(st.integers(0, n_ids - 1), max_size=30))
TRAIN = np.random.default_rng(0).integers(0, 1_000, 5_000)
SUFFIXES = SuffixArray(TRAIN)
STRANGE = 1_000  # an id that the text does not have


def strange(n: int) -> np.ndarray:
    return np.full(n, STRANGE)


def stands_in(passage: list[int], ids: list[int]) -> bool:
    return any(ids[place : place + len(passage)] == passage for place in range(len(ids) - len(passage) + 1))


def plain_spans(train: list[int], ids: list[int], at_least: int) -> list[tuple[int, int]]:
    """All copied passages that are in no longer one."""
    starts_and_ends = [(start, end) for start in range(len(ids)) for end in range(start + at_least, len(ids) + 1)]
    copied = [(start, end) for start, end in starts_and_ends if stands_in(ids[start:end], train)]
    return [a for a in copied if not any(b != a and b[0] <= a[0] and a[1] <= b[1] for b in copied)]


def test_the_example_is_true():
    results = doctest.testmod(copies_module)
    assert results.attempted > 0 and results.failed == 0


@given(train=small_texts, ids=small_texts, at_least=st.integers(1, 5))
def test_copying_is_that_of_a_search_through_the_whole_text(train, ids, at_least):
    suffixes, sample = SuffixArray(np.array(train, dtype=np.int64)), np.array(ids, dtype=np.int64)
    found = copying(suffixes, sample, at_least)
    expected = plain_spans(train, ids, at_least)
    assert [(span.start, span.end) for span in found.spans] == expected
    assert all(train[span.where :][: span.end - span.start] == ids[span.start : span.end] for span in found.spans)
    covered = {place for start, end in expected for place in range(start, end)}
    assert np.flatnonzero(found.copied).tolist() == sorted(covered)
    assert found.share == (len(covered) / len(ids) if ids else 0)
    assert found.longest == max((end - start for start, end in plain_spans(train, ids, 1)), default=0)
    for n in SIZES:
        grams = [ids[start : start + n] for start in range(len(ids) - n + 1)]
        new = [not stands_in(gram, train) for gram in grams]
        assert found.novelty.get(n) == (pytest.approx(sum(new) / len(new)) if new else None)


def test_planted_passages_are_found_to_the_id():
    sample = np.concatenate([strange(3), TRAIN[700:720], strange(5), TRAIN[4_990:], TRAIN[:12], strange(1)])
    found = copying(SUFFIXES, sample, at_least=10)
    assert found.spans == [Span(3, 23, 700), Span(28, 38, 4_990), Span(38, 50, 0)]
    assert found.share == pytest.approx(42 / 51)
    assert found.longest == 20
    assert found.novelty[1] == pytest.approx(9 / 51)
    assert found.novelty[20] == pytest.approx(31 / 32)  # all but the first passage
    assert 50 in found.novelty and found.novelty[30] == found.novelty[50] == 1


@pytest.mark.parametrize(("at_least", "n_found"), [(19, 1), (20, 1), (21, 0)])
def test_a_span_has_at_least_so_many_ids(at_least, n_found):
    sample = np.concatenate([strange(2), TRAIN[100:120], strange(2)])
    found = copying(SUFFIXES, sample, at_least)
    assert len(found.spans) == n_found
    assert found.longest == 20
    assert found.share == pytest.approx(n_found * 20 / 24)


def test_spans_may_overlap_and_no_id_counts_twice():
    suffixes = SuffixArray(np.array([1, 2, 3, 4, 0, 3, 4, 5, 6]))
    found = copying(suffixes, np.array([1, 2, 3, 4, 5, 6]), at_least=3)
    assert found.spans == [Span(0, 4, 0), Span(2, 6, 5)]
    assert found.share == 1


def test_shuffled_words_are_not_copied():
    found = copying(SUFFIXES, np.random.default_rng(1).permutation(TRAIN)[:500], at_least=4)
    assert (found.spans, found.share) == ([], 0)
    assert found.novelty[1] == 0  # words of the text
    assert found.novelty[4] == found.novelty[50] == 1


def test_the_training_text_itself_is_one_copy():
    found = copying(SUFFIXES, TRAIN[1_000:1_500], at_least=20)
    assert (found.spans, found.share, found.longest) == ([Span(0, 500, 1_000)], 1, 500)
    assert set(found.novelty.values()) == {0}


def test_an_empty_sample():
    found = copying(SUFFIXES, TRAIN[:0], at_least=20)
    assert (found.spans, found.share, found.longest, found.novelty) == ([], 0, 0, {})
