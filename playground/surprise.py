"""Where does it err? How surprising each token of a text was to a model, what it expected there, the hard passages."""

from dataclasses import dataclass

import numpy as np
import torch

from playground.checkpoint import Checkpoint
from playground.evaluation import N_TOP, predictions


@dataclass(frozen=True, eq=False)
class Surprises:
    """What a model thought of each of T tokens before it saw it.

    Nothing predicts the first one: there the numbers are NaN, and rank and ids 0.
    """

    loss: np.ndarray  # (T,) float32, nats
    rank: np.ndarray  # (T,): 1 where the token was the likeliest
    top_ids: np.ndarray  # (T, 5): what was expected, the likeliest first; fewer of a smaller vocabulary
    top_probs: np.ndarray  # (T, 5) float32

    def since(self, start: int) -> "Surprises":
        """Without the tokens before that one."""
        return Surprises(**{name: rows[start:] for name, rows in vars(self).items()})


def surprises(checkpoint: Checkpoint, ids: list[int]) -> Surprises:
    """How surprising each of these tokens was, in the windows of the evaluation, so that its figures are their means.

    The model sees those before it in the same window: the second token of a window is predicted from one alone. For a
    passage of a longer text to get the same numbers as there, it has to begin at a multiple of `block_size`.
    """
    T, n_top = len(ids), min(N_TOP, checkpoint.config.vocab_size)
    found = Surprises(
        loss=np.full(T, np.nan, dtype=np.float32),
        rank=np.zeros(T, dtype=np.int64),
        top_ids=np.zeros((T, n_top), dtype=np.int64),
        top_probs=np.full((T, n_top), np.nan, dtype=np.float32),
    )
    for batch in predictions(checkpoint.model, torch.tensor(ids)):
        for name, rows in vars(found).items():
            rows[batch.places.numpy()] = getattr(batch, name).numpy()
    return found


def most_surprising(losses: np.ndarray, length: int, n: int) -> list[int]:
    """Where the `n` passages of `length` tokens with the highest mean loss begin, the most surprising first.

    Passages do not overlap: each is the most surprising of those that the ones before have left. None has a token whose
    loss is not known (NaN), so that there may be fewer. Given `-losses`, they are the least surprising ones.

    >>> most_surprising(np.array([np.nan, 1.0, 5.0, 4.0, 0.0, 3.0, 3.0]), length=2, n=2)
    [2, 5]
    """
    known = np.isfinite(losses)
    means = _sums(np.where(known, losses, 0.0), length) / length  # of the passage that begins at each place
    means[_sums(known, length) < length] = -np.inf
    starts = []
    while len(starts) < n and means.max(initial=-np.inf) > -np.inf:
        start = int(means.argmax())
        starts.append(start)
        means[max(0, start - length + 1) : start + length] = -np.inf
    return starts


def _sums(values: np.ndarray, length: int) -> np.ndarray:
    """The sum of every `length` values in a row."""
    until = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return until[length:] - until[:-length]
