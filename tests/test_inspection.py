"""What is shown of a model's inside is what a traced forward pass of that model computes."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from handmade import random_checkpoint
from test_model import every_combination, plain_head, plain_logits, plain_norm, plain_qkv, plain_stream, plain_weights

from playground import inspection
from playground.ablation import switch_off
from playground.checkpoint import Checkpoint
from playground.config import ModelConfig, Recipe, TrainConfig
from playground.corpus import built_in
from playground.errors import BadInput
from playground.generation import next_logits
from playground.inspection import (
    HeadScores,
    head_scores,
    head_stages,
    inspect,
    logit_lens,
    repeated_tokens,
)
from playground.model import GPT, Trace
from playground.tokenizer import BPETokenizer, CharTokenizer, Token, Tokenizer, WordTokenizer
from playground.training import make_trainer, train

TEXT = "to be, or not to be: that is the question."
CHARS = CharTokenizer.train(TEXT)


def make_checkpoint(tokenizer: Tokenizer = CHARS, **shape) -> Checkpoint:
    return random_checkpoint(tokenizer, scale=0.3, **{"block_size": 16, "n_layer": 3, **shape})


def fresh_model(checkpoint: Checkpoint) -> GPT:
    model = GPT(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_attention_and_logits_are_those_of_the_model(position):
    checkpoint, prompt, trace = make_checkpoint(position=position, dropout=0.5), "to be, or not", Trace()
    looked = inspect(checkpoint, prompt)
    logits = fresh_model(checkpoint)(torch.tensor([CHARS.encode(prompt)]), trace)  # (1, T, V)
    T = len(prompt)
    assert looked.attention.shape == (3, 2, T, T) and looked.attention.dtype == np.float32
    assert looked.logits.shape == (T, CHARS.vocab_size) and looked.logits.dtype == np.float32
    for layer in range(3):
        np.testing.assert_allclose(looked.attention[layer], trace.attention[layer][0].numpy(), atol=1e-6)
    np.testing.assert_allclose(looked.logits, logits[0].numpy(), rtol=1e-4, atol=1e-5)


def test_the_first_layers_attention_is_what_its_weights_say():
    checkpoint = make_checkpoint(position="none", norm="rmsnorm", qk_norm=False, bias=False)
    weights = {name: weight.double().numpy() for name, weight in checkpoint.weights.items()}
    ids = CHARS.encode("to be, or")
    x = weights["wte.weight"][ids]  # (T, C)
    x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6) * weights["h.0.ln_1.weight"]
    qkv = x @ weights["h.0.attn.c_attn.weight"].T  # (T, 3 * C), and C is 16: two heads of 8
    attention = inspect(checkpoint, "to be, or").attention[0]  # (nh, T, T)
    for head, query in np.ndindex(2, len(ids)):
        q = qkv[query, 8 * head : 8 * head + 8]
        keys = qkv[:, 16 + 8 * head : 16 + 8 * head + 8]
        powers = [math.exp(q @ keys[key] / math.sqrt(8)) if key <= query else 0.0 for key in range(len(ids))]
        np.testing.assert_allclose(attention[head, query], np.array(powers) / sum(powers), atol=1e-5)


def test_every_row_is_a_distribution_over_the_past():
    attention = inspect(make_checkpoint(), "that is the").attention
    np.testing.assert_allclose(attention.sum(-1), 1.0, rtol=1e-5)
    assert (attention >= 0).all()
    assert (np.triu(attention, 1) == 0).all()
    assert np.ptp(attention[:, :, -1], axis=-1).min() > 0.01  # and not all heads look everywhere alike


def test_a_prompt_within_the_context_is_seen_whole():
    looked = inspect(make_checkpoint(), "to be, or not to")  # 16 characters, the block_size
    assert looked.n_dropped == 0
    assert "".join(token.text for token in looked.tokens) == "to be, or not to"


def test_of_a_longer_prompt_the_end_is_seen():
    checkpoint, prompt = make_checkpoint(), TEXT
    looked = inspect(checkpoint, prompt)
    assert looked.n_dropped == len(TEXT) - 16
    assert "".join(token.text for token in looked.tokens) == TEXT[-16:]
    assert looked.attention.shape == (3, 2, 16, 16)
    end = inspect(checkpoint, TEXT[-16:])
    assert (looked.attention == end.attention).all() and (looked.logits == end.logits).all()


def test_unknown_characters_are_shown_as_they_were_typed():
    looked = inspect(make_checkpoint(), "to Ω")
    known = [Token(CHARS.encode(char)[0], char, "known") for char in "to "]
    assert looked.tokens == [*known, Token(CHARS.unk_id, "Ω", "unknown")]


@pytest.mark.parametrize(
    "tokenizer",
    [CHARS, WordTokenizer.train(TEXT, 12), BPETokenizer.train(TEXT, 260)],
    ids=lambda tokenizer: tokenizer.kind,
)
def test_there_is_one_token_for_every_row(tokenizer):
    prompt = "that is the naïve Ω question, is it not"
    looked, ids = inspect(make_checkpoint(tokenizer), prompt), tokenizer.encode(prompt)
    assert [token.id for token in looked.tokens] == ids[looked.n_dropped :]
    assert len(looked.tokens) == len(looked.logits) == looked.attention.shape[-1] == min(16, len(ids))


@pytest.mark.parametrize("prompt", ["", "ΩЖ"])
def test_a_prompt_with_nothing_known_is_refused(prompt):
    with pytest.raises(BadInput):
        inspect(make_checkpoint(), prompt)


# --- One head, step by step -------------------------------------------------------------------------------------------


def of_config(config: ModelConfig) -> Checkpoint:
    """A random model of this shape; the tokens are its first letters."""
    letters = CharTokenizer.train("abcdefghijklmnopqrstuvwxyz"[: config.vocab_size - 1])
    shape = {name: value for name, value in vars(config).items() if name != "vocab_size"}
    return random_checkpoint(letters, scale=0.3, **shape)


IDS = [3, 1, 4, 1, 5, 2, 0]


@every_combination
def test_every_stage_is_that_of_a_plain_pass(config):
    checkpoint = of_config(config)
    weights, hs = plain_weights(checkpoint.weights), config.head_dim
    stream = [x for x, _ in plain_stream(weights, config, IDS)]
    for layer, head in np.ndindex(config.n_layer, config.n_head):
        x = plain_norm(stream[2 * layer], weights, f"h.{layer}.ln_1", config.norm)
        q, k, v = plain_qkv(x, weights, f"h.{layer}", config, head)
        output, attention = plain_head(q, k, v)
        scores = q @ k.T
        masked = np.where(np.tri(len(IDS), dtype=bool), scores / math.sqrt(hs), -np.inf)
        expected = {
            "query": q,
            "key": k,
            "value": v,
            "scores": scores,
            "scaled": scores / math.sqrt(hs),
            "masked": masked,
            "weights": attention,
            "output": output,
        }
        stages = vars(head_stages(checkpoint, IDS, layer, head))
        assert stages.keys() == expected.keys()
        for name, stage in stages.items():
            assert stage.dtype == np.float32
            np.testing.assert_allclose(stage, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


# --- The residual stream ----------------------------------------------------------------------------------------------


@every_combination
@pytest.mark.parametrize("position", [0, 3, -1])
def test_the_logit_lens_is_that_of_a_plain_pass(config, position):
    checkpoint = of_config(config)
    weights = plain_weights(checkpoint.weights)
    stream = np.stack([x[position] for x, _ in plain_stream(weights, config, IDS)])  # (places, C)
    powers = np.exp(plain_logits(stream, weights, config))
    probs = powers / powers.sum(-1, keepdims=True)
    lens = logit_lens(checkpoint, IDS, position, n=4)
    assert lens.top_ids.shape == lens.top_probs.shape == (2 * config.n_layer + 1, 4)
    np.testing.assert_allclose(lens.top_probs, -np.sort(-probs)[:, :4], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(probs, lens.top_ids, 1), lens.top_probs, rtol=1e-4, atol=1e-6)
    added = np.concatenate([stream[:1], np.diff(stream, axis=0)])
    np.testing.assert_allclose(lens.length, np.linalg.norm(added, axis=1), rtol=1e-4)


def test_the_last_place_of_the_lens_says_what_the_model_says():
    checkpoint = make_checkpoint()
    lens = logit_lens(checkpoint, CHARS.encode("to be"))
    logits = next_logits(checkpoint.model, CHARS.encode("to be")).double().numpy()
    probs = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(lens.top_probs[-1], np.sort(probs)[::-1][:5], rtol=1e-4)


def test_a_vocabulary_smaller_than_the_lens_is_listed_whole():
    assert (
        logit_lens(of_config(ModelConfig(vocab_size=3, block_size=8, n_embd=16, n_head=2)), [0, 1]).top_ids.shape[1]
        == 3
    )


# --- What each head is for --------------------------------------------------------------------------------------------


def test_random_tokens_are_repeated_once():
    ids = repeated_tokens(make_checkpoint())
    assert ids.shape == (16, 16)
    assert torch.equal(ids[:, :8], ids[:, 8:])
    assert all(len(set(row.tolist())) == 8 for row in ids[:, :8])
    assert len({tuple(row.tolist()) for row in ids}) == 16


def test_of_a_model_with_many_heads_fewer_rows_are_traced(monkeypatch):
    monkeypatch.setattr(inspection, "MAX_WEIGHTS", 3 * 6 * 16 * 16 + 1)
    assert repeated_tokens(make_checkpoint()).shape == (3, 16)  # six heads in three layers
    monkeypatch.setattr(inspection, "MAX_WEIGHTS", 1)
    assert repeated_tokens(make_checkpoint()).shape == (1, 16)


@pytest.mark.parametrize(("block_size", "n_letters"), [(4, 20), (5, 20), (64, 4)])
def test_contexts_and_vocabularies_of_any_size_are_scored(block_size, n_letters):
    tokenizer = CharTokenizer.train("abcdefghijklmnopqrst"[:n_letters])
    scores = head_scores(random_checkpoint(tokenizer, block_size=block_size))
    for name, score in vars(scores).items():
        assert score.shape == (2, 2) and np.isfinite(score).all() and (score >= 0).all(), name


def scores_of(look: np.ndarray) -> HeadScores:
    """The scores of a model whose only head attends as `look` (T, T) says, whatever it is given."""
    T = len(look)
    checkpoint = random_checkpoint(CHARS, block_size=T, n_layer=1, n_head=1)

    def pretend(ids: torch.Tensor, trace: Trace) -> None:
        trace.attention.append(torch.tensor(look, dtype=torch.float32).expand(len(ids), 1, T, T))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "model", staticmethod(pretend))
        return head_scores(checkpoint)


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
    scores = scores_of(look)
    assert getattr(scores, name)[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert scores.badge(0, 0) == name


def test_scores_by_hand():
    look = 0.75 * attends(T, lambda q: q - 1) + 0.25 * attends(T, lambda q: 0)
    scores = scores_of(look)
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
    assert scores_of(np.tri(T) / np.arange(1, T + 1)[:, None]).badge(0, 0) == "uniform"


def test_numbers_too_large_to_show_are_refused():
    huge = make_checkpoint(qk_norm=False)
    huge = replace(huge, weights={name: weight * 1e18 for name, weight in huge.weights.items()})
    with pytest.raises(BadInput, match="too large to be shown"):
        logit_lens(huge, CHARS.encode("to be"))
    with pytest.raises(BadInput, match="too large to be shown"):
        head_scores(huge)


def test_a_head_that_does_nothing_clearly_has_no_badge():
    look = (attends(T, lambda q: q) + attends(T, lambda q: q - 7) + attends(T, lambda q: q - 11)) / 3
    assert scores_of(look).badge(0, 0) == ""


# --- A head that learns to copy ---------------------------------------------------------------------------------------


def repeated_half_loss(checkpoint: Checkpoint) -> float:
    """On random tokens that are repeated once, in nats a token of the second half."""
    ids = repeated_tokens(checkpoint)  # (B, 2P)
    P = ids.size(1) // 2
    with torch.inference_mode():
        logits = checkpoint.model(ids)[:, P:-1]  # each of the second half predicts the next of it
    return F.cross_entropy(logits.flatten(0, 1), ids[:, P + 1 :].flatten()).item()


def test_training_on_repeats_makes_an_induction_head():
    model = ModelConfig(block_size=48, n_layer=2, n_head=4, n_embd=64)
    settings = TrainConfig(max_iters=800, learning_rate=0.02, eval_interval=800)
    trainer = make_trainer(built_in("repeats"), Recipe("Test", "char", 300, model, settings), device="cpu")
    before = head_scores(trainer.checkpoint("before"))
    assert before.induction.max() < 0.2
    assert "induction" not in {before.badge(layer, head) for layer in range(2) for head in range(4)}

    for _ in train(trainer):
        pass
    trained = trainer.checkpoint("after")
    scores = head_scores(trained)
    layer, head = np.unravel_index(scores.induction.argmax(), scores.induction.shape)
    assert scores.induction[layer, head] > 0.5 and scores.badge(layer, head) == "induction"
    assert layer == 1  # it needs another head before it, which tells each token what stood before
    losses = [repeated_half_loss(switch_off(trained, [(layer, other)])) for other in range(4)]
    assert np.argmax(losses) == head
    assert losses[head] > repeated_half_loss(trained) + 0.1
