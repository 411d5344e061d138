"""What is shown of a model's inside is what a traced forward pass of that model computes."""

import math

import numpy as np
import pytest
import torch
from handmade import random_checkpoint

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.inspection import inspect
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
