"""The maps of tokens and positions against plain linear algebra, brute force, and what the model does with them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade import random_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.checkpoint import Checkpoint
from playground.embeddings import PositionTable, Rotations, neighbours, positions, token_map
from playground.errors import BadInput
from playground.model import rotary_table, rotate, sinusoidal_table
from playground.tokenizer import CharTokenizer

LETTERS = CharTokenizer.train("abcdefghijklmnopqrst")  # and the unknown one: V is 21


def with_table(table: np.ndarray) -> Checkpoint:
    """A checkpoint whose token embeddings are these, (V, C)."""
    V, C = table.shape
    tokenizer = CharTokenizer.train("".join(chr(0x4E00 + i) for i in range(V - 1)))
    checkpoint = random_checkpoint(tokenizer, n_embd=C, n_head=1, n_layer=1, position="none")
    weights = checkpoint.weights | {"wte.weight": torch.tensor(table, dtype=torch.float32)}
    return replace(checkpoint, weights=weights)


def random_table(V: int, C: int, seed: int = 0) -> np.ndarray:
    spread = np.linspace(3, 0.5, C)  # so that the first two directions are clear
    return (np.random.default_rng(seed).standard_normal((V, C)) * spread + 5).astype(np.float32)


# --- Tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("V", "C"), [(40, 6), (6, 40), (300, 16), (2, 4), (3, 4)])
def test_the_map_is_that_of_a_singular_value_decomposition(V, C):
    table = random_table(V, C)
    seen = token_map(with_table(table))
    centred = table.astype(np.float64) - table.astype(np.float64).mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:2].T  # (V, 2)
    for axis in range(2):
        sign = 1 if directions[axis][np.abs(directions[axis]).argmax()] > 0 else -1
        if lengths[axis] > 1e-6:  # two tokens spread in one direction only; the other is any
            np.testing.assert_allclose(seen.points[:, axis], sign * expected[:, axis], atol=1e-4)
        else:
            np.testing.assert_allclose(seen.points[:, axis], 0, atol=1e-6)
    np.testing.assert_allclose(seen.explained, (lengths**2 / (lengths**2).sum())[:2], atol=1e-9)
    assert seen.points.dtype == np.float32


def test_the_map_by_hand():
    # Two pairs of opposite tokens: 3 to either side in the third number, 1 in the first; the mean is (7, 7, 7, 7).
    table = np.full((4, 4), 7.0)
    table[:2, 2] += [3, -3]
    table[2:, 0] += [1, -1]
    seen = token_map(with_table(table))
    np.testing.assert_allclose(seen.points, [[3, 0], [-3, 0], [0, 1], [0, -1]], atol=1e-6)
    np.testing.assert_allclose(seen.explained, [18 / 20, 2 / 20])


@settings(max_examples=30, deadline=None)
@given(V=st.integers(2, 30), half=st.integers(2, 12), scale=st.sampled_from([0.0, 1e-20, 1.0, 1e20]))
def test_a_map_of_any_shape_keeps_what_it_says_of_the_spread(V, half, scale):
    table = scale * random_table(V, 2 * half, seed=V)
    seen = token_map(with_table(table))
    assert seen.points.shape == (V, 2) and np.isfinite(seen.points).all()
    np.testing.assert_allclose(seen.points.mean(0), 0, atol=1e-4 * scale)
    assert 0 <= seen.explained[1] <= seen.explained[0] <= 1 + 1e-9
    table = table.astype(np.float64)
    total = np.square(table - table.mean(0)).sum()
    shares = np.square(seen.points.astype(np.float64)).sum(0) / total if total else [0, 0]
    np.testing.assert_allclose(seen.explained, shares, atol=1e-5)


def test_tokens_that_are_all_the_same_stand_at_one_point():
    same = with_table(np.full((100, 4), 3.0))
    seen, nearest = token_map(same), neighbours(same, 2, n=50)
    assert (seen.points == 0).all() and (seen.explained == 0).all()
    assert nearest.ids.tolist() == [0, 1, *range(3, 51)]  # equally near: by their ids
    assert (nearest.cosines == 1).all()


@pytest.mark.parametrize("id", [0, 7, 39])
def test_neighbours_are_those_of_brute_force(id):
    table = random_table(40, 6) - 5
    nearest = neighbours(with_table(table), id, n=12)

    def cosine(other: int) -> float:
        a, b = table[id].tolist(), table[other].tolist()
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    expected = sorted((other for other in range(40) if other != id), key=cosine, reverse=True)[:12]
    assert nearest.ids.tolist() == expected
    np.testing.assert_allclose(nearest.cosines, [cosine(other) for other in expected], rtol=1e-6)


def test_of_a_small_vocabulary_all_others_are_neighbours():
    assert neighbours(with_table(random_table(2, 4)), 1).ids.tolist() == [0]


def test_a_token_of_zeros_is_at_a_right_angle_to_all():
    table = random_table(5, 4)
    table[3] = 0
    assert neighbours(with_table(table), 3).cosines.tolist() == [0, 0, 0, 0]
    assert neighbours(with_table(table), 0).ids[-1] == 3


# --- Positions --------------------------------------------------------------------------------------------------------


def plain_similarity(vectors: np.ndarray) -> list[list[float]]:
    return [[float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)) for b in vectors] for a in vectors]


def test_a_learned_table_is_the_models_own():
    checkpoint = random_checkpoint(LETTERS, position="learned", block_size=12)
    table = positions(checkpoint)
    assert isinstance(table, PositionTable)
    np.testing.assert_array_equal(table.vectors, checkpoint.weights["wpe.weight"].numpy())
    np.testing.assert_allclose(table.similarity, plain_similarity(table.vectors.astype(np.float64)), atol=1e-6)


def test_a_sinusoidal_table_is_the_models_own():
    table = positions(random_checkpoint(LETTERS, position="sinusoidal", block_size=12))
    np.testing.assert_array_equal(table.vectors, sinusoidal_table(12, 16).numpy())
    # Each pair adds cos a cos b + sin a sin b = cos(a - b), and all rows have the length √(C/2).
    for t, s in np.ndindex(12, 12):
        mean = sum(math.cos((t - s) / 10_000 ** (2 * i / 16)) for i in range(8)) / 8
        assert table.similarity[t, s] == pytest.approx(mean, abs=1e-5)


def test_rotations_by_hand():
    seen = positions(random_checkpoint(LETTERS, position="rotary", n_embd=8, n_head=2))
    assert isinstance(seen, Rotations)
    # A head of 4 has two pairs; position t turns the first by t, the second by t / 100. 4 to 7 are beyond half a turn.
    assert seen.angles.shape == (8, 2)
    for t in range(8):
        assert seen.angles[t, 0] == pytest.approx(t if t < 4 else t - 2 * math.pi, abs=1e-5)
        assert seen.angles[t, 1] == pytest.approx(t / 100, abs=1e-6)
        assert seen.similarity[0, t] == pytest.approx((math.cos(t) + math.cos(t / 100)) / 2, abs=1e-6)
    assert np.abs(seen.angles).max() <= math.pi


@pytest.mark.parametrize(("block_size", "n_embd", "n_head"), [(4, 4, 2), (40, 32, 2), (300, 24, 3)])
def test_rotations_are_what_the_model_does(block_size, n_embd, n_head):
    seen = positions(random_checkpoint(LETTERS, position="rotary", block_size=block_size, n_embd=n_embd, n_head=n_head))
    hs = n_embd // n_head
    lying = torch.cat([torch.ones(hs // 2), torch.zeros(hs // 2)]).expand(block_size, hs)  # every pair is (1, 0)
    turned = rotate(lying, *rotary_table(block_size, hs)).numpy()
    np.testing.assert_allclose(np.cos(seen.angles), turned[:, : hs // 2], atol=1e-6)
    np.testing.assert_allclose(np.sin(seen.angles), turned[:, hs // 2 :], atol=1e-6)
    np.testing.assert_allclose(seen.similarity, plain_similarity(turned.astype(np.float64)), atol=1e-6)


def test_without_positions_there_is_nothing_to_show():
    assert positions(random_checkpoint(LETTERS, position="none")) is None


def test_numbers_too_large_to_show_are_refused():
    huge = with_table(3e38 * np.sign(random_table(5, 64) - 5))  # each fits into float32, a token's length does not
    with pytest.raises(BadInput, match="too large to be shown"):
        token_map(huge)
    assert np.isfinite(neighbours(huge, 0).cosines).all()
