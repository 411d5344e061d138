"""The questions that one look answers: their numbers against plain computations."""

import math
from dataclasses import replace

import pytest
import torch
from handmade import checkpoint_with_logits, random_checkpoint

from playground.course import SECTIONS
from playground.errors import BadInput
from playground.model import GPT
from playground.tokenizer import CharTokenizer
from playground.tries import TRIES, largest_by_chance

TOKENIZER = CharTokenizer.train("abcdefgh")


@pytest.fixture
def checkpoint():
    return random_checkpoint(TOKENIZER)


def test_each_answers_a_question_of_the_course():
    assert set(TRIES) <= {name for section in SECTIONS for name in section.experiments}


def test_hiding_all_but_the_last_token_compares_two_distributions(checkpoint):
    ids = TOKENIZER.encode("abcd")
    answer = TRIES["last_token"](checkpoint, ids)
    whole, alone = (checkpoint.model(torch.tensor([seen]))[0, -1].double().softmax(-1) for seen in (ids, ids[-1:]))
    for column, probs in zip(answer.columns, (whole, alone), strict=True):
        best = sorted(range(len(probs)), key=lambda i: -probs[i].item())[:5]
        assert list(column.ids) == best
        assert column.numbers == pytest.approx([probs[i].item() for i in best])
    shared = sum(min(p, q) for p, q in zip(whole.tolist(), alone.tolist(), strict=True))
    assert f"have {100 * shared:.1f} % in common" in answer.sentence
    with pytest.raises(BadInput, match="write a longer one"):
        TRIES["last_token"](checkpoint, ids[:1])


def test_temperature_keeps_the_order_and_changes_the_sizes():
    checkpoint = checkpoint_with_logits([0.0, math.log(2), math.log(4)], CharTokenizer("ab"))
    answer = TRIES["temperature"](checkpoint, [0])
    assert [column.ids[:3] for column in answer.columns] == [(2, 1, 0)] * 3
    halves, plain, roots = ([x ** (1 / t) for x in (4, 2, 1)] for t in (0.5, 1.0, 2.0))
    for column, weights in zip(answer.columns, (halves, plain, roots), strict=True):
        assert column.numbers[:3] == pytest.approx([w / sum(weights) for w in weights], rel=1e-5)


def test_the_rows_before_training_are_those_that_the_run_began_with(checkpoint):
    seeded = replace(checkpoint, train_config=replace(checkpoint.train_config, seed=7))
    beginning = GPT(checkpoint.config, torch.Generator().manual_seed(7)).wte.weight.detach()
    answer = TRIES["neighbours"](seeded, [3])
    for column, table in zip(answer.columns, (beginning, checkpoint.weights["wte.weight"]), strict=True):
        cosines = torch.nn.functional.cosine_similarity(table[3], table, dim=-1)
        others = [i for i in cosines.argsort(descending=True).tolist() if i != 3][:5]
        assert list(column.ids) == others
        assert column.numbers == pytest.approx(cosines[others].tolist(), abs=1e-5)


def test_what_is_said_of_likeness_follows_the_numbers(checkpoint):
    trained = dict(checkpoint.weights)
    trained["wte.weight"] = torch.eye(checkpoint.config.vocab_size, checkpoint.config.n_embd)
    trained["wte.weight"][1] = 2 * trained["wte.weight"][0]
    assert (
        "Nearer than that is now “b”: training"
        in TRIES["neighbours"](replace(checkpoint, weights=trained), [0]).sentence
    )
    trained["wte.weight"] = torch.eye(
        checkpoint.config.vocab_size, checkpoint.config.n_embd
    )  # no two of them have anything in common
    assert "No row is nearer now" in TRIES["neighbours"](replace(checkpoint, weights=trained), [0]).sentence


@pytest.mark.parametrize(("n_rows", "n_embd"), [(50, 4), (1_000, 64)])
def test_what_comes_by_chance_is_that_of_random_tables(n_rows, n_embd):
    """Against tables that are really drawn: of 40 of them about one in 20 has a nearer row."""
    limit = largest_by_chance(n_rows, n_embd)
    rows = torch.randn(40, n_rows + 1, n_embd, generator=torch.Generator().manual_seed(5))
    rows = rows / rows.norm(dim=-1, keepdim=True)
    nearest = (rows[:, 1:] @ rows[:, :1].transpose(1, 2)).amax((1, 2))  # (40,)
    assert (nearest > limit).sum() <= 8
    assert nearest.max() > limit - 0.1


def test_a_model_that_has_learned_nothing_is_not_told_that_it_has():
    tokenizer = CharTokenizer.train("".join(map(chr, range(65, 165))))
    config = random_checkpoint(tokenizer, n_embd=32).config
    told = 0
    for seed in range(40):
        model = GPT(config, torch.Generator().manual_seed(100 + seed))
        untrained = replace(random_checkpoint(tokenizer, n_embd=32), weights=model.state_dict())
        told += "training has turned" in TRIES["neighbours"](untrained, [seed]).sentence
    assert told <= 6  # by chance about one in 20
