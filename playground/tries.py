"""Three questions of the course that need no training: one look at the model in use answers each.

Letters as in model.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from playground.checkpoint import Checkpoint
from playground.embeddings import Neighbours, nearest, neighbours
from playground.errors import BadInput
from playground.generation import Sampling, next_logits, next_token_probs
from playground.heads import TOO_LARGE
from playground.tokenizer import visible

N_SHOWN = 5  # tokens of a column
N_TABLES = 20  # of random rows, by which chance is judged
TEMPERATURES = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Column:
    """Tokens with a number each, the largest first."""

    title: str
    ids: tuple[int, ...]
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Answer:
    """What is seen side by side, what its numbers are, and what they say."""

    columns: tuple[Column, ...]
    measure: str
    sentence: str


def last_token(checkpoint: Checkpoint, ids: list[int]) -> Answer:
    """What is likely after the whole sentence, and after its last token alone."""
    if len(ids) < 2:
        raise BadInput("The sentence has one token, so there is nothing before it to hide: write a longer one.")
    whole, alone = (_probs(checkpoint, seen) for seen in (ids, ids[-1:]))
    shared = float(torch.minimum(whole, alone).sum())
    last = _quoted(checkpoint, ids[-1])
    counted = checkpoint.config.position in ("learned", "sinusoidal")
    place = ", and on its place, which is the first when it stands alone" if counted else ""
    return Answer(
        (_likeliest("after the whole sentence", whole), _likeliest(f"after {last} alone", alone)),
        "probability",
        f"The two distributions have {_percent(shared)} in common: that much of what it says comes after {last} in any "
        f"case. The other {_percent(1 - shared)} depends on what stands before it{place}.",
    )


def temperatures(checkpoint: Checkpoint, ids: list[int]) -> Answer:
    """What is likely after the sentence at three temperatures."""
    logits = next_logits(checkpoint.model, ids)
    chances = {t: next_token_probs(logits, Sampling(temperature=t)) for t in TEMPERATURES}
    columns = tuple(_likeliest(f"temperature {t:g}", probs) for t, probs in chances.items())
    tops = ", ".join(_percent(column.numbers[0]) for column in columns)
    return Answer(
        columns,
        "probability",
        "The order is the same in every column; dividing all logits by one number cannot change it. What changes is "
        f"how much the likeliest token gets: {tops}. Temperature makes a model bolder or more careful, not wiser.",
    )


def alike(checkpoint: Checkpoint, ids: list[int]) -> Answer:
    """The nearest rows to that of the sentence's last token, in the table as it began and as it is."""
    token, config = ids[-1], checkpoint.config
    # The first numbers that a model of this seed draws, as `GPT.init_weights` does.
    generator = torch.Generator().manual_seed(checkpoint.train_config.seed)
    table = torch.empty(config.vocab_size, config.n_embd).normal_(0.0, 1.0, generator=generator)  # (V, C)
    before = nearest(table.double().numpy(), token, N_SHOWN)
    now = neighbours(checkpoint, token, N_SHOWN)
    by_chance = largest_by_chance(config.vocab_size - 1, config.n_embd)
    if not np.isfinite(now.cosines).all():
        raise BadInput(TOO_LARGE)
    nearer = [id for id, cosine in zip(now.ids.tolist(), now.cosines, strict=True) if cosine > by_chance]
    found = (
        f"Nearer than that is now {_listed(checkpoint, nearer)}: training has turned these rows towards it, by nothing "
        f"but foreseeing the next token.{' The others could be as near by chance.' * (len(nearer) < len(now.ids))}"
        if nearer
        else "No row is nearer now: this model has not made this token like any other, or not yet."
    )
    return Answer(
        (_column("a table of random rows", before), _column("the table now", now)),
        "cosine",
        f"In {N_TABLES} tables of {config.vocab_size:,} random rows no row came nearer to that of "
        f"{_quoted(checkpoint, token)} than a cosine of {by_chance:.3f}. {found}",
    )


def largest_by_chance(n_rows: int, n_embd: int) -> float:
    """The largest cosine that a vector has with any of so many random ones, in so many dimensions, in several tables.

    A direction is drawn by normal numbers, one along the vector and the others across it, whose squares add up to a
    number that has the chi-squared distribution.
    """
    rng = np.random.default_rng(0)
    along, across = rng.standard_normal(N_TABLES * n_rows), rng.chisquare(n_embd - 1, N_TABLES * n_rows)
    return float((along / np.sqrt(along**2 + across)).max())


TRIES: dict[str, Callable[[Checkpoint, list[int]], Answer]] = {
    "last_token": last_token,
    "neighbours": alike,
    "temperature": temperatures,
}


def _quoted(checkpoint: Checkpoint, token: int) -> str:
    return f"“{visible(checkpoint.tokenizer.token_text(token))}”"


def _listed(checkpoint: Checkpoint, tokens: list[int]) -> str:
    *others, last = (_quoted(checkpoint, token) for token in tokens)
    return f"{', '.join(others)} and {last}" if others else last


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _probs(checkpoint: Checkpoint, ids: list[int]) -> Tensor:
    return next_token_probs(next_logits(checkpoint.model, ids), Sampling())


def _likeliest(title: str, probs: Tensor) -> Column:
    top = probs.sort(descending=True, stable=True)
    return Column(title, tuple(top.indices[:N_SHOWN].tolist()), tuple(top.values[:N_SHOWN].tolist()))


def _column(title: str, found: Neighbours) -> Column:
    return Column(title, tuple(found.ids.tolist()), tuple(found.cosines.tolist()))
