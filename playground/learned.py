"""The text that a model has learned from, sorted for questions: what stands in it, and what counting in it reaches."""

import hashlib
import json
import threading
from dataclasses import dataclass

import numpy as np

from playground.corpus import Text, split
from playground.ngrams import NGrams
from playground.recent import Recent
from playground.suffixes import SuffixArray
from playground.tokenizer import Tokenizer

HELD_OUT_CHARS = 20_000  # of the validation part, to set beside what a model writes
MAX_BYTES = 2**28  # of sorted texts that are kept
LARGE = 2_000_000  # characters of a text whose sorting takes more than a second


@dataclass(frozen=True, eq=False)
class Learned:
    """A text as a tokenizer cuts it: of the training part all that stands in it, and how the other part begins."""

    suffixes: SuffixArray  # of the training part
    ngrams: NGrams  # that have learned from the same
    held_out: np.ndarray  # (M,) ids of the validation part

    @classmethod
    def build(cls, text: Text, tokenizer: Tokenizer) -> "Learned":
        """Sorts the text: 1 MB of characters takes about half a second, 10 MB six, more if it repeats itself."""
        train, val = split(text.text)
        suffixes = SuffixArray(np.array(tokenizer.encode(train), dtype=np.int32))
        held_out = np.array(tokenizer.encode(val[:HELD_OUT_CHARS]), dtype=np.int32)
        return cls(suffixes, NGrams(suffixes, tokenizer.vocab_size), held_out)

    @property
    def nbytes(self) -> int:
        """Of memory: each token takes nine bytes."""
        return 9 * len(self.suffixes.order)


class Library:
    """Texts that models have learned from, by text and tokenizer; each is sorted once, however many ask for it."""

    def __init__(self):
        self._recent: Recent[Learned] = Recent(MAX_BYTES)
        self._sorting = threading.Lock(), threading.Lock()  # small texts; large ones, for which they do not wait

    def get(self, text: Text, tokenizer: Tokenizer) -> Learned:
        key = (text.sha256, hashlib.sha256(json.dumps(tokenizer.to_dict()).encode()).digest())
        if learned := self._recent.get(key):
            return learned
        with self._sorting[len(text.text) > LARGE]:  # one at a time: 10 MB take 360 MB while they are sorted
            learned = self._recent.get(key)
            if not learned:
                learned = Learned.build(text, tokenizer)
                self._recent.put(key, learned, learned.nbytes)
        return learned
