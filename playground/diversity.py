"""How varied a sample is: a model that goes round in circles shows it in these figures."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SIZES = (1, 2, 3, 4)  # of the n-grams
WINDOW = 128  # ids back


@dataclass(frozen=True)
class Diversity:
    """All three change with a text's length: compare a sample with an equally long stretch of the training text."""

    distinct: dict[int, float]  # by n, for all SIZES that fit: different n-grams as a share of all n-grams, 0 to 1
    repeated: float  # share of the ids that also stand among the WINDOW before them, 0 to 1
    entropy: float  # bits an id, by how often each id occurs: 0 if all are the same


def diversity(ids: np.ndarray) -> Diversity:
    """Sources: Li et al. 2016 (distinct-n), Welleck et al. 2020 (repeated ids, their rep/128), Shannon 1948 (entropy).

    The repetition of n-grams in a whole sample, seq-rep-n of Welleck et al., is 1 less distinct-n.

    >>> diversity(np.array([0, 1, 0, 1]))  # two of the pairs 01, 10, 01 are different, and two ids came before
    Diversity(distinct={1: 0.5, 2: 0.6666666666666666, 3: 1.0, 4: 1.0}, repeated=0.5, entropy=1.0)
    """
    distinct = {n: _distinct(ids, n) for n in SIZES if n <= len(ids)}
    return Diversity(distinct, _repeated(ids), _entropy(ids))


def _distinct(ids: np.ndarray, n: int) -> float:
    grams = sliding_window_view(ids, n)  # (T - n + 1, n)
    return len(np.unique(grams, axis=0)) / len(grams)


def _repeated(ids: np.ndarray) -> float:
    places = np.argsort(ids, kind="stable")  # of the same id side by side, in the order of the text
    again = (ids[places[1:]] == ids[places[:-1]]) & (np.diff(places) <= WINDOW)
    return float(again.sum() / max(1, len(ids)))


def _entropy(ids: np.ndarray) -> float:
    counts = np.unique(ids, return_counts=True)[1]
    p = counts / max(1, len(ids))
    return float((p * np.log2(1 / p)).sum())
