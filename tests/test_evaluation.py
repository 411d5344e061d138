"""Losses against a loop that predicts one token at a time, and figures worked out by hand."""

import doctest
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gpt2 import save_gpt2
from handmade import checkpoint_with_logits, random_checkpoint
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_model import plain_logits, plain_stream, plain_weights
from test_tokenizer import TRAINED, any_text, without_surrogates

from playground import evaluation, training
from playground.checkpoint import FILE_NAME, Checkpoint, save
from playground.corpus import token_lengths
from playground.errors import BadInput
from playground.evaluation import (
    N_BINS,
    Bin,
    Evaluator,
    evaluate,
    evaluate_in_parts,
)
from playground.interop import open_folder
from playground.model import GPT
from playground.tokenizer import BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer
from playground.training import full_loss

TEXT = "to be, or not to be: that is the question. whether 'tis nobler in the mind to suffer"
CHARS = CharTokenizer.train(TEXT)
BLOCK = 8

with_each_tokenizer = pytest.mark.parametrize(
    "tokenizer",
    [CHARS, WordTokenizer.train(TEXT, 20), BPETokenizer.train(TEXT, 270)],
    ids=lambda tokenizer: tokenizer.kind,
)


def make_checkpoint(tokenizer: Tokenizer = CHARS, **shape) -> Checkpoint:
    return random_checkpoint(tokenizer, block_size=BLOCK, **shape)


def plain_probs(model: GPT, ids: list[int]) -> Iterator[list[float]]:
    """What the model thinks of every entry of its vocabulary before each token but the first, one forward pass each."""
    for t in range(1, len(ids)):
        window_start = (t - 1) // BLOCK * BLOCK
        yield model(torch.tensor([ids[window_start:t]]))[0, -1].double().softmax(0).tolist()


def plain_surprises(model: GPT, ids: list[int]) -> list[float]:
    """How surprised the model is by each token but the first, in nats."""
    return [-math.log(probs[id]) for probs, id in zip(plain_probs(model, ids), ids[1:], strict=True)]


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


# One prediction; less than a window; one window; one and a remainder of one or of seven; several, with and without.
@pytest.mark.parametrize("n_ids", [2, 5, 9, 10, 16, 17, 33, 37, 84])
@pytest.mark.parametrize("batch_tokens", [BLOCK, 3 * BLOCK, 8_192])
def test_the_loss_is_that_of_predicting_one_token_at_a_time(n_ids, batch_tokens, monkeypatch):
    monkeypatch.setattr(training, "EVAL_BATCH_TOKENS", batch_tokens)
    model, ids = make_checkpoint().model, CHARS.encode(TEXT)[:n_ids]
    assert len(ids) == n_ids
    assert full_loss(model, torch.tensor(ids)) == pytest.approx(mean(plain_surprises(model, ids)), rel=1e-5)


def test_a_limited_loss_is_over_windows_spread_evenly():
    model, ids = make_checkpoint().model, CHARS.encode(TEXT)[: 9 * BLOCK + 5]  # windows 0 to 8 and a remainder
    surprises = plain_surprises(model, ids)

    def of_windows(*numbers: int) -> float:
        return mean([s for n in numbers for s in surprises[n * BLOCK : (n + 1) * BLOCK]])

    def limited(max_tokens: int) -> float:
        return full_loss(model, torch.tensor(ids), max_tokens)

    assert limited(3 * BLOCK) == pytest.approx(of_windows(0, 4, 8), rel=1e-5)
    assert limited(5 * BLOCK + 7) == pytest.approx(of_windows(0, 2, 4, 6, 8), rel=1e-5)
    assert limited(1) == pytest.approx(of_windows(0), rel=1e-5)
    for enough in (9 * BLOCK, 10_000):
        assert limited(enough) == pytest.approx(mean(surprises), rel=1e-5)


@pytest.mark.parametrize("was_training", [False, True])
def test_measuring_is_without_dropout_and_leaves_the_model_as_it_was(was_training):
    ids = torch.tensor(CHARS.encode(TEXT))
    model = GPT(make_checkpoint(dropout=0.5).config)
    model.load_state_dict(make_checkpoint().weights)
    model.train(was_training)
    assert full_loss(model, ids) == full_loss(make_checkpoint().model, ids)
    assert {module.training for module in model.modules()} == {was_training}
    assert all(parameter.grad is None for parameter in model.parameters())


@with_each_tokenizer
def test_an_evaluation_is_over_the_whole_text(tokenizer):
    checkpoint, ids = make_checkpoint(tokenizer), tokenizer.encode(TEXT)
    surprises, first = plain_surprises(checkpoint.model, ids), tokenizer.decode(ids[:1])
    figures = evaluate(checkpoint, TEXT)
    assert TEXT.startswith(first)
    assert (figures.n_tokens, figures.n_chars) == (len(ids) - 1, len(TEXT) - len(first))
    assert figures.loss == pytest.approx(mean(surprises), rel=1e-5)
    assert figures.perplexity == pytest.approx(math.exp(mean(surprises)), rel=1e-4)
    assert figures.bits_per_char == pytest.approx(sum(surprises) / math.log(2) / figures.n_chars, rel=1e-5)


def test_figures_worked_out_by_hand():
    # a, b and the unknown one have the probabilities 1/2, 1/4, 1/4. After the first a come a, b, b: 1 + 2 + 2 = 5 bits.
    checkpoint = checkpoint_with_logits([math.log(2), 0.0, 0.0], CharTokenizer.train("ab"))
    figures = evaluate(checkpoint, "aabb")
    assert (figures.n_tokens, figures.n_chars) == (3, 3)
    assert figures.loss == pytest.approx(5 / 3 * math.log(2))
    assert figures.perplexity == pytest.approx(2 ** (5 / 3))
    assert figures.bits_per_char == pytest.approx(5 / 3)


def test_a_model_that_knows_nothing_is_as_unsure_as_its_vocabulary_is_large():
    figures = evaluate(checkpoint_with_logits([0.0] * CHARS.vocab_size, CHARS), TEXT)
    assert figures.loss == pytest.approx(math.log(CHARS.vocab_size))
    assert figures.perplexity == pytest.approx(CHARS.vocab_size)
    assert figures.bits_per_char == pytest.approx(math.log2(CHARS.vocab_size))


def test_bits_per_character_count_the_characters_of_longer_tokens():
    pairs = BPETokenizer.train("abababab", 257)  # "ab" is its only merge
    figures = evaluate(checkpoint_with_logits([0.0] * 257, pairs), "ababab")
    assert (figures.n_tokens, figures.n_chars) == (2, 4)
    assert figures.bits_per_char == pytest.approx(2 * math.log2(257) / 4)


def test_an_unknown_first_word_counts_with_all_its_characters():
    words = WordTokenizer.train(TEXT, 12)
    figures = evaluate(make_checkpoint(words), "zebras to be")
    assert (figures.n_tokens, figures.n_chars) == (2, len(" to be"))


def test_a_hopeless_model_has_an_infinite_perplexity():
    checkpoint = checkpoint_with_logits([0.0, 1e4, 0.0], CharTokenizer.train("ab"))  # quite sure of b
    figures = evaluate(checkpoint, "aaa")
    assert (figures.loss, figures.perplexity, figures.n_tokens, figures.n_chars) == (1e4, math.inf, 2, 2)
    assert figures.bits_per_char == pytest.approx(1e4 / math.log(2))
    assert figures.bins[-1] == Bin(2, 1.0, 0.0) and figures.calibration_error == 1.0


@pytest.mark.parametrize("text", ["", "t"])
def test_a_text_of_fewer_than_two_tokens_is_refused(text):
    for measure in (evaluate, evaluate_in_parts):
        with pytest.raises(BadInput, match="too short to measure"):
            measure(make_checkpoint(), text)
    assert evaluate(make_checkpoint(), "to").n_tokens == 1


# --- Accuracy and calibration -----------------------------------------------------------------------------------------


def test_accuracy_and_calibration_are_those_of_predicting_one_token_at_a_time():
    checkpoint, ids = make_checkpoint(scale=1.0), CHARS.encode(TEXT)
    n_top1, n_top5, by_bin = 0, 0, [[] for _ in range(N_BINS)]
    for probs, id in zip(plain_probs(checkpoint.model, ids), ids[1:], strict=True):
        order = sorted(range(len(probs)), key=probs.__getitem__, reverse=True)
        n_top1, n_top5 = n_top1 + (order[0] == id), n_top5 + (id in order[:5])
        by_bin[int(max(probs) * 10)].append((max(probs), order[0] == id))
    figures, n = evaluate(checkpoint, TEXT), len(ids) - 1
    assert sum(map(bool, by_bin)) >= 4 and 0 < n_top1 < n_top5 < n  # there is something to get wrong
    assert (figures.accuracy, figures.top5_accuracy) == (n_top1 / n, n_top5 / n)
    error = 0.0
    for bin, predicted in zip(figures.bins, by_bin, strict=True):
        assert bin.count == len(predicted)
        if predicted:
            confidence, accuracy = np.mean(predicted, axis=0)
            assert (bin.confidence, bin.accuracy) == (pytest.approx(confidence, rel=1e-5), pytest.approx(accuracy))
            error += len(predicted) / n * abs(accuracy - confidence)
        else:
            assert bin == Bin(0, None, None)
    assert figures.calibration_error == pytest.approx(error, rel=1e-4)


def test_a_model_that_is_always_as_sure_has_one_bin():
    # a has the probability 11/20 and is what comes in two of four cases; b, c and d come before the unknown one.
    checkpoint = checkpoint_with_logits(np.log([11, 3, 2, 2, 2]).tolist(), CharTokenizer.train("abcd"))
    figures = evaluate(checkpoint, "baabd")
    assert (figures.accuracy, figures.top5_accuracy, figures.n_tokens) == (0.5, 1.0, 4)
    assert figures.bins[5] == Bin(4, pytest.approx(0.55), 0.5)
    assert [bin.count for bin in figures.bins] == [0, 0, 0, 0, 0, 4, 0, 0, 0, 0]
    assert figures.calibration_error == pytest.approx(0.05, rel=1e-5)


def test_a_model_that_finds_all_tokens_equally_likely_is_not_always_right():
    figures = evaluate(checkpoint_with_logits([0.0] * CHARS.vocab_size, CHARS), TEXT)
    ids = CHARS.encode(TEXT)[1:]
    assert figures.accuracy == ids.count(0) / len(ids)  # the first entry, as greedy generation takes it
    assert figures.top5_accuracy == sum(id < 5 for id in ids) / len(ids)


def test_the_example_of_the_calibration_error_is_true():
    results = doctest.testmod(evaluation)
    assert results.attempted > 0 and results.failed == 0


def test_numbers_too_large_to_measure_are_refused():
    checkpoint = checkpoint_with_logits([3e38, -3e38, 0.0], CharTokenizer.train("ab"))
    with pytest.raises(BadInput, match="too large"):
        evaluate(checkpoint, "abab")


# --- The figures so far -----------------------------------------------------------------------------------------------


def test_the_figures_so_far_are_those_of_whole_windows_each_taken_once(monkeypatch):
    monkeypatch.setattr(evaluation, "EVAL_BATCH_TOKENS", BLOCK)  # a window a batch
    checkpoint, ids = make_checkpoint(), CHARS.encode(TEXT)  # 83 predictions: ten windows and a remainder of three
    surprises = plain_surprises(checkpoint.model, ids)
    totals = [sum(surprises[i : i + BLOCK]) for i in range(0, len(surprises), BLOCK)]
    taken, n_tokens = [], 0
    for part in evaluate_in_parts(checkpoint, TEXT):
        taken.append(closest(totals, part.loss * part.n_tokens - sum(totals[n] for n in taken)))
        n_tokens += 3 if taken[-1] == 10 else BLOCK
        assert (part.n_tokens, part.share) == (n_tokens, n_tokens / 83)
        assert part.n_chars == part.n_bytes == n_tokens == sum(bin.count for bin in part.bins)
        assert part.loss == pytest.approx(sum(totals[n] for n in taken) / n_tokens, rel=1e-5)
        assert part.perplexity == pytest.approx(math.exp(part.loss))
        assert part.bits_per_char == part.bits_per_byte == pytest.approx(part.loss / math.log(2))
    assert sorted(taken) == list(range(11))
    assert taken != sorted(taken) and taken[-1] == 10
    assert part == evaluate(checkpoint, TEXT)


def closest(numbers: list[float], number: float) -> int:
    distances = [abs(n - number) for n in numbers]
    return distances.index(min(distances))


def test_a_few_windows_are_a_fair_sample(monkeypatch):
    """After a tenth of a text whose second half is harder, the loss is about that of the whole."""
    monkeypatch.setattr(evaluation, "EVAL_BATCH_TOKENS", BLOCK)
    checkpoint = checkpoint_with_logits([1.0, -1.0, 0.0], CharTokenizer.train("ab"))
    parts = list(evaluate_in_parts(checkpoint, "a" * 4_000 + "b" * 4_001))
    a, b = math.log(1 + math.exp(-2) + math.exp(-1)), math.log(1 + math.exp(2) + math.exp(1))  # their losses
    assert len(parts) == 1_000 and parts[-1].loss == pytest.approx((3_999 * a + 4_001 * b) / 8_000)
    assert all(part.loss == pytest.approx(parts[-1].loss, abs=(b - a) / 10) for part in parts[100:])


def test_an_evaluator_goes_on_from_where_it_stood_and_keeps_every_loss(monkeypatch):
    monkeypatch.setattr(evaluation, "EVAL_BATCH_TOKENS", 3 * BLOCK)
    checkpoint, ids = make_checkpoint(), CHARS.encode(TEXT)
    evaluator = Evaluator(checkpoint, TEXT)
    first = next(evaluator.parts())
    assert np.isfinite(evaluator.losses).sum() == first.n_tokens == 3 * BLOCK
    assert np.nanmean(evaluator.losses) == pytest.approx(first.loss, rel=1e-5)
    *_, last = evaluator.parts()
    assert last == evaluate(checkpoint, TEXT)
    assert np.isnan(evaluator.losses[0])
    np.testing.assert_allclose(evaluator.losses[1:], plain_surprises(checkpoint.model, ids), rtol=1e-4, atol=1e-5)
    assert list(evaluator.parts()) == []


# --- Characters and bytes ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt2_tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("gpt2")
    save_gpt2(folder)
    return open_folder(folder.iterdir(), "GPT-2").tokenizer


@given(text=st.lists(any_text | st.just("<|endoftext|>")).map("".join))
@example("")
@example("€")
@example("naïve <|endoftext|> 東京の猫 \ud800 👩‍👩‍👧")
def test_the_lengths_of_a_texts_tokens_are_the_texts_own(gpt2_tokenizer, text):
    for tokenizer in (*TRAINED.values(), gpt2_tokenizer):
        lengths = token_lengths(tokenizer, text, torch.tensor(tokenizer.encode(text), dtype=torch.int64))
        assert lengths.sum(1).tolist() == [len(text), len(without_surrogates(text).encode())]


@given(text=any_text)
def test_a_character_in_several_tokens_counts_where_it_begins(gpt2_tokenizer, text):
    text = without_surrogates(text)
    begins = [len(text[:i].encode()) for i in range(len(text))]  # of every character, in bytes
    for tokenizer in (TRAINED["bpe"], gpt2_tokenizer):
        ids, end = tokenizer.encode(text), 0
        for id, lengths in zip(ids, token_lengths(tokenizer, text, torch.tensor(ids).long()).T.tolist(), strict=True):
            start, end = end, end + len(tokenizer.vocab[id])
            assert lengths == [sum(start <= begin < end for begin in begins), end - start]


def test_bits_per_byte_count_the_bytes_of_every_character():
    # All of three entries are equally likely: log2(3) bits a token.
    figures = evaluate(checkpoint_with_logits([0.0] * 3, CharTokenizer.train("aé")), "aéa東")  # the last is unknown
    assert (figures.n_tokens, figures.n_chars, figures.n_bytes) == (3, 3, 2 + 1 + 3)
    assert figures.bits_per_char == pytest.approx(math.log2(3))
    assert figures.bits_per_byte == pytest.approx(3 * math.log2(3) / 6)


def test_a_text_of_one_character_in_three_tokens_has_bits_for_a_character():
    figures = evaluate(checkpoint_with_logits([0.0] * 256, BPETokenizer([])), "€")
    assert (figures.n_tokens, figures.n_chars, figures.n_bytes) == (2, 0, 2)
    assert (figures.bits_per_char, figures.bits_per_byte) == (pytest.approx(16), pytest.approx(8))


# --- The weights of a saved file, in NumPy ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRAINED)
def test_the_figures_are_those_of_the_saved_weights_in_numpy(kind, tmp_path):
    """What counts is the file: its weights, in a model written in NumPy, one window of the text after the other."""
    checkpoint = make_checkpoint(TRAINED[kind])
    assert_figures_of_the_file(checkpoint, "the cat sat naïvely, and the two mats sat together: 東京! Ω", tmp_path)


def test_the_figures_of_a_trained_model_are_those_of_its_saved_weights(tiny_checkpoint, tmp_path):
    assert_figures_of_the_file(tiny_checkpoint, "the brown goose slept by the door, and the cat hissed", tmp_path)


def assert_figures_of_the_file(checkpoint: Checkpoint, text: str, folder: Path) -> None:
    save(checkpoint, folder / FILE_NAME)
    tensors = load_file(folder / FILE_NAME)
    weights, config, ids = plain_weights(tensors), checkpoint.config, checkpoint.tokenizer.encode(text)
    nats = 0.0
    for start in range(0, len(ids) - 1, config.block_size):
        window = ids[start : min(start + config.block_size, len(ids) - 1)]
        *_, (x, _) = plain_stream(weights, config, window)
        logits = plain_logits(x, weights, config)  # (T, V)
        for row, id in zip(logits, ids[start + 1 :], strict=False):
            nats += np.log(np.exp(row - row.max()).sum()) - (row[id] - row.max())
    n_chars = len(text) - len(checkpoint.tokenizer.tokens(text)[0].text)
    figures = evaluate(checkpoint, text)
    assert figures.perplexity == pytest.approx(math.exp(nats / (len(ids) - 1)), rel=1e-4)
    assert figures.bits_per_char == pytest.approx(nats / math.log(2) / n_chars, rel=1e-4)


@pytest.mark.parametrize(("text", "n_unknown"), [("to be", 0), ("to 中文 be", 2), ("中文中文", 3)])
def test_unknown_tokens_are_counted(text, n_unknown):  # but for the first, which is not predicted
    assert evaluate(make_checkpoint(), text).n_unknown == n_unknown
    assert evaluate(make_checkpoint(BPETokenizer.train(TEXT, 300)), text).n_unknown == 0
