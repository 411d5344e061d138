"""Every place where any passage stands in a text, found by sorting all of the text's suffixes once.

A suffix is all that follows from one place on to the end. Sorted as in a dictionary, suffixes that begin with the same
ids stand side by side, so that all places of a passage are one interval of the order: how wide it is says how often the
passage stands in the text. The intervals of longer and longer passages lie within each other.

Letters in the shape comments: n is the number of ids in the text, T that of a query.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

END = -1  # stands after the last id and is less than all of them
CHUNK = 2**15  # suffixes sorted at a time: few enough for the processor's cache
BLOCK = 32  # ids compared at a time

KeysOf = Callable[[np.ndarray], np.ndarray]


class SuffixArray:
    """A text's suffixes in order (Manber and Myers 1990), the empty one first.

    >>> suffixes = SuffixArray(np.array([1, 0, 2, 0, 2, 0]))  # "banana", its letters numbered in the alphabet's order
    >>> suffixes.order  # "", a, ana, anana, banana, na, nana
    array([6, 5, 3, 1, 0, 4, 2], dtype=int32)
    >>> suffixes.intervals(np.array([0, 2]), most=2)[0]  # of "", "a" and "an"
    array([[0, 7],
           [1, 4],
           [2, 4]])
    >>> suffixes.longest(np.array([2, 0, 1]))  # "na" stands at 4, "a" at 1 and elsewhere, "b" at 0
    (array([2, 1, 1]), array([4, 1, 0]))
    """

    def __init__(self, ids: np.ndarray):
        """Sorts the suffixes of `ids` (n,)."""
        self.text = np.append(ids, END).astype(np.int32)  # (n + 1,)
        self.order = _sorted_suffixes(self.text)  # (n + 1,) int32

    def narrow(self, lo: np.ndarray, hi: np.ndarray, depth: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the suffixes from `lo` to before `hi`, which share their first `depth` ids, those that go on with a token.

        One search for each of the tokens, all at once: (T,) each. Where there is no such suffix, the interval is empty.
        """
        return self._first(lo, hi, depth, tokens), self._first(lo, hi, depth, tokens + 1)

    def _first(self, lo: np.ndarray, hi: np.ndarray, depth: int, tokens: np.ndarray) -> np.ndarray:
        """The first suffix from `lo` to before `hi` whose next id is not less than the token; `hi` if all are."""
        lo, hi = lo.copy(), hi.copy()
        searching = np.flatnonzero(lo < hi)
        while len(searching):
            middle = (lo[searching] + hi[searching]) // 2
            less = self.text[self.order[middle] + depth] < tokens[searching]
            lo[searching[less]], hi[searching[~less]] = middle[less] + 1, middle[~less]
            searching = searching[lo[searching] < hi[searching]]
        return lo

    def intervals(self, ids: np.ndarray, most: int) -> np.ndarray:
        """Of the suffixes that start with ids[s : s + k], for every start s and every length k from 0 to `most`.

        (T, most + 1, 2): from the first to before the last. Empty where the passage is nowhere in the text, and where
        it would run past the end of `ids`.
        """
        found = np.zeros((len(ids), most + 1, 2), dtype=np.int64)
        found[:, 0, 1] = len(self.order)
        for k in range(1, min(most, len(ids)) + 1):
            lo, hi = found[: len(ids) - k + 1, k - 1].T
            found[: len(ids) - k + 1, k] = np.stack(self.narrow(lo, hi, k - 1, ids[k - 1 :]), axis=1)
        return found

    def longest(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From every start in `ids`, the length of the longest passage that stands in the text, and one of its places.

        (T,) and (T,). Where even the one id is nowhere, the length is 0 and the place says nothing.
        """
        query = np.append(ids, END - 1)  # ends with what no text has
        lo, hi = np.zeros(len(ids), dtype=np.int64), np.full(len(ids), len(self.order))
        lengths, found = np.zeros_like(lo), np.zeros_like(lo)
        searching = np.arange(len(ids))
        # What is most alike stands just before or just after where the query would, and a binary search meets both.
        while len(searching):
            middle = (lo[searching] + hi[searching]) // 2
            places = self.order[middle]
            same = self._common(query, searching, places)
            better = same > lengths[searching]
            lengths[searching[better]], found[searching[better]] = same[better], places[better]
            less = self.text[places + same] < query[searching + same]
            lo[searching[less]], hi[searching[~less]] = middle[less] + 1, middle[~less]
            searching = searching[lo[searching] < hi[searching]]
        return lengths, found

    def _common(self, query: np.ndarray, starts: np.ndarray, places: np.ndarray) -> np.ndarray:
        """How many ids are the same from each of the starts in the query and from its place in the text: (T,)."""
        same = np.zeros(len(starts), dtype=np.int64)
        going = np.arange(len(starts))
        while len(going):
            ahead = same[going, None] + np.arange(BLOCK)  # (…, BLOCK)
            ours = query[(starts[going, None] + ahead).clip(max=len(query) - 1)]
            theirs = self.text[(places[going, None] + ahead).clip(max=len(self.text) - 1)]
            differ = ours != theirs
            ended = differ.any(axis=1)
            same[going] += np.where(ended, differ.argmax(axis=1), BLOCK)
            going = going[~ended]
        return same


# ---- Sorting ---------------------------------------------------------------------------------------------------------


def _sorted_suffixes(text: np.ndarray) -> np.ndarray:
    """Prefix doubling, in which what is sorted already is left alone (Larsson and Sadakane 2007).

    Suffixes that share their first `depth` ids are a group, and its rank is where it begins. The ranks of what comes
    after those ids sort a group by twice as many. So the depth doubles, until every group has a single member.
    """
    keys, depth = _leading(text)
    coarse = (keys >> max(0, int(keys.max()).bit_length() - 16)).astype(np.uint16)  # sorted by counting, not comparing
    order = np.argsort(coarse, kind="stable").astype(np.int32)
    first = _changes(coarse[order])
    rank = np.empty_like(order)
    slots = np.arange(len(order), dtype=np.int32)  # of suffixes whose place in the order is not known yet

    slots, first = _sort_groups(order, rank, slots, first, keys.take)

    def by_rank(suffixes: np.ndarray) -> np.ndarray:
        return rank[suffixes].astype(np.int64) << 32 | rank[suffixes + depth]

    while len(slots):
        slots, first = _sort_groups(order, rank, slots, first, by_rank)
        depth *= 2
    return order


def _leading(text: np.ndarray) -> tuple[np.ndarray, int]:
    """As many of every suffix's leading ids as fit into one number that sorts as they do, and how many these are."""
    bits = max(1, int(text.max() + 1).bit_length())
    depth = 63 // bits
    padded = np.append(text + 1, np.zeros(depth, dtype=np.int32))
    keys = np.zeros(len(text), dtype=np.int64)
    for k in range(depth):
        keys <<= bits
        keys |= padded[k : k + len(text)]
    return keys, depth


def _sort_groups(
    order: np.ndarray, rank: np.ndarray, slots: np.ndarray, first: np.ndarray, keys_of: KeysOf
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts the suffixes in these slots of the order, group by group, and ranks them by the groups they now fall into.

    `first` says of every slot whether a group begins there. Returns both for what is left in groups of several.
    """
    left = [(slots[:0], first[:0])]
    for begin, end in _chunks(first):
        here = slots[begin:end]
        suffixes = order[here]
        keys = keys_of(suffixes)
        by_key = np.argsort(keys)
        suffixes, begins = suffixes[by_key], _changes(keys[by_key])
        order[here] = suffixes
        rank[suffixes] = here[np.flatnonzero(begins)[begins.cumsum() - 1]]
        alone = begins & np.append(begins[1:], True)
        left.append((here[~alone], begins[~alone]))
    slots, first = zip(*left, strict=True)
    return np.concatenate(slots), np.concatenate(first)


def _chunks(first: np.ndarray) -> Iterator[tuple[int, int]]:
    """Stretches of whole groups, of CHUNK suffixes each and as many as its last group has beyond that."""
    starts = np.flatnonzero(first)
    wanted = starts.searchsorted(np.arange(0, starts[-1] + 1, CHUNK))
    return pairwise([*np.unique(starts[wanted]).tolist(), len(first)])


def _changes(numbers: np.ndarray) -> np.ndarray:
    """Where a number differs from the one before it, and at the first."""
    return np.append(True, numbers[1:] != numbers[:-1])
