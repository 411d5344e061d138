"""Memory or invention: which passages of a sample stand word for word in the training text, and how much is new.

The letter T in the shape comments is the number of ids in the sample.
"""

from dataclasses import dataclass

import numpy as np

from playground.suffixes import SuffixArray

SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)  # of the n-grams that are looked up


@dataclass(frozen=True)
class Span:
    """Ids `start` to before `end` of a sample: they stand in the training text from `where` on, and maybe elsewhere."""

    start: int
    end: int
    where: int


@dataclass(frozen=True)
class Copying:
    """What a sample has in common with the training text."""

    spans: list[Span]
    copied: np.ndarray  # (T,) bool: whether a span covers the id
    longest: int  # ids of the sample in a row that stand in the training text, be they enough for a span or not
    novelty: dict[int, float]  # by n, for all SIZES that fit: the share of the sample's n-grams that do not, 0 to 1

    @property
    def share(self) -> float:
        """How much of the sample is copied, 0 to 1. An id in two spans counts once."""
        return float(self.copied.sum() / max(1, len(self.copied)))


def copying(suffixes: SuffixArray, ids: np.ndarray, at_least: int) -> Copying:
    """Compares a sample with the training text; what is copied is in a span of at least that many ids.

    Novelty by the size of the n-gram is from McCoy et al. 2023, who set it beside that of an equally long stretch of
    held-out text: some n-grams stand in any text of the language.

    >>> suffixes = SuffixArray(np.array([0, 1, 2, 3, 4]))
    >>> found = copying(suffixes, np.array([1, 2, 3, 0, 1]), at_least=3)
    >>> found.spans, found.share, found.longest
    ([Span(start=0, end=3, where=1)], 0.6, 3)
    >>> found.novelty[2]  # of 12, 23, 30 and 01 only 30 is new
    0.25
    """
    lengths, places = suffixes.longest(ids)
    spans = _maximal(lengths, places, at_least)
    copied = np.zeros(len(ids), dtype=bool)
    for span in spans:
        copied[span.start : span.end] = True
    novelty = {n: float((lengths[: len(ids) - n + 1] < n).mean()) for n in SIZES if n <= len(ids)}
    return Copying(spans, copied, int(lengths.max(initial=0)), novelty)


def _maximal(lengths: np.ndarray, places: np.ndarray, at_least: int) -> list[Span]:
    """Every passage of `at_least` ids that can be made no longer: none lies within another, two may overlap."""
    starts = np.arange(len(lengths))
    ends = starts + lengths
    further = ends > np.append(0, ends[:-1])  # than the passage from the id before, which holds this one if it is not
    found = np.flatnonzero(further & (lengths >= at_least))
    return [Span(s, e, w) for s, e, w in np.stack([starts, ends, places], axis=1)[found].tolist()]
