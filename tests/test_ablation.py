"""A model without one of its parts is the plain one with that part left out."""

import math

import numpy as np
import pytest
import torch
from handmade import random_checkpoint
from test_model import every_combination, plain_logits, plain_stream, plain_weights

from playground.ablation import HELD_OUT_TOKENS, held_out_ids, held_out_loss, switch_off, unmask
from playground.checkpoint import Checkpoint
from playground.corpus import Text, split
from playground.errors import BadInput
from playground.inspection import inspect
from playground.tokenizer import CharTokenizer

TEXT = "to be, or not to be: that is the question."
CHARS = CharTokenizer.train(TEXT)


def checkpoint_of(config) -> Checkpoint:
    shape = {name: value for name, value in vars(config).items() if name != "vocab_size"}
    return random_checkpoint(CHARS, scale=0.3, **shape)


def plain_pass(checkpoint: Checkpoint, ids: list[int], **changed) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits (T, V), and attention (nh, T, T) of each layer."""
    weights = plain_weights(checkpoint.weights)
    stream = list(plain_stream(weights, checkpoint.config, ids, **changed))
    return plain_logits(stream[-1][0], weights, checkpoint.config), [heads for _, heads in stream if heads is not None]


def plain_loss(checkpoint: Checkpoint, ids: list[int], **changed) -> float:
    """Mean cross-entropy in windows of `block_size`, what is left over at the end as one more."""
    T, nats = checkpoint.config.block_size, []
    for start in range(0, len(ids) - 1, T):
        window = ids[start : start + T + 1]
        logits, _ = plain_pass(checkpoint, window[:-1], **changed)
        nats += [math.log(np.exp(row).sum()) - row[target] for row, target in zip(logits, window[1:], strict=True)]
    return float(np.mean(nats))


OFF = [
    [(1, 0)],
    [(0, 0), (0, 1)],
    [(0, "mlp")],
    [(0, 1), (1, 1), (1, "mlp")],
]


def without(checkpoint: Checkpoint, off: list[tuple]) -> Checkpoint:
    heads = [(layer, part) for layer, part in off if part != "mlp"]
    return switch_off(checkpoint, heads, [layer for layer, part in off if part == "mlp"])


@every_combination
def test_what_is_switched_off_adds_nothing(config):
    checkpoint, ids = checkpoint_of(config), CHARS.encode(TEXT)
    for off in OFF:
        changed = without(checkpoint, off)
        expected, attention = plain_pass(checkpoint, ids[:7], off=off)
        seen = inspect(changed, TEXT[:7])
        np.testing.assert_allclose(seen.logits, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(seen.attention, attention, atol=1e-5)
        loss = held_out_loss(changed, torch.tensor(ids))
        assert loss == pytest.approx(plain_loss(checkpoint, ids, off=off), abs=1e-5)
        assert abs(loss - held_out_loss(checkpoint, torch.tensor(ids))) > 1e-4


@every_combination
def test_without_the_mask_every_token_sees_all(config):
    checkpoint, ids = checkpoint_of(config), CHARS.encode(TEXT)
    changed = unmask(checkpoint)
    expected, attention = plain_pass(checkpoint, ids[:7], causal=False)
    seen = inspect(changed, TEXT[:7])
    np.testing.assert_allclose(seen.logits, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.attention, attention, atol=1e-5)
    assert np.triu(seen.attention[0, 0], 1).max() > 1e-4
    loss = held_out_loss(changed, torch.tensor(ids))
    assert loss == pytest.approx(plain_loss(checkpoint, ids, causal=False), abs=1e-5)


def test_the_model_itself_stays_as_it_was():
    checkpoint = random_checkpoint(CHARS)
    before, weights = inspect(checkpoint, TEXT), {name: w.clone() for name, w in checkpoint.weights.items()}
    inspect(without(checkpoint, OFF[-1]), TEXT)
    inspect(unmask(checkpoint), TEXT)
    np.testing.assert_array_equal(inspect(checkpoint, TEXT).logits, before.logits)
    assert all(torch.equal(checkpoint.weights[name], weight) for name, weight in weights.items())
    assert switch_off(checkpoint).weights == checkpoint.weights


def test_the_held_out_text_is_the_beginning_of_the_validation_part():
    checkpoint = random_checkpoint(CHARS)
    assert held_out_ids(checkpoint, Text("t", TEXT)).tolist() == CHARS.encode(split(TEXT)[1])
    long = Text("t", TEXT * 3_000)
    assert held_out_ids(checkpoint, long).tolist() == CHARS.encode(split(long.text)[1])[: HELD_OUT_TOKENS + 1]


def test_a_text_of_one_token_has_no_loss():
    with pytest.raises(BadInput, match="too short to measure a loss on"):
        held_out_loss(random_checkpoint(CHARS), torch.tensor([1]))
