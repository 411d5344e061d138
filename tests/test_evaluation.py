"""Losses against a loop that predicts one token at a time, and figures worked out by hand."""

import math

import pytest
import torch
from handmade import checkpoint_with_logits, random_checkpoint

from playground import training
from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.evaluation import Evaluation, evaluate
from playground.model import GPT
from playground.tokenizer import BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer
from playground.training import full_loss

TEXT = "to be, or not to be: that is the question. whether 'tis nobler in the mind to suffer"
CHARS = CharTokenizer.train(TEXT)
BLOCK = 8


def make_checkpoint(tokenizer: Tokenizer = CHARS, **shape) -> Checkpoint:
    return random_checkpoint(tokenizer, block_size=BLOCK, **shape)


def plain_surprises(model: GPT, ids: list[int]) -> list[float]:
    """How surprised the model is by each token but the first, in nats, one forward pass each."""
    surprises = []
    for t in range(1, len(ids)):
        window_start = (t - 1) // BLOCK * BLOCK
        logits = model(torch.tensor([ids[window_start:t]]))[0, -1].double()
        surprises.append((logits.logsumexp(0) - logits[ids[t]]).item())
    return surprises


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


@pytest.mark.parametrize(
    "tokenizer",
    [CHARS, WordTokenizer.train(TEXT, 20), BPETokenizer.train(TEXT, 270)],
    ids=lambda tokenizer: tokenizer.kind,
)
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
    assert figures == Evaluation(1e4, math.inf, pytest.approx(1e4 / math.log(2)), 2, 2)


@pytest.mark.parametrize("text", ["", "t"])
def test_a_text_of_fewer_than_two_tokens_is_refused(text):
    with pytest.raises(BadInput, match="too short to measure"):
        evaluate(make_checkpoint(), text)
    assert evaluate(make_checkpoint(), "to").n_tokens == 1
