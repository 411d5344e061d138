"""What models reach that only count which ids follow which, so that a transformer's loss has something beside it.

Letters in the shape comments: n is the number of ids in the training text, T that of the ids to predict.
"""

import numpy as np

from playground.suffixes import SuffixArray

CONTEXTS = {"unigram": 0, "bigram": 1, "trigram": 2, "5-gram": 4}  # how many ids before the next each model looks at
NAMES = ("uniform", *CONTEXTS)  # of the models, in the order of their losses
LONGEST = max(CONTEXTS.values())


class NGrams:
    """Interpolated Witten-Bell smoothing (Witten and Bell 1991, in the form of Chen and Goodman 1998).

    After the context h, which is the last k ids, and with h' as the last k - 1 of them:

        p(w | h) = (c(hw) + t(h) p(w | h')) / (c(h) + t(h))

    c(hw) is how often w follows h in the training text, c(h) how often anything does, and t(h) how many different ids
    do: the more of them, the likelier yet another. Where nothing follows h, p(w | h) is p(w | h'). The empty context
    falls back on 1 / V for every id.

    >>> suffixes = SuffixArray(np.array([0, 1, 0]))  # "aba"; after "b" comes one a, of one kind
    >>> losses = NGrams(suffixes, vocab_size=2).losses(np.array([1, 0]))  # "a" after "b"
    >>> np.exp(-losses[:, 0]).round(3)  # 1/2, (2 + 2 · 1/2) / (3 + 2) = 3/5, (1 + 1 · 3/5) / (1 + 1) = 4/5
    array([0.5, 0.6, 0.8, 0.8, 0.8])
    """

    def __init__(self, suffixes: SuffixArray, vocab_size: int):
        self._suffixes = suffixes
        self._vocab_size = vocab_size
        self._shared = _shared(suffixes)

    def losses(self, ids: np.ndarray) -> np.ndarray:
        """Nats for each of the ids but the first, given those before it: (5, T - 1), a row for each of NAMES.

        Near the beginning, where there are fewer ids before it than a model looks at, it looks at those.
        """
        found = self._suffixes.intervals(ids, LONGEST + 1)  # (T, LONGEST + 2, 2)
        p = np.full(len(ids), 1 / self._vocab_size)
        rows = [p]
        for k in range(LONGEST + 1):
            starts = slice(max(0, len(ids) - k))  # of contexts that an id comes after
            followed, kinds = self._followed(*found[starts, k].T, k)
            times = np.diff(found[starts, k + 1])[:, 0]  # that the same id comes after it in the training text
            p = p.copy()
            np.divide(times + kinds * p[k:], followed + kinds, out=p[k:], where=followed > 0)
            if k in CONTEXTS.values():
                rows.append(p)
        return -np.log(np.stack(rows)[:, 1:])

    def _followed(self, lo: np.ndarray, hi: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """How often, and by how many different ids, the k ids are followed that the suffixes from lo to hi begin with.

        Every slot where less than k + 1 ids are shared with the slot before is a follower not seen yet. Only the text's
        end has none: if it is those k ids, it is the shortest suffix that begins with them, and so the first.
        Of an empty interval neither figure is above 0.
        """
        order = self._suffixes.order
        new = np.zeros(len(order) + 1, dtype=np.int32)  # in how many of the slots before each
        np.cumsum(self._shared <= k, out=new[1:])
        at_end = order[lo.clip(max=len(order) - 1)] + k == len(order) - 1
        return hi - lo - at_end, new[hi] - new[lo] - at_end


def _shared(suffixes: SuffixArray) -> np.ndarray:
    """How many leading ids each suffix shares with the one before it, LONGEST + 1 standing for more: (n + 1,) int8."""
    text, order = suffixes.text, suffixes.order
    shared = np.zeros(len(order), dtype=np.int8)
    for k in range(LONGEST + 1):
        following = text[(order + k).clip(max=len(text) - 1)]  # the id after k
        shared[1:] += (shared[1:] == k) & (following[1:] == following[:-1])
    return shared
