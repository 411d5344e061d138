"""What is shown of a model's inside is what a traced forward pass of that model computes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade import random_checkpoint
from test_model import every_combination, plain_head, plain_logits, plain_norm, plain_qkv, plain_stream, plain_weights

from playground.checkpoint import Checkpoint
from playground.config import ModelConfig
from playground.errors import BadInput
from playground.generation import next_logits
from playground.inspection import (
    head_stages,
    inspect,
    logit_lens,
)
from playground.model import GPT, Trace
from playground.tokenizer import BPETokenizer, CharTokenizer, Token, Tokenizer, WordTokenizer

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


def test_numbers_too_large_to_show_are_refused():
    huge = make_checkpoint(qk_norm=False)
    huge = replace(huge, weights={name: weight * 1e18 for name, weight in huge.weights.items()})
    with pytest.raises(BadInput, match="too large to be shown"):
        logit_lens(huge, CHARS.encode("to be"))
