"""How good is it? What a model's predictions of any text are worth, in figures that compare.

Every token but the first is predicted once, in windows of `block_size` that do not overlap, as in `full_loss`. The
windows come in a random order, always the same, so that the figures so far are those of a fair sample of the text.

Letters in the shape comments as in model.py; N counts the tokens that a batch predicts.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from playground.checkpoint import Checkpoint
from playground.corpus import token_lengths
from playground.errors import BadInput
from playground.heads import TOO_LARGE
from playground.model import GPT
from playground.training import EVAL_BATCH_TOKENS

LARGEST_EXPONENT = 700  # e to more than 709 is no float
N_TOP = 5  # tokens that are kept of what the model expected
N_BINS = 10
MOST_LOGITS = 2**24  # of one batch, 64 MB of them, unless a single window has more

# ---- One pass through the model --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model expected at N places of a text, and how well it foresaw the token that stands there."""

    places: Tensor  # (N,): where these tokens stand
    loss: Tensor  # (N,) nats: minus the logarithm of the token's probability
    rank: Tensor  # (N,): 1 for the likeliest token; of equally likely ones the lower id comes first
    top_ids: Tensor  # (N, 5): the likeliest tokens, the likeliest first; fewer of a smaller vocabulary
    top_probs: Tensor  # (N, 5)


def predictions(model: GPT, ids: Tensor) -> Iterator[Predictions]:
    """Predicts all of the `ids` (T,) but the first, a batch of windows at a time."""
    for places in _windows(len(ids), model.config.block_size, model.config.vocab_size):
        yield Predictions(places.flatten(), *_predict(model, ids[places - 1], ids[places]))


def _windows(n_ids: int, block_size: int, vocab_size: int) -> Iterator[Tensor]:
    """The places of the tokens to predict, (B, T): whole windows in a random order, and then what fills none."""
    n_windows, n_rest = divmod(max(0, n_ids - 1), block_size)
    order = torch.randperm(n_windows, generator=torch.Generator().manual_seed(0))
    n_rows = max(1, min(EVAL_BATCH_TOKENS, MOST_LOGITS // vocab_size) // block_size)
    for i in range(0, n_windows, n_rows):
        yield order[i : i + n_rows, None] * block_size + torch.arange(1, block_size + 1)
    if n_rest:
        yield torch.arange(n_ids - n_rest, n_ids)[None]


@torch.inference_mode()
def _predict(model: GPT, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, rank, top ids and top probabilities of the tokens `y` (B, T) that follow those of `x` (B, T)."""
    log_probs = model(x).flatten(0, 1).log_softmax(-1)  # (N, V)
    y = y.reshape(-1, 1)  # (N, 1)
    own = log_probs.gather(1, y)  # (N, 1)
    if not own.isfinite().all():
        raise BadInput(TOO_LARGE)
    before = (log_probs > own) | ((log_probs == own) & (torch.arange(log_probs.size(1)) < y))  # (N, V)
    top = log_probs.topk(min(N_TOP, log_probs.size(1)))
    return -own[:, 0], before.sum(1) + 1, top.indices, top.values.exp()


# ---- The figures of a text -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bin:
    """The predictions in which the model's likeliest token had about the same probability."""

    count: int  # of such predictions
    confidence: float | None  # mean probability of the likeliest token; None where there are no predictions
    accuracy: float | None  # share of them in which that token came


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text. Every figure is over the same `n_tokens`.

    Only those of a character or a byte compare models with different tokenizers, and only where no token is unknown: a
    model has to foresee no more than that it is.
    """

    loss: float  # nats a token
    perplexity: float  # e to the loss: as unsure as between that many equally likely tokens
    bits_per_char: float
    n_tokens: int  # how many were predicted: in the end, all but the first
    n_chars: int  # that these tokens stand for; a character spread over several counts with the one it begins in
    bits_per_byte: float
    n_bytes: int  # of these tokens in UTF-8
    accuracy: float  # share of the tokens that were the model's likeliest
    top5_accuracy: float  # share of the tokens that were among its five likeliest
    calibration_error: float
    bins: tuple[Bin, ...]  # by the probability p of the likeliest token: 0 < p ≤ 0.1, 0.1 < p ≤ 0.2, … 1
    n_unknown: int  # tokens among them that are not in the vocabulary
    share: float  # of the text that has been predicted, from 0 to 1


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """By how much a model's confidence is off: |confidence - accuracy| of every bin, weighted by its predictions.

    Guo et al. 2017, "On Calibration of Modern Neural Networks": the expected calibration error, with bins of equal
    width. A model whose "70 %" comes true in 70 of 100 cases has none.

    >>> calibration_error((Bin(0, None, None), Bin(1, 0.5, 1.0), Bin(3, 0.75, 0.5)))  # (1 · 0.5 + 3 · 0.25) / 4
    0.3125
    """
    filled = [bin for bin in bins if bin.count]
    return sum(bin.count * abs(bin.confidence - bin.accuracy) for bin in filled) / sum(bin.count for bin in filled)


def evaluate(checkpoint: Checkpoint, text: str) -> Evaluation:
    """The figures over the whole text. Raises `BadInput` for a text of fewer than two tokens."""
    *_, last = evaluate_in_parts(checkpoint, text)
    return last


def evaluate_in_parts(checkpoint: Checkpoint, text: str) -> Iterator[Evaluation]:
    """The figures over all that has been predicted so far, after every batch; the last are over the whole text."""
    return Evaluator(checkpoint, text).parts()


class Evaluator:
    """An evaluation on its way: what it has added up, and the loss of every token that it has come to.

    `losses` (T,) are in nats, NaN for tokens that have not been predicted; the first one never is.
    """

    def __init__(self, checkpoint: Checkpoint, text: str):
        self.ids = torch.from_numpy(np.array(checkpoint.tokenizer.encode(text), dtype=np.int64))  # (T,)
        if len(self.ids) < 2:
            raise BadInput("The text is too short to measure a loss on: give at least two tokens.")
        self.unk_id = -1 if checkpoint.tokenizer.unk_id is None else checkpoint.tokenizer.unk_id
        self.lengths = token_lengths(checkpoint.tokenizer, text, self.ids)  # (2, T)
        self.losses = np.full(len(self.ids), np.nan, dtype=np.float32)
        self.loss, self.n_top5, self.n_chars, self.n_bytes, self.n_unknown = 0.0, 0, 0, 0, 0  # sums
        self.bins = torch.zeros(3, N_BINS, dtype=torch.float64)  # sums: predictions, their confidence, how many right
        self._predictions = predictions(checkpoint.model, self.ids)

    def parts(self) -> Iterator[Evaluation]:
        """Goes on predicting, batch by batch, with the figures so far after each."""
        for batch in self._predictions:
            self._add(batch)
            yield self._evaluation()

    def _add(self, batch: Predictions) -> None:
        self.losses[batch.places.numpy()] = batch.loss.numpy()
        self.loss += batch.loss.double().sum().item()
        self.n_top5 += int((batch.rank <= N_TOP).sum())
        n_chars, n_bytes = self.lengths[:, batch.places].sum(1).tolist()
        self.n_chars, self.n_bytes = self.n_chars + n_chars, self.n_bytes + n_bytes
        self.n_unknown += int((self.ids[batch.places] == self.unk_id).sum())
        confidence, right = batch.top_probs[:, 0].double(), (batch.rank == 1).double()  # (N,)
        which = (confidence * N_BINS).ceil().long() - 1  # a bin includes its upper end
        for sums, summands in zip(self.bins, (torch.ones_like(right), confidence, right), strict=True):
            sums += torch.bincount(which, summands, N_BINS)

    def _evaluation(self) -> Evaluation:
        n_tokens, n_right = int(self.bins[0].sum()), self.bins[2].sum().item()
        bins = tuple(
            Bin(int(n), confidence / n if n else None, right / n if n else None)
            for n, confidence, right in self.bins.T.tolist()
        )
        loss, bits = self.loss / n_tokens, self.loss / math.log(2)
        return Evaluation(
            loss=loss,
            perplexity=math.exp(loss) if loss < LARGEST_EXPONENT else math.inf,
            bits_per_char=bits / max(1, self.n_chars),  # one character's last bytes may be all that was predicted
            n_tokens=n_tokens,
            n_chars=self.n_chars,
            bits_per_byte=bits / max(1, self.n_bytes),
            n_bytes=self.n_bytes,
            accuracy=n_right / n_tokens,
            top5_accuracy=self.n_top5 / n_tokens,
            calibration_error=calibration_error(bins),
            bins=bins,
            n_unknown=self.n_unknown,
            share=n_tokens / (len(self.ids) - 1),
        )
