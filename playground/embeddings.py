"""What a model knows of its tokens and of their places: the embedding table as a map, and what tells positions apart.

Letters in the shape comments as in model.py.
"""

from dataclasses import dataclass

import numpy as np

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.heads import TOO_LARGE

# ---- Tokens ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenMap:
    """Every token's embedding in the two directions in which the vocabulary differs most."""

    points: np.ndarray  # (V, 2) float32: along the first and the second of them, from the tokens' mean
    explained: np.ndarray  # (2,): the share of all variance that each direction holds, 0 to 1


def token_map(checkpoint: Checkpoint) -> TokenMap:
    """Principal components (Pearson 1901) of the embedding table. `BadInput` if its numbers are too large to show."""
    table = _token_table(checkpoint)
    centred = table - table.mean(axis=0)  # (V, C)
    # The (C, C) covariance has the same directions as the (V, C) table, and is small however large the vocabulary.
    variances, directions = np.linalg.eigh(centred.T @ centred)  # (C,) rising, (C, C) with a direction in each column
    first_two = directions[:, [-1, -2]]  # (C, 2)
    largest = np.abs(first_two).argmax(axis=0)
    first_two = first_two * np.sign(first_two[largest, [0, 1]])  # a direction has no sign of its own: its largest is +
    total = np.square(centred).sum()
    explained = variances[[-1, -2]].clip(0) / total if total else np.zeros(2)  # tokens that are all the same: no spread
    return TokenMap(_shown(centred @ first_two), explained)


@dataclass(frozen=True)
class Neighbours:
    """The tokens whose embeddings point most nearly the same way as one token's, the nearest first."""

    ids: np.ndarray  # (n,)
    cosines: np.ndarray  # (n,): 1 the same direction, 0 a right angle, -1 the opposite


def neighbours(checkpoint: Checkpoint, id: int, n: int = 10) -> Neighbours:
    """The `n` nearest tokens by cosine, or all others if there are fewer; of equally near ones the lower id first."""
    return nearest(_token_table(checkpoint), id, n)


def nearest(table: np.ndarray, id: int, n: int) -> Neighbours:
    """The same in any table (V, C)."""
    unit = _unit(table)  # (V, C)
    cosines = unit @ unit[id]  # (V,)
    order = np.argsort(-cosines, kind="stable")
    ids = order[order != id][:n]
    return Neighbours(ids, cosines[ids])


def _token_table(checkpoint: Checkpoint) -> np.ndarray:
    """(V, C), in float64: the squares of large numbers do not fit into float32."""
    return checkpoint.weights["wte.weight"].double().numpy()


# ---- Positions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PositionTable:
    """What a model adds to tokens to say where they stand: learned, or sines and cosines."""

    vectors: np.ndarray  # (T, C) float32
    similarity: np.ndarray  # (T, T) float32: the cosine of every two rows


@dataclass(frozen=True)
class Rotations:
    """By how much rotary positions turn each pair of a head's numbers; nothing is added."""

    angles: np.ndarray  # (T, hs/2) float32, radians from -π to π: whole turns make no difference
    similarity: np.ndarray  # (T, T) float32: of a vector turned for one position with itself turned for the other


def positions(checkpoint: Checkpoint) -> PositionTable | Rotations | None:
    """What tells the model's T = `block_size` positions apart; None if it is the causal mask alone.

    Sources: Vaswani et al. 2017 (sines and cosines), Su et al. 2021 (rotary). A pair that is turned for two positions
    has a cosine of cos(distance × frequency) with itself; the similarity of rotations is the mean over all pairs.
    """
    model = checkpoint.model
    if checkpoint.config.position == "rotary":
        half = checkpoint.config.head_dim // 2  # the other half has the same angles
        cos, sin = (table[:, :half].double().numpy() for table in (model.h[0].attn.cos, model.h[0].attn.sin))
        similarity = (cos @ cos.T + sin @ sin.T) / half  # cos(a - b) = cos a cos b + sin a sin b
        return Rotations(np.arctan2(sin, cos).astype(np.float32), similarity.astype(np.float32))
    if model.wpe.weight is None:
        return None
    vectors = model.wpe.weight.double().numpy()  # (T, C)
    unit = _unit(vectors)
    return PositionTable(_shown(vectors), (unit @ unit.T).astype(np.float32))


# ---- What both need --------------------------------------------------------------------------------------------------


def _unit(table: np.ndarray) -> np.ndarray:
    """Rows (n, C) at length 1. One of zeros stays so, and is at a right angle to all."""
    length = np.linalg.norm(table, axis=1, keepdims=True)
    return np.divide(table, length, out=np.zeros_like(table), where=length > 0)


def _shown(numbers: np.ndarray) -> np.ndarray:
    """As float32, in which the page has all its numbers."""
    with np.errstate(over="ignore"):
        small = numbers.astype(np.float32)
    if not np.isfinite(small).all():
        raise BadInput(TOO_LARGE)
    return small
