"""What a head is for is told from where it looks; and training makes one that copies."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from handmade import random_checkpoint

from playground import heads
from playground.ablation import switch_off
from playground.checkpoint import Checkpoint
from playground.config import ModelConfig, Recipe, TrainConfig
from playground.corpus import built_in
from playground.errors import BadInput
from playground.heads import HeadScores, head_scores, repeated_tokens
from playground.model import GPT, Trace
from playground.tokenizer import CharTokenizer
from playground.training import make_trainer, train

CHARS = CharTokenizer.train("to be, or not to be: that is the question.")
SHAPE = ModelConfig(vocab_size=CHARS.vocab_size, block_size=16, n_layer=3, n_head=2, n_embd=16)


# --- What each head is for --------------------------------------------------------------------------------------------


def test_random_tokens_are_repeated_once():
    ids = repeated_tokens(SHAPE)
    assert ids.shape == (16, 16)
    assert torch.equal(ids[:, :8], ids[:, 8:])
    assert all(len(set(row.tolist())) == 8 for row in ids[:, :8])
    assert len({tuple(row.tolist()) for row in ids}) == 16


def test_of_a_model_with_many_heads_fewer_rows_are_traced(monkeypatch):
    monkeypatch.setattr(heads, "MAX_WEIGHTS", 3 * 6 * 16 * 16 + 1)
    assert repeated_tokens(SHAPE).shape == (3, 16)  # six heads in three layers
    monkeypatch.setattr(heads, "MAX_WEIGHTS", 1)
    assert repeated_tokens(SHAPE).shape == (1, 16)


@pytest.mark.parametrize(("block_size", "n_letters"), [(4, 20), (5, 20), (64, 4)])
def test_contexts_and_vocabularies_of_any_size_are_scored(block_size, n_letters):
    tokenizer = CharTokenizer.train("abcdefghijklmnopqrst"[:n_letters])
    scores = head_scores(random_checkpoint(tokenizer, block_size=block_size).model)
    for name, score in vars(scores).items():
        assert score.shape == (2, 2) and np.isfinite(score).all() and (score >= 0).all(), name


def scores_if(look: np.ndarray) -> HeadScores:
    """The scores of a model whose only head attends as `look` (T, T) says, whatever it is given."""
    T = len(look)
    model = GPT(ModelConfig(vocab_size=20, block_size=T, n_layer=1, n_head=1))

    def pretend(ids: torch.Tensor, trace: Trace) -> None:
        trace.attention.append(torch.tensor(look, dtype=torch.float32).expand(len(ids), 1, T, T))

    model.forward = pretend
    return head_scores(model)


def attends(T: int, key_of: Callable[[int], int]) -> np.ndarray:
    look = np.zeros((T, T))
    for query in range(T):
        look[query, max(0, key_of(query))] = 1.0
    return look


T, P = 32, 16


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("previous", attends(T, lambda q: q - 1)),
        ("first", attends(T, lambda q: 0)),
        ("same", attends(T, lambda q: q - P)),
        ("induction", attends(T, lambda q: q - P + 1)),
        ("local", attends(T, lambda q: q - 3)),
        ("uniform", np.tri(T) / np.arange(1, T + 1)[:, None]),
    ],
)
def test_a_head_that_does_one_thing_has_its_badge(name, look):
    scores = scores_if(look)
    assert getattr(scores, name)[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert scores.badge(0, 0) == name


def test_scores_by_hand():
    look = 0.75 * attends(T, lambda q: q - 1) + 0.25 * attends(T, lambda q: 0)
    scores = scores_if(look)
    # The second token's previous one is the first of all; the other 30 give 0.75 to the one and 0.25 to the other.
    assert scores.previous[0, 0] == pytest.approx((1 + 30 * 0.75) / 31)
    assert scores.first[0, 0] == pytest.approx((1 + 30 * 0.25) / 31)
    bits = -0.75 * math.log2(0.75) - 0.25 * math.log2(0.25)
    assert scores.entropy[0, 0] == pytest.approx(30 * bits / 31, rel=1e-5)
    assert scores.reach[0, 0] == pytest.approx((1 + sum(0.75 + 0.25 * q for q in range(2, T))) / 31)
    assert scores.local[0, 0] == pytest.approx(0.75)
    assert scores.same[0, 0] == pytest.approx(
        0.25 / 16
    )  # of 16 queries the first: 16 before it stands the first of all
    assert scores.induction[0, 0] == 0
    assert scores.badge(0, 0) == "previous"


@pytest.mark.parametrize("block_size", [4, 8, 16, 32])
def test_a_head_that_looks_everywhere_alike_is_not_local(block_size):
    T = block_size
    assert scores_if(np.tri(T) / np.arange(1, T + 1)[:, None]).badge(0, 0) == "uniform"


def test_numbers_too_large_to_show_are_refused():
    huge = random_checkpoint(CHARS, scale=1e18, qk_norm=False).model
    with pytest.raises(BadInput, match="too large to be shown"):
        head_scores(huge)


def test_a_head_that_does_nothing_clearly_has_no_badge():
    look = (attends(T, lambda q: q) + attends(T, lambda q: q - 7) + attends(T, lambda q: q - 11)) / 3
    assert scores_if(look).badge(0, 0) == ""


# --- A head that learns to copy ---------------------------------------------------------------------------------------


def repeated_half_loss(checkpoint: Checkpoint) -> float:
    """On random tokens that are repeated once, in nats a token of the second half."""
    ids = repeated_tokens(checkpoint.config)  # (B, 2P)
    P = ids.size(1) // 2
    with torch.inference_mode():
        logits = checkpoint.model(ids)[:, P:-1]  # each of the second half predicts the next of it
    return F.cross_entropy(logits.flatten(0, 1), ids[:, P + 1 :].flatten()).item()


def test_training_on_repeats_makes_an_induction_head():
    model = ModelConfig(block_size=48, n_layer=2, n_head=4, n_embd=64)
    settings = TrainConfig(max_iters=800, learning_rate=0.02, eval_interval=800)
    trainer = make_trainer(built_in("repeats"), Recipe("Test", "char", 300, model, settings), device="cpu")
    before = head_scores(trainer.model)
    assert before.induction.max() < 0.2
    assert "induction" not in {before.badge(layer, head) for layer in range(2) for head in range(4)}

    for _ in train(trainer):
        pass
    trained = trainer.checkpoint("after")
    scores = head_scores(trained.model)
    layer, head = np.unravel_index(scores.induction.argmax(), scores.induction.shape)
    assert scores.induction[layer, head] > 0.5 and scores.badge(layer, head) == "induction"
    assert layer == 1  # it needs another head before it, which tells each token what stood before
    losses = [repeated_half_loss(switch_off(trained, [(layer, other)])) for other in range(4)]
    assert np.argmax(losses) == head
    assert losses[head] > repeated_half_loss(trained) + 0.1
