"""A text in the making: its tokens are drawn, or chosen by a person, and it can be gone on with from any of them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.generation import (
    MAX_NEW_TOKENS,
    Continuation,
    Sampling,
    check_seed,
    draw,
    encode_prompt,
    next_token_probs,
)
from playground.heads import TOO_LARGE
from playground.tokenizer import StreamDecoder

N_ALTERNATIVES = 8
MAX_TYPED = 200  # characters in place of a token
BYTES_OF_A_TOKEN = 1_000  # in memory, with its alternatives
FULL = f"A text has at most {MAX_NEW_TOKENS:,} tokens: begin a new one."


@dataclass(frozen=True)
class Alternatives:
    """What could stand at one place of a text: the K likeliest tokens first, of all V."""

    ids: np.ndarray  # (K,)
    uncut: np.ndarray  # (K,) their probabilities at temperature 1 with nothing cut off
    probs: np.ndarray  # (K,) those they are drawn with; 0 of what is cut off
    n_drawable: int  # of all V
    lost: float  # probability, at this temperature, of all that top-k and top-p cut off


@dataclass(frozen=True)
class Token:
    """One token of a text that is being written, and what else could have stood there."""

    id: int
    text: str  # that became certain with it
    rank: int  # 1 is the likeliest
    uncut: float  # its probability at temperature 1 with nothing cut off
    probability: float  # that it is drawn with; 0 if only a person can choose it
    chosen: bool  # by a person, not drawn
    sampling: Sampling  # that stood when it came
    alternatives: Alternatives


class Place:
    """What could stand at one place of a text, all of it: the logits (V,) and what `sampling` makes of them."""

    def __init__(self, logits: Tensor, sampling: Sampling):
        if not logits.isfinite().all():
            raise BadInput(TOO_LARGE)
        self.probs = next_token_probs(logits, sampling)  # (V,)
        self.uncut = next_token_probs(logits, Sampling()).numpy()  # (V,)
        self.sampling = sampling
        self.order = np.argsort(-logits.numpy(), kind="stable")  # (V,) the likeliest first; of equal ones the lower id
        warm = Sampling(sampling.temperature)
        self.before_cuts = self.probs if sampling == warm else next_token_probs(logits, warm)  # (V,)

    def rank(self, id: int) -> int:
        return 1 + int(np.flatnonzero(self.order == id)[0])

    @property
    def alternatives(self) -> Alternatives:
        ids, probs = self.order[:N_ALTERNATIVES].copy(), self.probs.numpy()  # a view would keep all V of them
        lost = self.before_cuts.numpy()[probs == 0].sum()
        return Alternatives(ids, self.uncut[ids], probs[ids], int(np.count_nonzero(probs)), float(lost))


class Writer:
    """Goes on from a prompt. The same checkpoint, prompt, seed and settings give the text of `stream_generate`.

    Where a person puts another token in place of one, what stood after it is gone, and all is drawn as though the text
    up to and with it were the prompt. One thread at a time may hold its `lock`, and work on it.
    """

    def __init__(self, checkpoint: Checkpoint, prompt: str, seed: int):
        check_seed(seed)
        self.checkpoint, self.seed, self.lock = checkpoint, int(seed), threading.Lock()
        self.tokens: list[Token] = []
        self.edition = 0  # another after each change that a person makes
        self._prompt = encode_prompt(checkpoint.tokenizer, prompt)
        self._begin()

    @property
    def nbytes(self) -> int:
        """What it may keep in memory beside its model: keys, values and all the tokens that it can get."""
        return self._so_far.reader.cache.nbytes + MAX_NEW_TOKENS * BYTES_OF_A_TOKEN

    @property
    def room(self) -> int:
        """How many tokens it can still get."""
        return MAX_NEW_TOKENS - len(self.tokens)

    def draw(self, sampling: Sampling) -> Token:
        """One token more, by its probability."""
        place = self._next(sampling)
        return self._take(draw(place.probs, self._rng), place, chosen=False)

    def choose(self, place: int, ids: Sequence[int], sampling: Sampling) -> list[Token]:
        """Puts tokens at a place, counted from 0 after the prompt, instead of all that stands from there on."""
        if not 0 <= place <= len(self.tokens):
            raise BadInput("The text has no such token: choose one of those that are there.")
        if place + len(ids) > MAX_NEW_TOKENS:
            raise BadInput(FULL)
        if not ids or not all(0 <= i < self.checkpoint.config.vocab_size for i in ids):
            raise BadInput("The model has no such token: choose one of the list.")
        self.edition += 1
        in_the_middle = place < len(self.tokens)
        if in_the_middle:
            del self.tokens[place:]
            self._begin()
        chosen = [self._take(i, self._next(sampling), chosen=True) for i in ids]
        if in_the_middle:
            self._begin()
        return chosen

    def agreed(self, edition: int, cursor: int) -> int:
        """Up to which token a page has what stands here, if it has so many of an edition. An answer may get lost."""
        return cursor if edition == self.edition and 0 <= cursor <= len(self.tokens) else 0

    def encode(self, typed: str) -> list[int]:
        """The ids of what a person types in place of a token. Raises `BadInput` for what the model does not know."""
        if not typed or len(typed) > MAX_TYPED:
            raise BadInput(f"Type from 1 to {MAX_TYPED} characters to put there.")
        ids = self.checkpoint.tokenizer.encode(typed)
        if self.checkpoint.tokenizer.unk_id in ids:
            raise BadInput("The model does not know all of this: type what stood in its training text.")
        return ids

    def ahead(self, sampling: Sampling) -> Alternatives:
        """What could come next."""
        return self._next(sampling).alternatives

    def _next(self, sampling: Sampling) -> Place:
        return Place(self._so_far.logits, sampling)

    def _begin(self) -> None:
        """As though the tokens so far belonged to the prompt."""
        ids = [token.id for token in self.tokens]
        self._so_far = Continuation(self.checkpoint.model, self._prompt + ids)
        self._rng = torch.Generator().manual_seed(self.seed)
        self._decoder = StreamDecoder(self.checkpoint.tokenizer)
        for i in ids:
            self._decoder.push(i)

    def _take(self, id: int, place: Place, chosen: bool) -> Token:
        if not self.room:
            raise BadInput(FULL)
        uncut, probability = float(place.uncut[id]), place.probs[id].item()
        text, rank = self._decoder.push(id), place.rank(id)
        self.tokens.append(Token(id, text, rank, uncut, probability, chosen, place.sampling, place.alternatives))
        self._so_far.take(id)
        return self.tokens[-1]
