"""Runs side by side: rows worked out by hand, and bits per character against a plain computation."""

import csv
import doctest
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from surroundings import wait_until
from test_evaluation import mean, plain_surprises

from playground import comparison
from playground.checkpoint import Checkpoint, Past, TrainStep
from playground.comparison import Compared, bits_per_nat, compare, differing, distinctions, to_csv
from playground.config import Recipe
from playground.corpus import References, Text, split
from playground.engine import Engine
from playground.evaluation import evaluate
from playground.runs import PAST, RECORD, Run
from playground.training import get_lr

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16}


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(1, 0.02)
    yield engine
    assert engine.close(30)


@pytest.fixture
def published() -> list[Checkpoint]:
    return []


@pytest.fixture
def make_run(tmp_path: Path, engine: Engine, published: list[Checkpoint]) -> Callable[..., Run]:
    """A run that has not begun; with a past, one that has ended with it."""

    def make(text: Text, recipe: Recipe, start: Checkpoint | None = None, past: Past | None = None) -> Run:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        Run.create(folder, f"Run {folder.name}", text, recipe, start, memory=1_000)
        if past:
            (folder / PAST).write_text(json.dumps(past.to_dict()))
            record = json.loads((folder / RECORD).read_text())
            (folder / RECORD).write_text(json.dumps(record | {"state": "stopped"}))
        return Run(folder, engine, published.append, save_seconds=60, points_bytes=0)

    return make


def past_of(recipe: Recipe, losses: dict[int, float | None], **known) -> Past:
    """Steps of a second each, with these validation losses."""
    steps = tuple(
        TrainStep(i, 3.0, get_lr(i, recipe.train), 1.0, float(i), losses.get(i)) for i in range(1, max(losses) + 1)
    )
    return Past(replace(recipe.model, vocab_size=30), recipe.train, steps, **known)


def finished(run: Run) -> Run:
    run.begin()
    wait_until(lambda: not run.active, f"the end of {run.name}")
    assert run.state == "finished", run.message
    return run


def test_a_row_by_hand(make_run, small_text, small_recipe):
    """5 steps of 8 rows of 16 tokens. Its 40 validation tokens after the first stand for 100 characters."""
    references = References(3.4, 3.0, 2.5, n_tokens=40, n_chars=100, n_unknown=3)
    past = past_of(small_recipe, {1: 3.5, 3: 2.25, 5: 2.5}, val_loss=2.0, references=references)
    row = compare([make_run(small_text, small_recipe, past=past)])[0]
    assert (row.name, row.state, row.step, row.tokens, row.seconds) == ("Run 0", "stopped", 5, 5 * 8 * 16, 5.0)
    assert (row.best_loss, row.best_step, row.val_loss, row.n_unknown) == (2.25, 3, 2.0, 3)
    assert row.unknown_share == 3 / 41
    assert (row.best_tokens, row.val_tokens) == (40, 40)
    assert row.bits_per_char == pytest.approx(2.0 / 0.6931471805599453 * 40 / 100)
    assert [(step.step, step.val_loss) for step in row.evaluations] == [(1, 3.5), (3, 2.25), (5, 2.5)]
    assert row.n_params == replace(small_recipe.model, vocab_size=30).n_params
    told = {
        name: row.settings[name] for name in ("text", "text_sha256", "start", "tokenizer", "vocab_size", "max_iters")
    }
    assert told == {
        "text": "verses.txt",
        "text_sha256": small_text.sha256,
        "start": None,
        "tokenizer": "char",
        "vocab_size": 30,
        "max_iters": 30,
    }
    assert row.settings["tokenizer_vocab_size"] is None  # characters do not ask for a number of them


def test_a_loss_is_estimated_on_fewer_tokens_where_a_first_text_shares_them(make_run, small_text, small_recipe):
    """10,000 validation tokens: an evaluation takes 8,192 of them, or 4,096 and as many of the first text."""
    references = References(3.4, 3.0, 2.5, n_tokens=10_000, n_chars=10_000)
    alone = past_of(small_recipe, {1: 3.5}, references=references)
    shared = replace(alone, history=(replace(alone.history[0], first_val_loss=2.0),))
    runs = [make_run(small_text, small_recipe, past=past) for past in (alone, shared)]
    assert [row.best_tokens for row in compare(runs)] == [8_192, 4_096]


def test_what_is_not_known_stays_open(make_run, small_text, small_recipe):
    """A run that has not begun; one whose characters were not counted; one that predicts no character."""
    waiting = compare([make_run(small_text, small_recipe)])[0]
    assert (waiting.step, waiting.tokens, waiting.best_loss, waiting.best_step, waiting.val_loss) == (
        0,
        0,
        None,
        None,
        None,
    )
    assert (waiting.n_unknown, waiting.unknown_share) == (0, 0.0)
    assert waiting.n_params is waiting.bits_per_char is waiting.settings["vocab_size"] is None
    for references in (None, References(3.4, 3.0, 2.5, 40), References(3.4, 3.0, 2.5, 2, n_chars=0)):
        past = past_of(small_recipe, {1: 3.5}, val_loss=2.0, references=references)
        row = compare([make_run(small_text, small_recipe, past=past)])[0]
        assert (row.val_loss, row.bits_per_char) == (2.0, None)


def test_a_run_that_goes_on_has_a_row(make_run, small_text, small_recipe):
    run = make_run(small_text, replace(small_recipe, train=replace(small_recipe.train, max_iters=100_000)))
    run.begin()
    wait_until(lambda: run.progress().step > 20, "some steps")
    row = compare([run])[0]
    assert row.vocabulary.endswith(small_text.sha256) and row.val_tokens is None
    assert row.state == "running" and row.step > 20 and row.best_loss == min(s.val_loss for s in row.evaluations)
    assert row.val_loss is row.bits_per_char is None
    run.stop()
    wait_until(lambda: not run.active, "the end")
    assert compare([run])[0].state == "stopped" and compare([run])[0].bits_per_char > 0


@pytest.mark.parametrize(("tokenizer", "size"), [("char", 0), ("word", 12), ("bpe", 280)])
def test_bits_per_character_are_those_of_the_text_whatever_the_tokens(
    make_run, published, small_recipe, tokenizer, size
):
    """As many bits as predicting one token after the other takes, for each character of the text that stands there."""
    text = Text("goose.txt", "the brown goose hissed, naïve as it was; the grey one slept 東京. " * 30 + "Æ!")
    recipe = replace(
        small_recipe, tokenizer=tokenizer, tokenizer_vocab_size=size, model=replace(small_recipe.model, block_size=8)
    )
    row = compare([finished(make_run(text, recipe))])[0]
    held_out, checkpoint = split(text.text)[1], published[-1]
    ids, first = checkpoint.tokenizer.encode(held_out), checkpoint.tokenizer.tokens(held_out)[0]
    nats = plain_surprises(checkpoint.model, ids)
    n_chars = len(held_out) - len(first.text)
    assert row.bits_per_char == pytest.approx(sum(nats) / math.log(2) / n_chars, rel=1e-5)
    assert row.bits_per_char == pytest.approx(evaluate(checkpoint, held_out).bits_per_char, rel=1e-5)
    assert row.val_loss == pytest.approx(mean(nats), rel=1e-5)
    assert row.n_unknown == ids.count(checkpoint.tokenizer.unk_id)
    assert row.unknown_share == row.n_unknown / len(ids)
    assert (row.n_unknown > 0) == (tokenizer != "bpe")
    assert (row.n_params, row.settings["vocab_size"]) == (checkpoint.config.n_params, checkpoint.tokenizer.vocab_size)


def test_fine_tuning_has_the_tokenizer_and_the_shape_of_its_start(make_run, small_text, small_recipe, tiny_checkpoint):
    recipe = replace(small_recipe, tokenizer="bpe", model=replace(small_recipe.model, n_layer=1, dropout=0.25))
    for run in (make_run(small_text, recipe, tiny_checkpoint), finished(make_run(small_text, recipe, tiny_checkpoint))):
        settings = compare([run])[0].settings
        assert (settings["start"], settings["tokenizer"], settings["n_layer"], settings["dropout"]) == (
            "Verses",
            "char",
            2,
            0.25,
        )


def test_losses_compare_where_the_tokens_were_learned_from_one_text(
    make_run, small_text, small_recipe, tiny_checkpoint
):
    """As many tokens of one kind are others if they come from another text: from the one that a start began with."""
    learned = tiny_checkpoint.provenance[0]
    other_start = replace(tiny_checkpoint, provenance=(replace(learned, sha256="0" * 64), learned))
    starts = tiny_checkpoint, tiny_checkpoint, other_start, None  # which learned from this very text
    rows = compare([finished(make_run(small_text, small_recipe, start)) for start in starts])
    one, same, other, scratch = (row.vocabulary for row in rows)
    assert one == same == scratch != other
    assert len({row.settings["vocab_size"] for row in rows}) == 1
    deeper = replace(small_recipe, model=replace(small_recipe.model, n_layer=1))
    assert compare([finished(make_run(small_text, deeper))])[0].vocabulary == scratch


def test_a_learning_rate_changed_on_the_way_is_told(make_run, small_text, small_recipe):
    past = past_of(small_recipe, {5: 2.5})
    changed = replace(past, history=(*past.history[:-1], replace(past.history[-1], learning_rate=0.001)))
    rows = compare([make_run(small_text, small_recipe, past=p) for p in (past, changed)])
    assert [row.settings["learning_rate_changed"] for row in rows] == [False, True]
    assert differing(rows) == ["learning_rate_changed"]


def test_only_the_settings_that_differ_are_named(make_run, small_text, small_recipe):
    def row(text: Text = small_text, **changes) -> Compared:
        recipe = replace(small_recipe, **changes)
        return compare([make_run(text, recipe, past=past_of(recipe, {1: 2.0}))])[0]

    wide = replace(small_recipe.model, n_embd=32)
    fast = replace(small_recipe.train, learning_rate=0.1, seed=5)
    assert differing([]) == differing([row()]) == differing([row(), row()]) == []
    assert differing([row(), row(model=wide), row(train=fast)]) == ["n_embd", "learning_rate", "seed"]
    assert differing([row(), row(tokenizer="word", tokenizer_vocab_size=99)]) == ["tokenizer"]
    other = Text("other.txt", "abc")
    assert differing([row(), row(other)]) == ["text"]
    same_name = Text(small_text.name, "abc")
    assert differing([row(), row(same_name)]) == ["text_sha256"]
    assert differing([row(), row(same_name), row(other)]) == ["text", "text_sha256"]


def test_what_a_runs_name_tells_is_named_only_where_a_long_name_was_cut(make_run, small_text, small_recipe):
    rows = [compare([make_run(text, small_recipe)])[0] for text in (small_text, Text("other.txt", "abc"))]
    rows = [replace(row, name=f"{row.settings['text']} (2)") for row in rows]
    assert differing(rows) == []
    assert differing([rows[0], replace(rows[1], name="other.t")]) == ["text"]
    tuned = [replace(row, name=f"A → {row.name}", settings=row.settings | {"start": "A"}) for row in rows]
    assert differing([*rows, *tuned]) == []
    assert differing([*rows, *tuned, replace(tuned[0], name="verses.txt")]) == ["start"]


def test_runs_are_told_apart_by_what_differs_from_the_reference(make_run, small_text, small_recipe):
    """The reference has 2 layers, a learning rate of 0.01, and characters for tokens; seeds differ nowhere."""

    def row(past: bool = True, **changes) -> Compared:
        model = replace(small_recipe.model, **{n: v for n, v in changes.items() if n in vars(small_recipe.model)})
        train = replace(small_recipe.train, **{n: v for n, v in changes.items() if n in vars(small_recipe.train)})
        recipe = replace(small_recipe, tokenizer=changes.get("tokenizer", "char"), model=model, train=train)
        references = References(3.4, 3.0, 2.5, n_tokens=40)
        ended = past_of(recipe, {1: 2.0}, references=references) if past else None
        return compare([make_run(small_text, recipe, past=ended)])[0]

    base = {"n_layer": 2, "learning_rate": 0.01, "qk_norm": True}
    first, same = row(**base), row(**base)
    deep = row(**(base | {"n_layer": 4, "learning_rate": 0.001}))
    flat = row(**(base | {"n_layer": 1, "qk_norm": False}))
    words = row(**base, tokenizer="word")
    assert distinctions([first], first) == ["reference"]
    assert distinctions([first, same], first) == ["reference", "same settings"]
    assert distinctions([first, deep, flat, same, words], first) == [
        "reference: char tokens, 2 layers, qk-norm, lr 0.01",
        "4 layers, lr 0.001",
        "1 layer, no qk-norm",
        "same settings",
        "word tokens",
    ]
    assert distinctions([first, deep], deep) == ["2 layers, lr 0.01", "reference: 4 layers, lr 0.001"]
    other = row(
        **(base | {"n_layer": 3, "n_head": 4, "n_embd": 32, "dropout": 0.5, "norm": "layernorm", "max_iters": 7})
    )
    assert distinctions([other, first], first)[0] == "3 layers, 4 heads, d_model 32, dropout 0.5, 2 more"
    waiting = row(past=False, **base)  # whose tokenizer is not made yet
    assert distinctions([first, waiting], first) == ["reference: vocabulary 30", "same settings"]


def test_every_setting_can_be_told_in_words(make_run, small_text, small_recipe):
    row = compare([make_run(small_text, small_recipe, past=past_of(small_recipe, {1: 2.0}))])[0]
    told = {name: comparison.in_words(name, value) for name, value in row.settings.items() if value is not None}
    assert all(told.values()) and len(set(told.values())) == len(told)
    assert set(comparison.WORDS) <= set(row.settings)


def test_the_csv_has_every_number_as_it_is_and_no_formula(make_run, small_recipe):
    names = ['=HYPERLINK("http://x")', "+1", " -1", "@SUM(A1)", 'plain, "quoted"\nname = 2']
    references = References(3.4, 3.0, 2.5, n_tokens=40, n_chars=100)
    past = past_of(small_recipe, {1: 1 / 3}, val_loss=2 / 3, references=references)
    rows = compare([make_run(Text(name, "abc"), small_recipe, past=past) for name in names])
    rows = [replace(row, name=name) for row, name in zip(rows, names, strict=True)]
    lines = list(csv.DictReader(io.StringIO(to_csv(rows), newline="")))
    assert [line["text"] for line in lines] == [line["name"] for line in lines]
    assert [line["name"] for line in lines] == [*(f"'{name}" for name in names[:4]), names[4]]
    for line, row in zip(lines, rows, strict=True):
        assert set(line) == {"name", "state", *row.settings, *comparison.RESULTS}
        assert float(line["val_loss"]) == 2 / 3 and float(line["best_loss"]) == 1 / 3  # not rounded
        assert float(line["bits_per_char"]) == row.bits_per_char
        assert (line["n_layer"], line["qk_norm"], line["start"]) == ("2", "True", "")
    assert to_csv([]).strip() == ""


def test_the_examples_hold():
    assert doctest.testmod(comparison).failed == 0
    assert bits_per_nat(None) is None
