"""Texts in the making against generation itself, and what else could have stood there against plain Python."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from handmade import checkpoint_with_logits, random_checkpoint

from playground.errors import BadInput
from playground.generation import MAX_NEW_TOKENS, Sampling, generate_ids, next_logits, stream_generate
from playground.tokenizer import BPETokenizer, CharTokenizer
from playground.writing import MAX_TYPED, N_ALTERNATIVES, Writer

TEXT = "to be, or not to be: that is the question."
SAMPLING = Sampling(0.9, top_k=6, top_p=0.8)


@pytest.fixture(params=[CharTokenizer.train(TEXT), BPETokenizer.train("ä ö ü " * 50, 270)], ids=["char", "bpe"])
def checkpoint(request):
    return random_checkpoint(request.param)


def written(checkpoint, n: int = 30, seed: int = 1) -> Writer:
    writer = Writer(checkpoint, "to be", seed)
    for _ in range(n):
        writer.draw(SAMPLING)
    return writer


def ids_of(writer: Writer) -> list[int]:
    return [token.id for token in writer.tokens]


def test_it_draws_what_generation_draws(checkpoint):
    writer = written(checkpoint, 40)  # five times the context
    steps = list(stream_generate(checkpoint, "to be", 40, SAMPLING, seed=1))
    assert [(t.id, t.probability) for t in writer.tokens] == [(s.id, s.probability) for s in steps]
    assert "".join(s.text for s in steps).startswith("".join(t.text for t in writer.tokens))  # which has no end yet
    assert not any(token.chosen for token in writer.tokens)


@pytest.mark.parametrize("place", [0, 7, 29])
def test_in_the_middle_it_goes_on_as_if_the_text_so_far_were_the_prompt(checkpoint, place):
    writer = written(checkpoint)
    before, prompt = ids_of(writer)[:place], checkpoint.tokenizer.encode("to be")
    chosen = writer.choose(place, [3, 4], SAMPLING)
    assert writer.tokens[place:] == chosen and [(t.id, t.chosen) for t in chosen] == [(3, True), (4, True)]
    for _ in range(12):
        writer.draw(SAMPLING)
    drawn = generate_ids(checkpoint.model, prompt + before + [3, 4], SAMPLING, seed=1)
    assert ids_of(writer) == [*before, 3, 4, *(i for i, _ in islice(drawn, 12))]
    text, whole = "".join(t.text for t in writer.tokens), checkpoint.tokenizer.decode(ids_of(writer))
    assert whole.removeprefix(text) in ("", "\ufffd")  # of a character that is not complete yet


def test_at_the_end_a_choice_uses_up_no_chance(checkpoint):
    """What is drawn after it has the next of the seed's random numbers, as a second plain loop has them."""
    writer, generator = Writer(checkpoint, "to be", seed=5), torch.Generator().manual_seed(5)
    ids = checkpoint.tokenizer.encode("to be")
    for act in ("draw", "draw", 2, "draw", 0, 1, "draw"):
        if act == "draw":
            token = writer.draw(Sampling(0.9)).id
            probs = (next_logits(checkpoint.model, ids).double() / 0.9).softmax(-1)
            assert token == int(torch.multinomial(probs, 1, generator=generator))
        else:
            token = act
            writer.choose(len(writer.tokens), [token], Sampling(0.9))
        ids = [*ids, token] if len(ids) < 8 else [*ids, token][-4:]  # the window of generation.next_window
    assert len(writer.tokens) == 7


def test_what_else_could_have_stood_there_by_hand():
    """Of logits whose powers are 1, 2, 4, 1: with top-k 3 and top-p 0.8, 2/7 + 4/7 is enough, and 1/8 + 1/8 is lost."""
    letters = CharTokenizer.train("abc")  # and the unknown
    writer = Writer(checkpoint_with_logits([math.log(x) for x in (1, 2, 4, 1)], letters), "a", seed=0)
    sampling = Sampling(top_k=3, top_p=0.8)
    ahead = writer.ahead(sampling)
    assert ahead.ids.tolist() == [2, 1, 0, 3]  # of equal ones the lower id first
    assert ahead.uncut == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert ahead.probs == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert (ahead.n_drawable, ahead.lost) == (2, pytest.approx(0.25))
    [token] = writer.choose(0, [3], sampling)
    assert (token.rank, token.uncut, token.probability) == (4, pytest.approx(0.125), 0)
    assert writer.ahead(Sampling(0.5)).probs == pytest.approx([16 / 22, 4 / 22, 1 / 22, 1 / 22])
    assert (writer.ahead(Sampling(0.5)).lost, writer.ahead(Sampling(0.5)).n_drawable) == (0, 4)
    assert (writer.ahead(Sampling(0)).n_drawable, writer.ahead(Sampling(0)).lost) == (1, 0)


def test_every_token_tells_what_the_model_says_of_its_place(checkpoint):
    writer, ids = written(checkpoint, 4), checkpoint.tokenizer.encode("to be")
    for token in writer.tokens[: 8 - len(ids)]:
        logits = next_logits(checkpoint.model, ids).tolist()
        order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
        total = sum(math.exp(x) for x in logits)
        assert token.rank == 1 + order.index(token.id)
        assert token.uncut == pytest.approx(math.exp(logits[token.id]) / total, rel=1e-4)
        assert token.alternatives.ids.tolist() == order[:N_ALTERNATIVES]
        np.testing.assert_allclose(
            token.alternatives.uncut, [math.exp(logits[i]) / total for i in order[:N_ALTERNATIVES]], rtol=1e-4
        )
        ids = [*ids, token.id]


@pytest.mark.parametrize(
    ("place", "ids"), [(-1, [0]), (6, [0]), (10**9, [0]), (2, []), (2, [-1]), (2, [10**6]), (2, [0, 999])]
)
def test_what_is_not_there_cannot_be_chosen_and_nothing_is_lost(place, ids):
    writer = written(random_checkpoint(CharTokenizer.train(TEXT)), 5)
    before = list(writer.tokens)
    with pytest.raises(BadInput, match="no such token: choose one"):
        writer.choose(place, ids, SAMPLING)
    assert writer.tokens == before


def test_what_a_person_types_becomes_tokens_that_the_model_knows():
    writer = Writer(random_checkpoint(CharTokenizer.train(TEXT)), "to", seed=0)
    assert writer.encode("be") == writer.checkpoint.tokenizer.encode("be")
    for typed in ("", "b" * (MAX_TYPED + 1), "bΩ"):
        with pytest.raises(BadInput):
            writer.encode(typed)


def test_a_text_has_an_end():
    writer = Writer(checkpoint_with_logits([0.0, 0.0], CharTokenizer.train("a")), "a", seed=0)
    for _ in range(MAX_NEW_TOKENS):
        writer.draw(Sampling(0))
    assert writer.room == 0
    with pytest.raises(BadInput, match="begin a new one"):
        writer.draw(Sampling(0))
    assert len(writer.tokens) == MAX_NEW_TOKENS


@pytest.mark.parametrize("seed", [-1, 1.5, None, 2**40])
def test_a_seed_must_be_one(seed):
    with pytest.raises(BadInput, match="seed"):
        Writer(random_checkpoint(CharTokenizer.train(TEXT)), "to", seed)


def test_a_choice_for_which_there_is_no_room_changes_nothing():
    writer = Writer(checkpoint_with_logits([0.0, 1.0], CharTokenizer.train("a")), "a", seed=0)
    for _ in range(MAX_NEW_TOKENS):
        writer.draw(Sampling(0))
    before = list(writer.tokens)
    with pytest.raises(BadInput, match="begin a new one"):
        writer.choose(MAX_NEW_TOKENS - 1, [0, 0], Sampling(0))
    assert writer.tokens == before and writer.edition == 0


def test_a_page_is_given_all_that_it_may_have_missed():
    writer = written(random_checkpoint(CharTokenizer.train(TEXT)), 5)
    assert [writer.agreed(0, cursor) for cursor in (0, 3, 5, 6, -1)] == [0, 3, 5, 0, 0]
    writer.choose(2, [1], SAMPLING)
    assert (writer.agreed(0, 2), writer.agreed(1, 3), writer.agreed(1, 4)) == (0, 3, 0)


def test_a_token_keeps_no_more_than_what_it_shows(checkpoint):
    for token in written(checkpoint, 3).tokens:
        kept = (token.alternatives.ids, token.alternatives.uncut, token.alternatives.probs)
        assert all(array.base is None for array in kept)


def test_each_token_knows_the_settings_that_it_was_drawn_with(checkpoint):
    writer = written(checkpoint, 2)
    writer.draw(Sampling(0))
    assert [token.sampling for token in writer.tokens] == [SAMPLING, SAMPLING, Sampling(0)]


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("logit", [math.inf, math.nan])
def test_a_model_with_numbers_beyond_all_bounds_is_told_of(logit, temperature):
    writer = Writer(checkpoint_with_logits([0.0, logit], CharTokenizer.train("a")), "a", seed=0)
    with pytest.raises(BadInput, match="too large"):
        writer.draw(Sampling(temperature))
