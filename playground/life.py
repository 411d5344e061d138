"""A head's life: what every head did with one text as training went on, at steps that grow further apart.

Letters in the shape comments as in heads.py; S is the number of snapshots, and a row of T tokens has T (T + 1) / 2
weights that the causal mask leaves, row after row up to the diagonal.
"""

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import torch
from torch import Tensor

from playground.config import ModelConfig
from playground.errors import BadInput
from playground.heads import PERIOD, HeadScores, repeated_tokens, scores_of
from playground.model import GPT, Trace, causal_mask

MAX_SNAPSHOTS = 64
MAX_BYTES = 2**23  # of all snapshots of a run; a model of very many heads is looked at on fewer tokens
FEWEST = 24  # of a run of enough steps
TOKENS_EACH = 6_000  # of training on average between two, so that looking costs at most about 3 % of a run
MAX_TOKENS = 2 * PERIOD  # of the text that is looked at
SCORE_ROWS = 4  # of repeated tokens, by which the heads are scored each time
LEVELS = 255  # of 8 bits
LIFE = "life."  # how the names of its tensors begin, in files
SCORES = tuple(field.name for field in fields(HeadScores))


@dataclass(frozen=True)
class Life:
    """The snapshots of a run, from before its first step to its end."""

    ids: tuple[int, ...]  # the T tokens that were looked at
    steps: tuple[int, ...]  # after how many steps each was taken, S of them
    attention: Tensor  # (S, L, nh, T (T + 1) / 2) uint8: the roots of the weights, in 255ths, so that small ones show
    scores: Tensor  # (S, 8, L, nh) float32: the fields of HeadScores

    def until(self, step: int) -> "Life":
        """What was seen up to a step."""
        n = sum(seen <= step for seen in self.steps)
        return replace(self, steps=self.steps[:n], attention=self.attention[:n], scores=self.scores[:n])

    def after(self, step: int) -> "Life":
        """What was seen later than that."""
        n = sum(seen <= step for seen in self.steps)
        return replace(self, steps=self.steps[n:], attention=self.attention[n:], scores=self.scores[n:])

    def tensors(self) -> dict[str, Tensor]:
        """By the names under which files have them; `to_dict` has the rest."""
        return {f"{LIFE}attention": self.attention, f"{LIFE}scores": self.scores}

    def to_dict(self) -> dict:
        return {"ids": list(self.ids), "steps": list(self.steps)}

    @classmethod
    def from_dict(cls, about: dict, tensors: dict[str, Tensor]) -> "Life":
        """From the two, which `check_about` and `shapes` have to approve of if they are a stranger's."""
        return cls(tuple(about["ids"]), tuple(about["steps"]), tensors[f"{LIFE}attention"], tensors[f"{LIFE}scores"])

    def head_scores(self, i: int) -> HeadScores:
        """Of the snapshot at this place."""
        return HeadScores(*self.scores[i].numpy())


def snapshot_steps(max_iters: int, tokens: int) -> tuple[int, ...]:
    """After which steps of a run to look: before the first, then at ever longer distances, and at its end. A run of few
    `tokens` a step is looked at less often.

    >>> snapshot_steps(100, tokens=1_000)
    (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 16, 20, 25, 30, 37, 45, 55, 67, 82, 100)
    """
    n = min(MAX_SNAPSHOTS - 2, max(FEWEST, max_iters * tokens // TOKENS_EACH))  # one more where a run is stopped
    return tuple(sorted({0} | {round(max_iters ** (i / (n - 1))) for i in range(n)}))


def begin_life(config: ModelConfig, ids: list[int]) -> Life:
    """A life without a snapshot yet, to be filled by `look`. Of the `ids` as many are looked at as fit."""
    most_weights = MAX_BYTES // (MAX_SNAPSHOTS * config.n_layer * config.n_head)
    longest = (math.isqrt(8 * most_weights + 1) - 1) // 2  # T (T + 1) / 2 of them is the most
    ids = ids[: min(MAX_TOKENS, config.block_size, longest)]
    n_weights = len(ids) * (len(ids) + 1) // 2
    attention = torch.empty(0, config.n_layer, config.n_head, n_weights, dtype=torch.uint8)
    return Life(tuple(ids), (), attention, torch.empty(0, len(SCORES), config.n_layer, config.n_head))


def check_about(about: object, config: ModelConfig) -> None:
    """Raises `BadInput` for a stranger's JSON that `Life.to_dict` did not make of a model like this."""
    ids, steps = (about.get(name) if isinstance(about, dict) else None for name in ("ids", "steps"))
    if not (
        _whole_numbers(ids, 1, MAX_TOKENS)
        and _whole_numbers(steps, 0, MAX_SNAPSHOTS)
        and all(0 <= i < config.vocab_size for i in ids)
        and all(0 <= earlier < later for earlier, later in pairwise([0, *(step + 1 for step in steps)]))
    ):
        raise BadInput("The checkpoint's snapshots of its training are not as the playground saves them.")


def _whole_numbers(values: object, fewest: int, most: int) -> bool:
    return isinstance(values, list) and fewest <= len(values) <= most and all(type(value) is int for value in values)


def shapes(about: dict, config: ModelConfig) -> dict[str, tuple[list[int], str]]:
    """Shape and type, as safetensors has them, of each tensor of a life."""
    S, T = len(about["steps"]), len(about["ids"])
    heads = [config.n_layer, config.n_head]
    return {
        f"{LIFE}attention": ([S, *heads, T * (T + 1) // 2], "U8"),
        f"{LIFE}scores": ([S, len(SCORES), *heads], "F32"),
    }


@torch.inference_mode()
def look(life: Life, model: GPT, step: int) -> Life:
    """One snapshot more: of the model as it is after `step` steps."""
    repeated, T = repeated_tokens(model.config, SCORE_ROWS), len(life.ids)
    P2 = repeated.size(1)
    rows = torch.zeros(1 + len(repeated), max(T, P2), dtype=torch.int64)  # no token sees what fills up its row
    rows[0, :T], rows[1:, :P2] = torch.tensor(life.ids), repeated
    weights = _weights(model, rows)  # (L, 1 + B, nh, …, …)
    scores = vars(scores_of(weights[:, 1:, :, :P2, :P2])).values()
    past = causal_mask(T)
    levels = (weights[:, 0, :, :T, :T][:, :, past].sqrt() * LEVELS).round().to(torch.uint8)
    return replace(
        life,
        steps=(*life.steps, step),
        attention=torch.cat([life.attention, levels[None]]),
        scores=torch.cat([life.scores, torch.stack([torch.from_numpy(score) for score in scores]).float()[None]]),
    )


def _weights(model: GPT, rows: Tensor) -> Tensor:
    """The attention weights (L, B, nh, T, T) of a model that is in training, which goes on as if nobody had looked."""
    trace, was_training = Trace(("attention",)), model.training
    model.eval()(rows.to(next(model.parameters()).device), trace)
    model.train(was_training)
    return torch.stack(trace.attention).float().cpu()
