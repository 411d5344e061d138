"""What each head of a model is for, told from where it looks on tokens that mean nothing.

Letters in the shape comments as in model.py; L is the number of layers, and P the period of the repeated tokens.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from playground.config import ModelConfig
from playground.errors import BadInput
from playground.model import GPT, Trace

ROWS, PERIOD = 16, 16  # of the repeated sequences by which heads are told apart
MAX_WEIGHTS = 2**26  # attention weights in one pass, 256 MB of them; a visitor may upload any shape of model
NEAR = 4  # tokens; a head that stays within so many is local
CLEAR = 0.4  # of its attention, from which on a head has a badge
EVEN = 0.9  # of the highest entropy: a head that looks everywhere alike
TOO_LARGE = "The numbers inside this model are too large to be shown: train it again, or choose another."


@dataclass(frozen=True)
class HeadScores:
    """How much of its attention each head gives to what, 0 to 1, and how its attention is spread; each (L, nh).

    Measured on random tokens that are repeated once: what they mean tells a head little about where to look.
    """

    previous: np.ndarray  # to the token before
    first: np.ndarray  # to the row's first token
    same: np.ndarray  # in the second half: to the same token in the first
    induction: np.ndarray  # in the second half: to what came after the same token in the first
    local: np.ndarray  # to itself and the NEAR tokens before it; 0 where a context is too short to tell
    uniform: np.ndarray  # entropy as a share of the highest possible
    entropy: np.ndarray  # bits
    reach: np.ndarray  # tokens back, on average

    def badge(self, layer: int, head: int) -> str:
        """What this head is for: the most special of what is clearly so, or "" for a head that is nothing of it."""
        for name in ("induction", "same", "previous", "first", "uniform", "local"):
            if getattr(self, name)[layer, head] >= (EVEN if name == "uniform" else CLEAR):
                return name
        return ""

    @property
    def badges(self) -> list[list[str]]:
        """Of all heads, a list a layer."""
        n_layer, n_head = self.previous.shape
        return [[self.badge(layer, head) for head in range(n_head)] for layer in range(n_layer)]


@torch.inference_mode()
def head_scores(model: GPT) -> HeadScores:
    """Scores every head on random tokens of the model's vocabulary, the same ones every time."""
    trace = Trace(("attention",))
    model(repeated_tokens(model.config), trace)
    weights = torch.stack(trace.attention)  # (L, B, nh, 2P, 2P)
    if not weights.isfinite().all():
        raise BadInput(TOO_LARGE)
    return scores_of(weights)


def repeated_tokens(config: ModelConfig, rows: int = ROWS) -> Tensor:
    """Rows of random tokens that are repeated once, (B, 2P); no token comes twice in a half if there are enough."""
    generator = torch.Generator().manual_seed(0)
    period = min(PERIOD, config.block_size // 2)
    n_weights = config.n_layer * config.n_head * (2 * period) ** 2  # of a row
    rows = min(rows, max(1, MAX_WEIGHTS // n_weights))
    shuffled = [torch.randperm(config.vocab_size, generator=generator) for _ in range(rows)]
    half = torch.stack([ids.repeat(math.ceil(period / len(ids)))[:period] for ids in shuffled])  # (B, P)
    return half.repeat(1, 2)


def scores_of(weights: Tensor) -> HeadScores:
    """The scores by the attention weights (L, B, nh, 2P, 2P) on `repeated_tokens`."""
    entropy = _entropy(weights).mean(1)  # (L, nh, T) bits
    weights = weights.mean(1)  # (L, nh, T, T)
    T = weights.size(-1)
    q, k, P = torch.arange(T)[:, None], torch.arange(T)[None], T // 2

    def share(looked_at: Tensor, queries: slice) -> np.ndarray:
        """How much of the attention of these queries goes to the keys that are marked in `looked_at` (T, T)."""
        return (weights * looked_at)[:, :, queries].sum(-1).mean(-1).numpy()

    later, second = slice(1, T), slice(P, T)
    return HeadScores(
        previous=share(k == q - 1, later),
        first=share(k == 0, later),
        same=share(k == q - P, second),
        induction=share(k == q - P + 1, second),
        local=share((k <= q) & (k >= q - NEAR), slice(2 * NEAR, T)) if T >= 4 * NEAR else np.zeros(weights.shape[:2]),
        uniform=(entropy[:, :, 1:] / torch.arange(2, T + 1).log2()).mean(-1).numpy(),
        entropy=entropy[:, :, later].mean(-1).numpy(),
        reach=(weights * (q - k)).sum(-1)[:, :, later].mean(-1).numpy(),
    )


def _entropy(weights: Tensor) -> Tensor:
    """Of each distribution (…, T), in bits."""
    return -torch.special.xlogy(weights, weights).sum(-1) / math.log(2)
