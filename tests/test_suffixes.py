"""The order of suffixes and all that is found by it, against plain Python that looks at every place of the text."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground import suffixes as suffixes_module
from playground.suffixes import SuffixArray

settings.register_profile("no deadline", deadline=None)  # a busy machine is no defect
settings.load_profile("no deadline")

small_texts = st.integers(1, 4).flatmap(lambda n_ids: st.lists(st.integers(0, n_ids - 1), max_size=40))


def as_ids(ids: list[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int64)


def letters(text: str) -> np.ndarray:
    return as_ids([ord(letter) for letter in text])


def plain_order(ids: list[int]) -> list[int]:
    return sorted(range(len(ids) + 1), key=lambda place: ids[place:])


def plain_places(ids: list[int], passage: list[int]) -> list[int]:
    return [place for place in range(len(ids) - len(passage) + 1) if ids[place : place + len(passage)] == passage]


def plain_longest(ids: list[int], query: list[int]) -> int:
    return max(k for k in range(len(query) + 1) if plain_places(ids, query[:k]))


def test_the_example_is_true():
    results = doctest.testmod(suffixes_module)
    assert results.attempted > 0 and results.failed == 0


# --- The order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, suffixes_module.CHUNK])
@given(ids=small_texts)
def test_suffixes_stand_in_order(chunk, ids):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suffixes_module, "CHUNK", chunk)
        suffixes = SuffixArray(as_ids(ids))
    assert suffixes.order.tolist() == plain_order(ids)
    assert suffixes.order.dtype == np.int32


@pytest.mark.parametrize("chunk", [100, suffixes_module.CHUNK])
@pytest.mark.parametrize("n_ids", [2, 65, 256, 60_000, 2**31 - 1], ids=lambda n_ids: f"{n_ids} ids")
def test_a_text_with_long_repeats_in_any_vocabulary(n_ids, chunk, monkeypatch):
    monkeypatch.setattr(suffixes_module, "CHUNK", chunk)
    text = np.random.default_rng(0).integers(0, n_ids, 900)
    text = np.concatenate([text, text[200:500], text[:300], text[600:], text[200:500]])
    assert SuffixArray(text).order.tolist() == plain_order(text.tolist())


@pytest.mark.parametrize("period", [[0], [5], [0, 1], [3, 1, 2], [0, 0, 1]])
def test_a_text_that_only_repeats_itself(period):
    ids = (period * 1_500)[:1_500]
    assert SuffixArray(as_ids(ids)).order.tolist() == plain_order(ids)


def test_a_million_times_the_same_id():
    n = 1_000_000
    suffixes = SuffixArray(np.zeros(n, dtype=np.int64))
    assert (suffixes.order == np.arange(n, -1, -1)).all()  # the shorter one first


@pytest.mark.parametrize(("ids", "order"), [([], [0]), ([0], [1, 0]), ([7], [1, 0])])
def test_hardly_any_text(ids, order):
    assert SuffixArray(as_ids(ids)).order.tolist() == order


# --- What is found by it ----------------------------------------------------------------------------------------------


@given(ids=small_texts, query=small_texts)
def test_an_interval_holds_all_places_of_a_passage(ids, query):
    suffixes, most = SuffixArray(as_ids(ids)), 4
    intervals = suffixes.intervals(as_ids(query), most)
    assert intervals.shape == (len(query), most + 1, 2)
    for s in range(len(query)):
        for k in range(most + 1):
            lo, hi = intervals[s, k]
            expected = plain_places(ids, query[s : s + k]) if s + k <= len(query) else []
            assert sorted(suffixes.order[lo:hi].tolist()) == expected


@given(ids=small_texts, depth=st.integers(0, 3), token=st.integers(0, 4))
def test_an_interval_is_narrowed_by_the_next_id(ids, depth, token):
    suffixes = SuffixArray(as_ids(ids))
    for start in range(len(ids) - depth + 1):
        shared = ids[start : start + depth]
        slots = [slot for slot, place in enumerate(suffixes.order) if ids[place : place + depth] == shared]
        lo, hi = suffixes.narrow(as_ids([slots[0]]), as_ids([slots[-1] + 1]), depth, as_ids([token]))
        assert sorted(suffixes.order[lo[0] : hi[0]].tolist()) == plain_places(ids, [*shared, token])


@given(ids=small_texts, query=small_texts)
def test_the_longest_passage_from_every_start(ids, query):
    lengths, places = SuffixArray(as_ids(ids)).longest(as_ids(query))
    assert lengths.tolist() == [plain_longest(ids, query[start:]) for start in range(len(query))]
    for start, (length, place) in enumerate(zip(lengths.tolist(), places.tolist(), strict=True)):
        assert ids[place : place + length] == query[start : start + length]


@pytest.mark.parametrize("length", [31, 32, 33, 64, 65, 500])
def test_long_passages_are_followed_to_their_end(length):
    text = np.random.default_rng(0).integers(0, 20, 5_000)
    query = np.concatenate([[99], text[700 : 700 + length], [99]])
    lengths, places = SuffixArray(text).longest(query)
    assert lengths.tolist() == [0, *range(length, 0, -1), 0]
    assert places[1] == 700


def test_a_query_that_is_the_text_stands_in_it_to_the_end():
    text = letters("the cat sat on the mat")
    lengths, places = SuffixArray(text).longest(text)
    assert lengths.tolist() == list(range(len(text), 0, -1))
    assert (places[0], places[8]) == (0, 8)


def test_where_a_passage_stands():
    suffixes = SuffixArray(letters("the cat sat on the mat"))
    lengths, places = suffixes.longest(letters("on the cat"))
    assert (lengths[0], places[0]) == (7, 12)  # "on the "
    assert (lengths[3], places[3]) == (7, 0)  # "the cat"


def test_nothing_is_found_in_an_empty_text():
    suffixes, query = SuffixArray(as_ids([])), letters("ab")
    assert suffixes.longest(query)[0].tolist() == [0, 0]
    widths = np.diff(suffixes.intervals(query, 2), axis=2)[:, :, 0]
    assert widths.tolist() == [[1, 0, 0], [1, 0, 0]]  # the empty passage stands at the end, which is the beginning


def test_an_empty_query():
    suffixes = SuffixArray(letters("ab"))
    assert suffixes.intervals(as_ids([]), 3).shape == (0, 4, 2)
    assert [found.tolist() for found in suffixes.longest(as_ids([]))] == [[], []]
