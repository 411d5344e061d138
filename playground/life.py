"""A model's life: what every head did with one text as training went on, and how well the model foresaw another, at
steps that grow further apart.

Letters in the shape comments as in heads.py; S is the number of snapshots, and a row of T tokens has T (T + 1) / 2
weights that the causal mask leaves, row after row up to the diagonal. P tokens are the passage that is foreseen.
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
MAX_FORESEEN = 128  # tokens of the passage, one forward pass of them
SCORE_ROWS = 4  # of repeated tokens, by which the heads are scored each time
LEVELS = 255  # of 8 bits
MAX_LOSS = 1e30  # nats of a token: no run goes on after so much, and of more a passage may have no mean
LIFE = "life."  # how the names of its tensors begin, in files
SCORES = tuple(field.name for field in fields(HeadScores))
TENSORS = ("attention", "scores", "losses", "guesses", "guess_probs")  # of a life, by snapshots
STRANGE = "The checkpoint's snapshots of its training are not as the playground saves them."


@dataclass(frozen=True)
class Life:
    """The snapshots of a run, from before its first step to its end."""

    ids: tuple[int, ...]  # the T tokens that were looked at
    steps: tuple[int, ...]  # after how many steps each was taken, S of them
    attention: Tensor  # (S, L, nh, T (T + 1) / 2) uint8: the roots of the weights, in 255ths, so that small ones show
    scores: Tensor  # (S, 8, L, nh) float32: the fields of HeadScores
    passage: tuple[int, ...]  # the P held-out tokens that were foreseen; none in what was kept before there was this
    losses: Tensor  # (S, P - 1) float32, nats: of each token of the passage but the first, given those before it
    guesses: Tensor  # (S, P - 1) int32: the likeliest token there
    guess_probs: Tensor  # (S, P - 1) float32: its probability

    def until(self, step: int) -> "Life":
        """What was seen up to a step."""
        return self._part(slice(sum(seen <= step for seen in self.steps)))

    def after(self, step: int) -> "Life":
        """What was seen later than that."""
        return self._part(slice(sum(seen <= step for seen in self.steps), None))

    def _part(self, part: slice) -> "Life":
        return replace(self, steps=self.steps[part], **{name: getattr(self, name)[part] for name in TENSORS})

    def tensors(self) -> dict[str, Tensor]:
        """By the names under which files have them; `to_dict` has the rest."""
        return {f"{LIFE}{name}": getattr(self, name) for name in TENSORS}

    def to_dict(self) -> dict:
        return {"ids": list(self.ids), "steps": list(self.steps), "passage": list(self.passage)}

    @classmethod
    def from_dict(cls, about: dict, tensors: dict[str, Tensor]) -> "Life":
        """From the two, of which `check_about` and `shapes` have to approve if they are a stranger's, and then
        `check_foreseen` of what comes out.
        """
        ids, steps, passage = (tuple(about.get(name, ())) for name in ("ids", "steps", "passage"))
        kept = {name: tensors[f"{LIFE}{name}"] for name in TENSORS if f"{LIFE}{name}" in tensors}
        return cls(ids, steps, passage=passage, **_nothing_foreseen(len(steps), 0) | kept)

    @property
    def moments(self) -> tuple[int, ...]:
        """The places of the snapshots before training, nearest to its half, and after it; fewer of a life so short."""
        last = len(self.steps) - 1
        between = range(1, last)
        halfway = min(between, key=lambda i: abs(self.steps[i] - self.steps[last] / 2)) if between else 0
        return tuple(sorted({0, halfway, last})) if self.steps else ()

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


def begin_life(config: ModelConfig, ids: list[int], passage: list[int]) -> Life:
    """A life without a snapshot yet, to be filled by `look`. Of the `ids` as many are looked at as fit; the `passage`
    has at most one token more than the model's context, and than MAX_FORESEEN.
    """
    most_weights = MAX_BYTES // (MAX_SNAPSHOTS * config.n_layer * config.n_head)
    longest = (math.isqrt(8 * most_weights + 1) - 1) // 2  # T (T + 1) / 2 of them is the most
    ids = ids[: min(MAX_TOKENS, config.block_size, longest)]
    n_weights = len(ids) * (len(ids) + 1) // 2
    return Life(
        ids=tuple(ids),
        steps=(),
        attention=torch.empty(0, config.n_layer, config.n_head, n_weights, dtype=torch.uint8),
        scores=torch.empty(0, len(SCORES), config.n_layer, config.n_head),
        passage=tuple(passage),
        **_nothing_foreseen(0, max(0, len(passage) - 1)),
    )


def _nothing_foreseen(*shape: int) -> dict[str, Tensor]:
    """What a life has of its passage, of a shape (S, P - 1) without elements."""
    dtypes = {"losses": torch.float32, "guesses": torch.int32, "guess_probs": torch.float32}
    return {name: torch.empty(shape, dtype=dtype) for name, dtype in dtypes.items()}


def check_about(about: object, config: ModelConfig) -> None:
    """Raises `BadInput` for a stranger's JSON that `Life.to_dict` did not make of a model like this."""
    about = {"passage": []} | about if isinstance(about, dict) else {}  # older files have none
    ids, steps, passage = (about.get(name) for name in ("ids", "steps", "passage"))
    if not (
        _whole_numbers(ids, 1, MAX_TOKENS)
        and _whole_numbers(steps, 0, MAX_SNAPSHOTS)
        and _whole_numbers(passage, 0, min(MAX_FORESEEN, config.block_size) + 1)
        and all(0 <= i < config.vocab_size for i in ids + passage)
        and all(0 <= earlier < later for earlier, later in pairwise([0, *(step + 1 for step in steps)]))
    ):
        raise BadInput(STRANGE)


def check_foreseen(life: Life, config: ModelConfig) -> None:
    """Raises `BadInput` for a stranger's numbers that no model can have foreseen."""
    if not (
        ((life.losses >= 0) & (life.losses <= MAX_LOSS)).all()
        and ((life.guesses >= 0) & (life.guesses < config.vocab_size)).all()
        and ((life.guess_probs >= 0) & (life.guess_probs <= 1)).all()
    ):
        raise BadInput(STRANGE)


def _whole_numbers(values: object, fewest: int, most: int) -> bool:
    return isinstance(values, list) and fewest <= len(values) <= most and all(type(value) is int for value in values)


def shapes(about: dict, config: ModelConfig) -> dict[str, tuple[list[int], str]]:
    """Shape and type, as safetensors has them, of each tensor of a life."""
    S, T = len(about["steps"]), len(about["ids"])
    heads = [config.n_layer, config.n_head]
    expected = {
        f"{LIFE}attention": ([S, *heads, T * (T + 1) // 2], "U8"),
        f"{LIFE}scores": ([S, len(SCORES), *heads], "F32"),
    }
    if "passage" in about:
        foreseen = [S, max(0, len(about["passage"]) - 1)]
        kinds = {"losses": "F32", "guesses": "I32", "guess_probs": "F32"}
        expected |= {f"{LIFE}{name}": (foreseen, kind) for name, kind in kinds.items()}
    return expected


@torch.inference_mode()
def look(life: Life, model: GPT, step: int) -> Life:
    """One snapshot more: of the model as it is after `step` steps."""
    seen = _heads(life, model) | _foreseen(life, model)
    joined = {name: torch.cat([getattr(life, name), snapshot[None]]) for name, snapshot in seen.items()}
    return replace(life, steps=(*life.steps, step), **joined)


def _heads(life: Life, model: GPT) -> dict[str, Tensor]:
    """What the heads do with the text that is looked at, and their scores."""
    repeated, T = repeated_tokens(model.config, SCORE_ROWS), len(life.ids)
    P2 = repeated.size(1)
    rows = torch.zeros(1 + len(repeated), max(T, P2), dtype=torch.int64)  # no token sees what fills up its row
    rows[0, :T], rows[1:, :P2] = torch.tensor(life.ids), repeated
    trace = Trace(("attention",))
    _logits(model, rows, trace)
    weights = torch.stack(trace.attention).float().cpu()  # (L, 1 + B, nh, …, …)
    scores = vars(scores_of(weights[:, 1:, :, :P2, :P2])).values()
    past = causal_mask(T)
    levels = (weights[:, 0, :, :T, :T][:, :, past].sqrt() * LEVELS).round().to(torch.uint8)
    return {"attention": levels, "scores": torch.stack([torch.from_numpy(score) for score in scores]).float()}


def _foreseen(life: Life, model: GPT) -> dict[str, Tensor]:
    """How well the model foresees the passage, and what it takes to be the likeliest instead."""
    ids = torch.tensor(life.passage, dtype=torch.int64)
    log_probs = _logits(model, ids[None, :-1])[0].float().cpu().log_softmax(-1)  # (P - 1, V)
    guess_log_probs, guesses = log_probs.max(-1)
    losses = -log_probs.gather(1, ids[1:, None])[:, 0]
    return {"losses": losses, "guesses": guesses.int(), "guess_probs": guess_log_probs.exp()}


def _logits(model: GPT, rows: Tensor, trace: Trace | None = None) -> Tensor:
    """The logits (B, T, V) of a model that is in training, which goes on as if nobody had looked."""
    was_training = model.training
    logits = model.eval()(rows.to(next(model.parameters()).device), trace)
    model.train(was_training)
    return logits
