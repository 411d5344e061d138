"""The reader against the model that it says once more: the same logits, however the text comes to it."""

import numpy as np
import pytest
import torch
from handmade import random_checkpoint
from test_model import COMBINATIONS, every_combination, random_ids, randomised

from playground import reader as reader_module
from playground.config import POSITIONS, ModelConfig
from playground.model import GPT
from playground.reader import Reader
from playground.tokenizer import CharTokenizer


def model_logits(model: GPT, ids: list[int]) -> torch.Tensor:
    """The logits (V,) after `ids`, all of them read at once by the model itself."""
    return model(torch.tensor([ids]))[0, -1].detach()


@every_combination
@pytest.mark.parametrize("pieces", [[8], [1] * 8, [3, 1, 1, 2, 1]], ids=str)
def test_text_in_any_pieces_has_the_models_logits(config, pieces):
    model, ids = randomised(GPT(config)), random_ids(1, 8, config)[0].tolist()
    reader, n_read = Reader(model), 0
    for n in pieces:
        logits = reader.read(ids[n_read : n_read + n])
        n_read += n
        assert reader.length == n_read
        torch.testing.assert_close(logits, model_logits(model, ids[:n_read]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("position", POSITIONS)
def test_work_large_enough_for_torch_has_the_models_logits(position, monkeypatch):
    config = ModelConfig(vocab_size=11, block_size=160, n_layer=2, n_head=2, n_embd=64, position=position)
    model, ids = randomised(GPT(config)), random_ids(1, 160, config)[0].tolist()
    in_torch, from_numpy = [], torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: in_torch.append(array.shape) or from_numpy(array))
    reader, n_read = Reader(model), 0
    for n in (90, 1, 60, 9):
        logits = reader.read(ids[n_read : n_read + n])
        n_read += n
        torch.testing.assert_close(logits, model_logits(model, ids[:n_read]), rtol=1e-9, atol=1e-9)
    assert (90, 64) in in_torch and (2, 60, 151) in in_torch  # tokens times a matrix, attention times the values
    assert (1, 64) not in in_torch  # while one token stays in NumPy


def test_single_precision_is_close():
    checkpoint = random_checkpoint(CharTokenizer.train("abcdefghi"), block_size=64, n_embd=32)
    ids = random_ids(1, 64, checkpoint.config)[0].tolist()
    reader = Reader(checkpoint.model)
    for n in range(1, 65):
        logits = reader.read(ids[n - 1 : n])
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, model_logits(checkpoint.model, ids[:n]), rtol=1e-4, atol=1e-5)


def test_what_is_forgotten_changes_nothing():
    model, ids = randomised(GPT(COMBINATIONS[0])), random_ids(1, 8, COMBINATIONS[0])[0].tolist()
    reader = Reader(model)
    reader.read(ids)
    reader.forget()
    assert torch.equal(reader.read(ids[5:]), Reader(model).read(ids[5:]))


def test_more_than_the_context_is_an_error():
    model = randomised(GPT(COMBINATIONS[0]))
    with pytest.raises(ValueError, match="9 tokens"):
        Reader(model).read([1] * 9)
    reader = Reader(model)
    reader.read([1] * 8)
    with pytest.raises(ValueError, match="9 tokens"):
        reader.read([1])


def test_a_model_in_training_is_read_without_dropout():
    config = ModelConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=12, dropout=0.5)
    model = randomised(GPT(config)).train()
    read = Reader(model).read([1, 2, 3])
    torch.testing.assert_close(read, model_logits(model.eval(), [1, 2, 3]), rtol=1e-9, atol=1e-9)


def test_the_weights_are_the_models_own_memory():
    model = GPT(COMBINATIONS[-1])
    reader = Reader(model)
    ours = {name: weight for name, (weight, _) in reader.parts.items()}
    for name in ("wte", "lm_head", "ln_f", "h.0.attn.c_attn", "h.1.mlp.c_fc"):
        assert np.shares_memory(ours[name], model.get_submodule(name).weight.detach().numpy()), name


def test_readers_of_one_model_do_not_disturb_each_other():
    model, config = randomised(GPT(COMBINATIONS[0])), COMBINATIONS[0]
    texts = [random_ids(1, 8, config, seed)[0].tolist() for seed in (1, 2)]
    readers = [Reader(model), Reader(model)]
    for n in range(8):
        for reader, ids in zip(readers, texts, strict=True):
            logits = reader.read(ids[n : n + 1])
            torch.testing.assert_close(logits, model_logits(model, ids[: n + 1]), rtol=1e-9, atol=1e-9)


def test_each_token_passes_through_the_matrices_once(monkeypatch):
    rows, linear = [], reader_module.linear
    monkeypatch.setattr(reader_module, "linear", lambda x, part: rows.append(len(x)) or linear(x, part))
    reader = Reader(randomised(GPT(COMBINATIONS[0])))
    in_two_layers = 2 * 4  # matrices; and one more gives the last token's logits
    for n in (5, 1, 1):
        rows.clear()
        reader.read([1] * n)
        assert rows == [n] * in_two_layers + [1]
