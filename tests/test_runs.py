"""Runs: the curve of a plain loop, whoever pauses, re-opens or fills the disk on the way."""

import doctest
import errno
import gc
import json
import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from surroundings import PATIENCE, no_file_beyond, wait_until

from playground import runs
from playground.checkpoint import Checkpoint, TrainStep, to_bytes
from playground.config import Recipe
from playground.corpus import Corpus, Text, reference_losses
from playground.engine import Engine
from playground.errors import BadInput
from playground.generation import write_sample
from playground.runs import FIRST, MAX_RECOVERIES, PAST, POINTS, RECORD, START, STATE, TEXT, Run, past_progress
from playground.training import Trainer, full_loss, get_lr, make_trainer, saved_history, train

SLICE_SECONDS = 0.02  # some steps of the small recipe
POINTS_BYTES = 2**24  # more than all points of it


def settled(run: Run) -> bool:
    """Whether the run's folder says what the run says, which follows a moment later."""
    return json.loads((run.folder / RECORD).read_bytes())["state"] == run.state


def join(run: Run) -> Run:
    wait_until(lambda: not run.active and settled(run), f"the end of {run.name}, which is {run.state},")
    return run


def pause(run: Run, after: int = 0) -> Run:
    """Pauses the run once it has made some steps."""
    wait_until(lambda: run.progress().step >= after, f"step {after}")
    run.pause()
    wait_until(lambda: run.state == "paused" and settled(run), f"the pause of {run.name}, which is {run.state},")
    return run


def without_clock(history: list[TrainStep]) -> list[tuple]:
    return [astuple(replace(step, seconds=0.0)) for step in history]


@contextmanager
def busy(engine: Engine) -> Iterator[None]:
    """The engine's one worker does something else for a while, so nothing that is added begins."""

    class Other:
        memory, begun, may_end = 0, threading.Event(), threading.Event()

        def work(self, over: Callable[[], bool]) -> bool:
            self.begun.set()
            self.may_end.wait(PATIENCE)
            return False

        def leave(self) -> None:
            pass

    other = Other()
    engine.add(other)
    assert other.begun.wait(PATIENCE)
    yield
    other.may_end.set()


@pytest.fixture
def make_engine() -> Iterator[Callable[[], Engine]]:
    """Engines of one worker that are closed when the test ends."""
    engines = []

    def make() -> Engine:
        engines.append(Engine(1, SLICE_SECONDS))
        return engines[-1]

    yield make
    for engine in engines:
        assert engine.close(PATIENCE)


@pytest.fixture
def engine(make_engine) -> Engine:
    return make_engine()


@pytest.fixture
def published() -> list[Checkpoint]:
    return []


@pytest.fixture
def create(tmp_path, engine, published) -> Callable[..., Run]:
    """Makes a run that has not yet begun. Its state is written whenever it may be."""

    def make(
        text: Text,
        recipe: Recipe,
        start: Checkpoint | None = None,
        first: Text | None = None,
        points_bytes: float = POINTS_BYTES,
    ) -> Run:
        folder = tmp_path / "runs" / f"{len(list(tmp_path.glob('runs/*')))}"
        Run.create(folder, text.name, text, recipe, start, 1_000, first)
        return Run(folder, engine, published.append, 0.0, points_bytes)

    return make


@pytest.fixture
def begin(create) -> Callable[..., Run]:
    def make(*arguments, **named) -> Run:
        run = create(*arguments, **named)
        run.begin()
        return run

    return make


@pytest.fixture
def eager_saving(monkeypatch) -> None:
    """A state after every slice, however long that takes."""
    monkeypatch.setattr(runs, "SAVING_SHARE", 1e9)


@pytest.fixture
def dropping_recipe(small_recipe) -> Recipe:
    """60 steps with dropout, since that is what a pause could disturb."""
    model = replace(small_recipe.model, dropout=0.2)
    return replace(small_recipe, model=model, train=replace(small_recipe.train, max_iters=60, eval_interval=30))


@pytest.fixture
def long_recipe(dropping_recipe) -> Recipe:
    """More steps than any test waits for."""
    return replace(dropping_recipe, train=replace(dropping_recipe.train, max_iters=100_000, eval_interval=10))


SHORT = Text("short.txt", "ab")  # as words, no run on it gets further than its first check
OTHER = Text("fox.txt", "The quick brown fox jumps over the lazy dog.\n" * 20)


# --- A run from start to end ------------------------------------------------------------------------------------------


def corpus_of(text: Text, checkpoint: Checkpoint) -> Corpus:
    return Corpus.build(text, checkpoint.tokenizer, checkpoint.config.block_size)


def test_a_run_finishes_and_publishes_its_checkpoint(begin, published, engine, small_text, small_recipe):
    run = join(begin(small_text, small_recipe))
    assert (run.state, run.message, run.name, run.active) == ("finished", "", "verses.txt", False)
    [checkpoint] = published
    assert checkpoint.name == "verses.txt" and checkpoint.step == 30
    assert checkpoint.provenance[0].name == "verses.txt"
    assert (
        checkpoint.val_loss
        == run.progress().final_loss
        == full_loss(checkpoint.model, corpus_of(small_text, checkpoint).val)
    )
    assert checkpoint.history[-1].sample == write_sample(checkpoint.model, checkpoint.tokenizer)

    progress = run.progress()
    assert (progress.name, progress.state, progress.step, progress.max_iters) == ("verses.txt", "finished", 30, 30)
    assert progress.seconds == checkpoint.history[-1].seconds and progress.seconds_left is None
    assert progress.tokens_per_second == pytest.approx(29 * 8 * 16 / (progress.seconds - progress.steps[0].seconds))
    assert progress.references == reference_losses(corpus_of(small_text, checkpoint), checkpoint.config.vocab_size)
    assert progress.references.n_tokens == len(corpus_of(small_text, checkpoint).val) - 1
    assert progress.others == 0 and run.learning_rate is None and run.trainer is None
    wait_until(lambda: engine.n_jobs == 0, "an engine without jobs")


def test_what_stays_of_a_run_that_has_ended_is_its_text_its_past_and_its_points(
    begin, engine, published, small_text, small_recipe
):
    start = published_after(begin, published, small_text, small_recipe)
    run = join(begin(small_text, small_recipe, start=start))
    wait_until(lambda: engine.n_jobs == 0, "an engine without jobs")
    assert {file.name for file in run.folder.iterdir()} == {RECORD, TEXT, PAST, START, POINTS}
    again = Run(run.folder, engine, published.append, 0.0, POINTS_BYTES)
    assert (again.state, again.message, again.name, again.created) == ("finished", "", "verses.txt", run.created)
    assert again.progress() == run.progress() and again.progress(20) == run.progress(20)
    size = start.tokenizer.vocab_size  # tokenizer and model are those it goes on from
    assert again.recipe == replace(small_recipe, tokenizer_vocab_size=size, model=start.config)
    assert again.memory == 1_000


def published_after(begin, published: list[Checkpoint], text: Text, recipe: Recipe) -> Checkpoint:
    join(begin(text, recipe))
    return published.pop()


def test_the_text_comes_back_byte_for_byte(create, small_recipe):
    text = Text(
        "ends.txt", "one\r\ntwo\rthree\n\n🙂 ümläut e\u0301\t\u2028\x0c\ufeff" * 9, "Read as UTF-16-LE, a guess."
    )
    run = create(text, small_recipe)
    assert run.text == text
    assert (run.folder / TEXT).read_bytes() == text.text.encode()


def test_fine_tuning_starts_from_the_checkpoint(begin, published, small_recipe, tiny_checkpoint):
    join(begin(OTHER, small_recipe, start=tiny_checkpoint))
    [tuned] = published
    assert [text.name for text in tuned.provenance] == ["verses.txt", "fox.txt"]
    assert tuned.tokenizer.to_dict() == tiny_checkpoint.tokenizer.to_dict()
    in_a_loop = make_trainer(OTHER, small_recipe, tiny_checkpoint, write_sample)
    list(train(in_a_loop))
    assert without_clock(tuned.history) == without_clock(in_a_loop.history)


# --- Back to an earlier point ----------------------------------------------------------------------------------------


@pytest.fixture
def tuned(begin, small_text, dropping_recipe, tiny_checkpoint) -> Callable[..., Run]:
    """Begins to fine-tune the tiny checkpoint, which is evaluated after 1, 10, …, 60 steps."""
    recipe = replace(dropping_recipe, train=replace(dropping_recipe.train, eval_interval=10))
    return lambda **how: begin(OTHER, recipe, tiny_checkpoint, small_text, **how)


def assert_same_weights(one: Checkpoint, other: dict[str, torch.Tensor]) -> None:
    assert one.weights.keys() == other.keys()
    assert all(torch.equal(weight, other[name]) for name, weight in one.weights.items())


def test_fine_tuning_can_go_back_to_each_of_its_points(tuned, small_text, tiny_checkpoint):
    run = join(tuned())
    assert run.points == [0, 1, 10, 20, 30, 40, 50, 60]
    in_a_loop = make_trainer(OTHER, run.recipe, tiny_checkpoint, write_sample, small_text)
    assert_same_weights(run.point(0), tiny_checkpoint.weights)
    assert run.point(0).past == tiny_checkpoint.past
    for step in train(in_a_loop):
        if step.step not in run.points:
            with pytest.raises(BadInput, match="not kept"):
                run.point(step.step)
            continue
        point = run.point(step.step)
        assert point.name == f"fox.txt, step {step.step}"
        assert_same_weights(point, in_a_loop.model.state_dict())
        assert without_clock(point.history) == without_clock(in_a_loop.history)
        assert point.life.steps[-1] == step.step and point.beginning == in_a_loop.beginning
        assert [text.name for text in point.provenance] == ["verses.txt", "fox.txt"]
    for step in (-1, 70):
        with pytest.raises(BadInput, match="not kept"):
            run.point(step)


def test_progress_has_both_losses_from_before_the_first_step_to_the_end(tuned, make_engine, published, small_text):
    run = join(tuned())
    progress, [kept] = run.progress(), published
    assert progress.beginning == kept.beginning and progress.beginning.first_text == "verses.txt"
    assert progress.text == "fox.txt"
    losses = [progress.beginning.first_val_loss] + [s.first_val_loss for s in progress.steps if s.val_loss is not None]
    assert len(losses) == 8 and losses[-1] > losses[0]
    evaluated = [(s.step, s.val_loss, s.first_val_loss) for s in progress.steps if s.val_loss is not None]
    measured = [(0, progress.beginning.val_loss, losses[0]), *evaluated]
    assert [astuple(point) for point in progress.points] == measured
    assert run.progress(10**9).points == progress.points  # also for whoever has heard of all steps
    assert progress.first_final_loss == full_loss(kept.model, corpus_of(small_text, kept).val)
    again = Run(run.folder, make_engine(), published.append, 0.0, POINTS_BYTES)
    assert again.progress() == progress and again.points == run.points
    assert past_progress(kept) == replace(progress, points=(), message="")


@pytest.mark.usefixtures("eager_saving")
def test_a_fine_tuning_that_crashed_has_the_points_and_the_curve_it_would_have_had(
    tuned, make_engine, published, tmp_path
):
    run = tuned()
    pause(run, after=15)
    crashed = crashed_copy(run.folder, tmp_path / "copy")
    assert run.points == [step for step in (0, 1, 10, 20, 30, 40, 50, 60) if step <= run.progress().step]
    assert run.point(10).step == 10  # while it is paused, too
    run.resume()
    join(run)
    again = Run(crashed, make_engine(), published.append, 0.0, POINTS_BYTES)
    again.resume()
    join(again)
    assert again.points == run.points
    assert without_clock(again.progress().steps) == without_clock(run.progress().steps)
    assert again.progress().beginning == run.progress().beginning
    for step in run.points:
        assert_same_weights(again.point(step), run.point(step).weights)


def test_points_beyond_the_state_that_a_run_goes_on_from_are_of_another_future(tuned, make_engine, published, tmp_path):
    run = pause(tuned(), after=15)
    early = crashed_copy(run.folder, tmp_path / "early")
    n_steps = run.progress().step
    run.resume()
    join(run)
    for point in (run.folder / POINTS).iterdir():
        shutil.copy(point, early / POINTS / point.name)
    again = Run(early, make_engine(), published.append, 0.0, POINTS_BYTES)
    assert again.points == [step for step in run.points if step <= n_steps]


def test_points_are_few_and_take_little_room(tuned, tiny_checkpoint, make_engine, published, monkeypatch):
    size = len(to_bytes(tiny_checkpoint))
    assert join(tuned(points_bytes=4.5 * size)).points == [0, 10, 40, 60]
    assert join(tuned(points_bytes=2.5 * size)).points == [0, 60]
    without = join(tuned(points_bytes=1.5 * size))
    wait_until(lambda: not (without.folder / START).exists(), "the room")
    assert without.points == [] and without.points_bytes == 0 and not (without.folder / POINTS).exists()
    assert "model this large" in without.progress().points_note
    again = Run(without.folder, make_engine(), published.append, 0.0, POINTS_BYTES)
    assert again.progress() == without.progress()
    monkeypatch.setattr(runs, "MAX_POINTS", 3)
    run = join(tuned())
    assert run.points == [0, 30, 60] and run.progress().points_note == ""
    files = [run.folder / START, *(run.folder / POINTS).iterdir()]
    assert run.points_bytes == sum(file.stat().st_size for file in files) and len(files) == 3


def test_points_take_no_more_room_than_there_is_however_they_grow(
    begin, make_engine, published, tuned, tiny_checkpoint
):
    """A start without a history and a life is small; each point has those of the run."""
    start = replace(tiny_checkpoint, life=None, history=())
    size, recipe = len(to_bytes(start)), tuned().recipe

    def files_of(run: Run) -> list[int]:
        return [file.stat().st_size for file in [run.folder / START, *(run.folder / POINTS).iterdir()]]

    run = join(begin(OTHER, recipe, start, points_bytes=6 * size))
    assert sum(files_of(run)) == run.points_bytes <= 6 * size < len(run._point_steps) * max(files_of(run))
    assert len(files_of(run)) == len(run.points) > 3 and {0, 60} < set(run.points)
    again = Run(run.folder, make_engine(), published.append, 0.0, 4 * size)  # the host allows less
    assert sum(files_of(again)) == again.points_bytes <= 4 * size and again.points == [0, 60]
    assert join(begin(OTHER, recipe, start, points_bytes=2 * size)).points == [0]


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(runs).failed == 0


def test_points_stay_where_others_would_be_planned_now(tuned, make_engine, published, monkeypatch):
    monkeypatch.setattr(runs, "MAX_POINTS", 3)
    run = join(tuned())
    assert run.points == [0, 30, 60]
    monkeypatch.setattr(runs, "MAX_POINTS", 4)  # of which the second and third would be after 10 and 40 steps
    again = Run(run.folder, make_engine(), published.append, 0.0, POINTS_BYTES)
    assert again.points == [0, 30, 60] and again.points_bytes == run.points_bytes
    assert again.point(30).step == 30


def test_a_run_from_nothing_has_no_points(begin, small_text, small_recipe):
    run = join(begin(small_text, small_recipe))
    assert run.points == [] and run.progress().beginning is None and run.progress().points_note == ""


@pytest.mark.parametrize("first", [True, False])
def test_a_run_says_when_it_cannot_measure_what_is_forgotten(first, begin, small_text, small_recipe, tiny_checkpoint):
    run = join(begin(OTHER, small_recipe, tiny_checkpoint, small_text if first else None))
    assert ("is not measured" in run.message) is not first
    assert (run.progress().beginning.first_text is None) is not first
    again = join(begin(small_text, small_recipe, tiny_checkpoint))  # the same text once more
    assert again.message == "" and again.progress().beginning.first_text is None


# --- Progress ---------------------------------------------------------------------------------------------------------


def test_progress_tells_what_is_new_since_a_cursor(begin, small_text, small_recipe):
    run = join(begin(small_text, small_recipe))
    everything = run.progress(0)
    assert [step.step for step in everything.steps] == list(range(1, 31))
    assert everything.cursor == 0

    news = run.progress(20)
    assert news.cursor == 20 and news.steps == everything.steps[20:]
    assert news.step == 30

    for cursor in (30, 31, 10**9):
        assert run.progress(cursor).cursor == 30 and run.progress(cursor).steps == []
    assert run.progress(-5) == everything


def test_progress_while_it_goes_on_loses_no_step(begin, small_text, long_recipe):
    run, steps = begin(small_text, long_recipe), []
    assert run.progress().step >= 0  # even before the trainer is there
    while len(steps) < 50:
        progress = run.progress(len(steps))
        assert progress.cursor == len(steps)
        steps += progress.steps
        time.sleep(0.005)
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))


class Bystander:
    """A job that takes its turns and does nothing."""

    def work(self, over: Callable[[], bool]) -> bool:
        time.sleep(0.001)
        return True

    def leave(self) -> None:
        pass


def test_the_time_left_counts_those_who_share_the_machine(begin, engine, small_text, long_recipe):
    run = begin(small_text, long_recipe)
    for others in (0, 1, 2):
        wait_until(lambda: run.progress().step >= 3 and run.state == "running", "step 3")
        progress = run.progress()
        first, *_, last = progress.steps  # the first evaluates and allocates, so it is not counted
        pace = (others + 1) * (last.seconds - first.seconds) / (progress.step - 1)
        assert progress.others == others
        assert progress.seconds_left == pytest.approx(pace * (100_000 - progress.step))
        assert progress.tokens_per_second == pytest.approx(8 * 16 / pace)
        engine.add(Bystander())
    progress = pause(run).progress()  # a run that has paused shares with nobody
    assert progress.others == 0
    pace = (progress.seconds - progress.steps[0].seconds) / (progress.step - 1)
    assert progress.seconds_left == pytest.approx(pace * (100_000 - progress.step))


def test_a_checkpoints_own_history_looks_like_a_run_that_ended(tiny_checkpoint):
    progress = past_progress(tiny_checkpoint, cursor=25)
    assert (progress.name, progress.state, progress.step, progress.max_iters) == ("Verses", "finished", 30, 30)
    assert progress.steps == list(tiny_checkpoint.history[25:]) and progress.cursor == 25
    assert progress.final_loss == tiny_checkpoint.val_loss and progress.seconds_left is None
    assert progress.references == tiny_checkpoint.references
    empty = past_progress(replace(tiny_checkpoint, history=()))
    assert (empty.step, empty.steps, empty.tokens_per_second) == (0, [], 0.0)


# --- Bit for bit ------------------------------------------------------------------------------------------------------


def assert_same_end(run: Run, checkpoint: Checkpoint, in_a_loop: Trainer) -> None:
    assert run.state == "finished", run.message
    assert without_clock(checkpoint.history) == without_clock(in_a_loop.history)
    weights = in_a_loop.model.state_dict()
    assert checkpoint.weights.keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in checkpoint.weights.items())
    assert checkpoint.val_loss == run.progress().final_loss == in_a_loop.val_loss()
    assert run.progress().steps == list(checkpoint.history)


@pytest.fixture
def loop(small_text) -> Callable[..., Trainer]:
    """Trains in a plain loop, with changes of the learning rate before some steps."""

    def make(recipe: Recipe, rates: dict[int, float] | None = None) -> Trainer:
        trainer = make_trainer(small_text, recipe, sampler=write_sample)
        while not trainer.finished:
            if rate := (rates or {}).get(trainer.n_steps + 1):
                trainer.set_learning_rate(rate)
            trainer.step()
        return trainer

    return make


def test_a_run_with_pauses_learns_what_a_loop_learns(begin, published, loop, small_text, dropping_recipe):
    run, n_pauses = begin(small_text, dropping_recipe), 0
    while run.active:
        run.pause()
        wait_until(lambda: run.state == "paused" or not run.active, "the pause")
        n_pauses += run.state == "paused"
        torch.rand(3)
        run.resume()
        seen = run.progress().step
        wait_until(lambda seen=seen: run.progress().step > seen or not run.active, "the next step")
    assert n_pauses >= 3
    assert_same_end(run, published[-1], loop(dropping_recipe))
    assert all(without_clock(c.history) == without_clock(published[-1].history)[: c.step] for c in published)


def crashed_copy(folder: Path, copy: Path) -> Path:
    """What a crash at this moment would leave of a run's folder."""
    copy.mkdir(parents=True)
    for name in (RECORD, TEXT, START, FIRST, STATE, PAST):
        with suppress(FileNotFoundError):
            shutil.copy(folder / name, copy / name)
    if (folder / POINTS).exists():
        shutil.copytree(folder / POINTS, copy / POINTS, ignore=shutil.ignore_patterns("*.unfinished"))
    return copy


@pytest.mark.usefixtures("eager_saving")
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_goes_on_from_its_folder_after_a_crash(
    optimizer, begin, make_engine, loop, small_text, dropping_recipe, tmp_path
):
    recipe = replace(dropping_recipe, train=replace(dropping_recipe.train, optimizer=optimizer, learning_rate=0.005))
    run, copies = begin(small_text, recipe), []
    for i in range(3):
        copies.append(crashed_copy(run.folder, tmp_path / f"copy-{i}"))
        wait_until(lambda i=i: run.progress().step >= 18 * (i + 1) or not run.active, "the next steps")
    in_a_loop, went_on_from = loop(recipe), []
    for folder in copies:
        ends = []
        again = Run(folder, make_engine(), ends.append, 0.0, POINTS_BYTES)
        went_on_from.append(again.progress().step)
        assert again.interrupted and again.state == "paused" and again.trainer is None
        assert again.progress().steps == run.progress().steps[: went_on_from[-1]]
        again.recover()
        assert again.message == f"The server restarted, and this run went on from step {went_on_from[-1]}."
        join(again)
        assert_same_end(again, ends[-1], in_a_loop)
        taken_over = slice(went_on_from[-1])  # by the clock, too: these steps were not taken anew
        assert again.progress().steps[taken_over] == run.progress().steps[taken_over]
    assert went_on_from == sorted(went_on_from) and went_on_from[-1] > 0


@pytest.mark.usefixtures("eager_saving")
def test_a_run_that_paused_goes_on_from_its_folder(begin, make_engine, loop, small_text, dropping_recipe, tmp_path):
    run = pause(begin(small_text, dropping_recipe), after=20)
    ends = []
    again = Run(crashed_copy(run.folder, tmp_path / "copy"), make_engine(), ends.append, 0.0, POINTS_BYTES)
    assert again.state == "paused" and again.progress() == run.progress()
    assert again.progress().references and again.progress().final_loss
    again.resume()
    assert_same_end(join(again), ends[-1], loop(dropping_recipe))
    assert again.message == "" and again.progress().steps[: run.progress().step] == run.progress().steps


def test_what_the_disk_has_of_a_run_that_goes_on_is_recent(begin, small_text, long_recipe):
    """Saving a state takes a twentieth of the time at most, which here is some milliseconds in some hundred."""
    run = begin(small_text, long_recipe)

    def saved_step() -> int:
        return len(runs.saved_history(run.folder / STATE)) if (run.folder / STATE).exists() else 0

    wait_until(lambda: saved_step() > 0, "the first state")
    first = saved_step()
    wait_until(lambda: saved_step() > first, "the next state")


def test_a_state_is_not_written_more_often_than_wanted(tmp_path, engine, small_text, long_recipe):
    Run.create(tmp_path / "run", "Verses", small_text, long_recipe, None, 1_000)
    run = Run(tmp_path / "run", engine, lambda checkpoint: None, save_seconds=3_600.0, points_bytes=POINTS_BYTES)
    run.begin()
    wait_until(lambda: run.progress().step >= 30, "step 30")
    assert not (run.folder / STATE).exists()
    pause(run)
    assert len(runs.saved_history(run.folder / STATE)) == run.progress().step
    run.resume()
    step = run.progress().step
    wait_until(lambda: run.progress().step > step + 5, "five more steps")
    assert engine.close(PATIENCE)  # when the program ends, nothing is lost
    assert len(runs.saved_history(run.folder / STATE)) == run.progress().step > step + 5
    assert json.loads((run.folder / RECORD).read_bytes())["state"] in ("starting", "running")


# --- The learning rate ------------------------------------------------------------------------------------------------


def first_with(rate: float, run: Run) -> int:
    return next(step.step for step in run.progress().steps if step.learning_rate == pytest.approx(rate))


def test_the_learning_rate_can_be_changed_on_the_way(begin, published, loop, small_text, dropping_recipe):
    run = begin(small_text, dropping_recipe)
    wait_until(lambda: run.progress().step >= 10, "step 10")
    run.set_learning_rate(0.0123)
    wait_until(lambda: run.learning_rate != get_lr(run.progress().step, dropping_recipe.train), "the new rate")
    pause(run)
    run.set_learning_rate(0.005)
    run.set_learning_rate(0.0042)  # the last one counts
    paused_at = run.progress().step
    run.resume()
    join(run)
    running_change = first_with(0.0123, run)
    assert 10 <= running_change <= paused_at < 60 and first_with(0.0042, run) == paused_at + 1
    assert_same_end(run, published[-1], loop(dropping_recipe, {running_change: 0.0123, paused_at + 1: 0.0042}))


@pytest.mark.usefixtures("eager_saving")
def test_a_changed_learning_rate_outlives_the_program(begin, make_engine, loop, small_text, dropping_recipe, tmp_path):
    run = pause(begin(small_text, dropping_recipe), after=10)
    paused_at = run.progress().step
    run.set_learning_rate(0.0042)

    second = Run(
        crashed_copy(run.folder, tmp_path / "second"), make_engine(), lambda checkpoint: None, 0.0, POINTS_BYTES
    )
    second.resume()
    wait_until(lambda: second.progress().step >= paused_at + 5, "five more steps")
    folder, ends = crashed_copy(second.folder, tmp_path / "third"), []  # the rate is by now in the state

    third = Run(folder, make_engine(), ends.append, 0.0, POINTS_BYTES)
    third.recover()
    assert_same_end(join(third), ends[-1], loop(dropping_recipe, {paused_at + 1: 0.0042}))


def test_a_learning_rate_is_forgotten_only_when_a_state_remembers_it(
    make_engine, engine, loop, small_text, dropping_recipe, tmp_path
):
    """Right after the change, long before the next state is due, the program ends."""
    Run.create(tmp_path / "run", "Verses", small_text, dropping_recipe, None, 1_000)
    run = Run(tmp_path / "run", engine, lambda checkpoint: None, save_seconds=3_600.0, points_bytes=POINTS_BYTES)
    run.begin()
    wait_until(lambda: run.progress().step >= 10, "step 10")
    run.set_learning_rate(0.0042)
    wait_until(lambda: run.learning_rate != get_lr(run.progress().step, dropping_recipe.train), "the new rate")
    folder, ends = crashed_copy(run.folder, tmp_path / "copy"), []
    again = Run(folder, make_engine(), ends.append, 0.0, POINTS_BYTES)
    again.recover()
    assert_same_end(join(again), ends[-1], loop(dropping_recipe, {first_with(0.0042, run): 0.0042}))


@pytest.mark.parametrize("rate", [0.0, -1.0, 11.0, float("nan"), None])
def test_an_impossible_learning_rate_changes_nothing(rate, begin, published, loop, small_text, dropping_recipe):
    run = pause(begin(small_text, dropping_recipe), after=1)
    with pytest.raises(BadInput, match=r"^The learning rate must be a number from "):
        run.set_learning_rate(rate)
    run.resume()
    assert_same_end(join(run), published[-1], loop(dropping_recipe))


# --- Pause, resume, stop ----------------------------------------------------------------------------------------------


def test_a_pause_publishes_and_holds_still(begin, published, small_text, long_recipe):
    run = pause(begin(small_text, long_recipe), after=3)
    step = run.progress().step
    first = published[-1]
    assert first.name == "verses.txt" and first.step == step >= 3
    assert first.val_loss == run.progress().final_loss == full_loss(first.model, corpus_of(small_text, first).val)
    weights = {name: weight.clone() for name, weight in first.weights.items()}
    time.sleep(0.1)  # some ten steps, were it not to hold
    assert run.state == "paused" and run.active and run.progress().step == step
    assert run.learning_rate == first.history[-1].learning_rate

    run.resume()
    wait_until(lambda: run.progress().step >= step + 5, "five more steps")
    assert run.state == "running" and run.progress().final_loss is None
    assert first.step == step  # which is as it was, though the training goes on
    assert all(torch.equal(weight, weights[name]) for name, weight in first.weights.items())

    pause(run)
    assert published[-1].step == run.progress().step >= step + 5


def test_a_paused_run_takes_no_memory_and_no_place(begin, engine, small_text, long_recipe):
    run = begin(small_text, long_recipe)
    wait_until(lambda: run.trainer, "the trainer")
    trainer, weight = weakref.ref(run.trainer), weakref.ref(run.trainer.model.lm_head.weight)
    pause(run, after=3)
    wait_until(lambda: engine.n_jobs == 0, "an engine without jobs")
    gc.collect()
    assert run.trainer is None and trainer() is None and weight() is None


def test_a_reason_for_a_pause_is_told_until_it_ends(begin, small_text, long_recipe):
    run = begin(small_text, long_recipe)
    run.pause("Nobody looks.")
    run.pause("Nobody looks any more.")  # once is enough
    wait_until(lambda: run.state == "paused", "the pause")
    assert run.progress().message == run.message == "Nobody looks."
    assert json.loads((run.folder / RECORD).read_bytes())["message"] == "Nobody looks."
    run.resume()
    assert run.message == ""


def test_a_pause_before_the_first_step_publishes_nothing(
    create, engine, make_engine, published, loop, small_text, dropping_recipe
):
    run = create(small_text, dropping_recipe)
    with busy(engine):
        run.begin()
        run.pause()
        assert run.state == "pausing"
    wait_until(lambda: run.state == "paused", "the pause")
    assert published == [] and run.progress().step == 0 and run.progress().max_iters == 60
    again = Run(run.folder, make_engine(), published.append, 0.0, POINTS_BYTES)
    assert again.state == "paused" and again.progress().step == 0
    run.resume()
    assert_same_end(join(run), published[-1], loop(dropping_recipe))


@pytest.mark.parametrize("paused", [False, True])
def test_stop_ends_a_run_and_keeps_what_it_learned(paused, begin, published, make_engine, small_text, long_recipe):
    run = begin(small_text, long_recipe)
    wait_until(lambda: run.progress().step >= 3, "step 3")
    if paused:
        pause(run)
    run.stop()
    join(run)
    assert run.state == "stopped" and run.message == "" and run.trainer is None
    assert published[-1].name == "verses.txt" and published[-1].step == run.progress().step >= 3
    run.resume()
    run.pause()
    run.stop()
    assert run.state == "stopped"  # an end is an end
    again = Run(run.folder, make_engine(), published.append, 0.0, POINTS_BYTES)
    assert again.state == "stopped" and again.progress() == run.progress()
    wait_until(lambda: not (run.folder / STATE).exists(), "the room of the state")


@pytest.mark.parametrize("paused", [False, True])
def test_a_run_stopped_before_its_first_step_replaces_no_model(
    paused, create, published, engine, small_text, small_recipe
):
    run = create(small_text, small_recipe)
    with busy(engine):
        run.begin()
        run.pause() if paused else run.stop()
    if paused:
        wait_until(lambda: run.state == "paused", "the pause")
        run.stop()
    join(run)
    assert run.state == "stopped" and published == []
    assert run.progress().step == 0 and run.progress().max_iters == 30
    wait_until(lambda: engine.n_jobs == 0, "an engine without jobs")


@pytest.fixture
def held_while_publishing(tmp_path, engine, small_text, dropping_recipe) -> Iterator[tuple]:
    """A run that is being paused, at the moment when it publishes, which it does not get past before it may."""
    published, may_go_on = [], threading.Event()

    def publish(checkpoint: Checkpoint) -> None:
        published.append(checkpoint)
        assert may_go_on.wait(PATIENCE)

    Run.create(tmp_path / "run", "verses.txt", small_text, dropping_recipe, None, 1_000)
    run = Run(tmp_path / "run", engine, publish, 0.0, POINTS_BYTES)
    run.begin()
    wait_until(lambda: run.progress().step >= 3, "step 3")
    run.pause()
    wait_until(lambda: published, "the checkpoint")
    assert run.state == "pausing"
    yield run, published, may_go_on
    may_go_on.set()


def test_a_run_can_be_resumed_while_it_is_pausing(held_while_publishing, loop, dropping_recipe):
    run, published, may_go_on = held_while_publishing
    run.resume()
    may_go_on.set()
    assert_same_end(join(run), published[-1], loop(dropping_recipe))
    assert 3 <= published[0].step < 60


def test_a_run_can_be_stopped_while_it_is_pausing(held_while_publishing):
    run, published, may_go_on = held_while_publishing
    run.stop()
    may_go_on.set()
    assert join(run).state == "stopped" and published[-1].step == published[0].step


def test_a_run_resumed_and_paused_again_while_it_is_pausing_is_paused(held_while_publishing):
    run, _, may_go_on = held_while_publishing
    run.resume()
    run.pause()
    may_go_on.set()
    wait_until(lambda: run.state == "paused" or not run.active, "the pause")
    assert run.state == "paused"


def test_a_run_resumed_before_the_worker_has_put_it_away_goes_on(
    begin, published, loop, engine, small_text, dropping_recipe, monkeypatch
):
    """The visitor's thread comes between the moment when the run has paused and that when the worker lets go of it."""
    work, resumed = Run._work, threading.Event()

    def work_and_wait(run: Run, over: Callable[[], bool]) -> object:
        result = work(run, over)
        if run.state == "paused" and not resumed.is_set():
            wait_until(lambda: run.state == "starting", "the visitor")
            resumed.set()
        return result

    monkeypatch.setattr(Run, "_work", work_and_wait)
    run = pause(begin(small_text, dropping_recipe), after=3)
    visitor = threading.Thread(target=run.resume, daemon=True)
    visitor.start()
    visitor.join(5)
    assert not visitor.is_alive(), "Resume never comes back"
    assert_same_end(join(run), published[-1], loop(dropping_recipe))
    wait_until(lambda: engine.n_jobs == 0, "an engine without jobs")


# --- Runs that fail ---------------------------------------------------------------------------------------------------


def test_a_text_that_cannot_be_used_says_so(begin, published, small_text, small_recipe):
    run = join(begin(SHORT, replace(small_recipe, tokenizer="word")))
    assert run.state == "failed"
    assert run.message.startswith("short.txt has only 2 tokens") and run.message.endswith(".")
    assert run.progress().message == run.message and run.progress().steps == []
    assert published == []
    assert join(begin(small_text, small_recipe)).state == "finished"  # and the next run is free to go


def test_tokens_that_the_vocabulary_lacks_are_told_of(begin, small_recipe):
    run = join(begin(Text("ends.txt", "abcdefgh " * 100 + "xyz " * 25), small_recipe))
    assert run.state == "finished" and run.progress().references.n_unknown == 75


def test_a_run_that_diverges_in_its_first_step_replaces_no_model(
    begin, published, small_text, small_recipe, tiny_checkpoint
):
    recipe = replace(small_recipe, train=replace(small_recipe.train, optimizer="adam", learning_rate=10.0))
    hopeless = {name: weight * 1e30 for name, weight in tiny_checkpoint.weights.items()}
    run = join(begin(small_text, recipe, start=replace(tiny_checkpoint, weights=hopeless)))
    assert run.state == "failed" and "no longer a finite number" in run.message
    assert published == []


@pytest.fixture
def break_after(monkeypatch) -> Callable[..., None]:
    """Has a step of every run on one text do something else, once the run has made some steps."""

    def change(text: Text, n_steps: int, instead: Callable[[Trainer], object]) -> None:
        step = Trainer.step

        def changed_step(trainer: Trainer) -> TrainStep:
            if trainer.corpus.name == text.name and trainer.n_steps >= n_steps:
                instead(trainer)
            return step(trainer)

        monkeypatch.setattr(Trainer, "step", changed_step)

    return change


def poison(trainer: Trainer) -> None:
    trainer.model.lm_head.weight.data[0, 0] = float("nan")


def assert_last_good_is_kept(run: Run, kept: Checkpoint, text: Text, step: int) -> None:
    """The recipe evaluates at steps 1, 10, 20, …, and the weights of those steps are known to be good."""
    assert run.state == "failed" and run.trainer is None
    assert kept.name == run.name and kept.step == run.progress().step == step
    assert all(weight.isfinite().all() for weight in kept.weights.values())
    assert kept.val_loss == run.progress().final_loss == full_loss(kept.model, corpus_of(text, kept).val)
    assert kept.val_loss == pytest.approx(kept.history[-1].val_loss, rel=1e-3)  # estimated in what the run trains in
    wait_until(lambda: not (run.folder / STATE).exists() and not (run.folder / START).exists(), "the room")


def test_a_run_that_diverges_publishes_its_last_good_weights(
    begin, published, break_after, make_engine, small_text, long_recipe
):
    break_after(small_text, 12, poison)
    run = join(begin(small_text, long_recipe))
    assert "no longer a finite number" in run.message and "learning rate" in run.message
    assert_last_good_is_kept(run, published[-1], small_text, step=10)
    again = Run(run.folder, make_engine(), published.append, 0.0, POINTS_BYTES)
    assert (again.state, again.message) == ("failed", run.message) and again.progress() == run.progress()


@pytest.mark.parametrize("end", ["pause", "stop"])
def test_weights_that_broke_in_the_last_step_before_a_halt_are_not_published(
    end, begin, published, break_after, small_text, long_recipe
):
    """No step comes that would notice."""
    runs_begun = []

    def break_and_halt(trainer: Trainer) -> None:
        trainer.optimizers[0].register_step_post_hook(lambda *_: poison(trainer))
        getattr(runs_begun[0], end)()

    break_after(small_text, 12, break_and_halt)
    runs_begun.append(begin(small_text, long_recipe))
    run = join(runs_begun[0])
    assert "no longer a finite number" in run.message
    assert_last_good_is_kept(run, published[-1], small_text, step=10)


def test_a_run_that_runs_out_of_memory_leaves_the_others_alone(
    begin, published, break_after, loop, small_text, dropping_recipe, long_recipe
):
    break_after(OTHER, 25, lambda trainer: torch.empty(10**15))
    beside, run = begin(small_text, dropping_recipe), begin(OTHER, long_recipe)
    join(run)
    assert run.message == (
        "The server's memory ran out, so training stopped. Try a smaller batch, context or embedding."
    )
    assert_last_good_is_kept(run, next(c for c in published if c.name == run.name), OTHER, step=20)
    join(beside)
    assert_same_end(beside, next(c for c in published if c.name == beside.name), loop(dropping_recipe))


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")], ids=repr)
def test_every_kind_of_memory_that_runs_out_is_told_so(error, begin, break_after, small_text, long_recipe):
    def fail(trainer: Trainer) -> None:
        raise error

    break_after(small_text, 1, fail)
    assert join(begin(small_text, long_recipe)).message.startswith("The server's memory ran out")


@pytest.mark.usefixtures("eager_saving")
def test_a_full_disk_ends_the_run_it_is_full_for(begin, published, loop, small_text, dropping_recipe, long_recipe):
    """The state of the wider model, and nothing else, is larger than the system lets a file become."""
    wide = replace(long_recipe, model=replace(long_recipe.model, n_embd=64))
    beside, run = begin(small_text, dropping_recipe), begin(OTHER, wide)
    wait_until(lambda: run.progress().step, "a step")  # before it there is nothing to keep
    with no_file_beyond(300_000):
        join(run)
        join(beside)
    assert run.message.startswith("The server's disk failed (File too large), so training stopped.")
    assert run.message.endswith("start again when there is room.")
    kept = next(c for c in published if c.name == run.name)
    assert_last_good_is_kept(run, kept, OTHER, step=kept.step)
    assert_same_end(beside, next(c for c in published if c.name == beside.name), loop(dropping_recipe))
    assert {file.name for file in run.folder.iterdir()} == {RECORD, TEXT, PAST}


@pytest.mark.usefixtures("eager_saving")
def test_a_disk_that_refuses_everything_takes_no_worker_away(
    begin, published, loop, small_text, dropping_recipe, long_recipe, monkeypatch
):
    """As one that the system has made read-only after an error."""
    beside, run = begin(small_text, dropping_recipe), begin(OTHER, long_recipe)
    wait_until(lambda: run.progress().step >= 10, "step 10")

    def refusing(method: Callable) -> Callable:
        def refuse(file: Path, *arguments, **named) -> object:
            if run.folder in file.parents:
                raise OSError(errno.EROFS, "Read-only file system")
            return method(file, *arguments, **named)

        return refuse

    for name in ("unlink", "replace", "write_bytes"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    wait_until(lambda: not run.active, "the end of the run")
    assert run.state == "failed" and "Read-only file system" in run.message
    assert next(c for c in published if c.name == run.name).step >= 10
    join(beside)
    assert_same_end(beside, next(c for c in published if c.name == beside.name), loop(dropping_recipe))


def test_a_run_whose_end_the_disk_did_not_take_does_not_begin_anew(
    begin, engine, make_engine, break_after, small_text, long_recipe, monkeypatch
):
    """It has failed and its state is gone; what is left on the disk says that it goes on."""
    write_bytes = runs.write_bytes

    def refuse_records(path: Path, data: bytes) -> None:
        if path.name == RECORD:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_bytes(path, data)

    break_after(small_text, 12, poison)
    run = pause(begin(small_text, long_recipe), after=5)
    run.resume()
    monkeypatch.setattr(runs, "write_bytes", refuse_records)
    wait_until(lambda: run.state == "failed" and not engine.n_jobs, "the end of the run")
    monkeypatch.setattr(runs, "write_bytes", write_bytes)
    again = Run(run.folder, make_engine(), lambda checkpoint: None, 0.0, POINTS_BYTES)
    assert again.progress().step >= 5  # what it had learned is not forgotten


def test_a_run_that_cannot_be_opened_again_keeps_what_it_had_learned(
    begin, published, small_text, long_recipe, monkeypatch
):
    run = pause(begin(small_text, long_recipe), after=12)
    step = run.progress().step

    def out_of_memory(*_, **__) -> None:
        raise MemoryError

    with monkeypatch.context() as short_of_memory:
        short_of_memory.setattr(runs, "make_trainer", out_of_memory)
        run.resume()
        wait_until(lambda: run.message.startswith("The server's memory ran out"), "the failure")
    assert run.state == "paused" and run.message.endswith("Press Resume to try again.")
    assert run.progress().step == step == published[-1].step
    run.resume()
    wait_until(lambda: run.progress().step > step, "another step")
    run.stop()
    join(run)


def test_a_defect_of_ours_is_told_and_logged(begin, engine, published, small_text, small_recipe, monkeypatch, caplog):
    def broken(*_, **__):
        raise ZeroDivisionError("a defect")

    with monkeypatch.context() as broken_for_now, caplog.at_level(logging.ERROR):
        broken_for_now.setattr(runs, "make_trainer", broken)
        run = join(begin(small_text, small_recipe))
    assert run.state == "failed" and run.message.startswith("Training failed by a defect of ours")
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]
    assert published == []
    assert join(begin(small_text, small_recipe)).state == "finished"


def test_a_run_whose_last_good_weights_cannot_be_published_keeps_its_state(
    tmp_path, engine, break_after, small_text, long_recipe, caplog
):
    def refuse(checkpoint: Checkpoint) -> None:
        raise ZeroDivisionError("a defect")

    break_after(small_text, 12, poison)
    Run.create(tmp_path / "run", "verses.txt", small_text, long_recipe, None, 1_000)
    run = Run(tmp_path / "run", engine, refuse, 0.0, POINTS_BYTES)
    run.begin()
    wait_until(lambda: json.loads((run.folder / RECORD).read_bytes())["state"] == "paused", "the end of the attempt")
    assert "no longer a finite number" in run.message and run.message.endswith("Press Resume to try again.")
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]
    assert run.state == "paused"
    assert saved_history(run.folder / STATE)


def test_a_run_at_which_the_server_ends_again_and_again_waits_for_its_visitor(
    tmp_path, engine, small_text, small_recipe
):
    idle = SimpleNamespace(
        add=lambda job: None, crowding=1.0, n_jobs=0
    )  # as if the program ended before the first step
    Run.create(tmp_path / "run", "verses.txt", small_text, small_recipe, None, 1_000)
    for _ in range(MAX_RECOVERIES):
        run = Run(tmp_path / "run", idle, lambda checkpoint: None, 0.0, POINTS_BYTES)
        run.recover()
        assert run.state == "starting"
    run = Run(tmp_path / "run", engine, lambda checkpoint: None, 0.0, POINTS_BYTES)
    run.recover()
    assert run.state == "paused" and run.message == "The server ended 5 times at step 0: press Resume to try again."
    run.resume()
    assert join(run).state == "finished"


def test_a_run_that_memory_and_its_record_tell_apart_is_paused_and_not_lost(tmp_path, engine, small_text, small_recipe):
    """Its record still says that it runs, since the disk was full; nothing in this program works on it."""
    Run.create(tmp_path / "run", "verses.txt", small_text, small_recipe, None, 1_000)
    run = Run(tmp_path / "run", engine, lambda checkpoint: None, 0.0, POINTS_BYTES)
    assert run.state == "paused"
    run.resume()
    assert join(run).state == "finished"


def test_resume_after_a_pause_that_came_too_late_changes_nothing(begin, engine, small_text, small_recipe):
    """The run ends before it sees the pause, which then is still what was wanted last."""
    run = begin(small_text, small_recipe)
    join(run)
    run._wanted = "paused"
    run.resume()
    assert run.state == "finished" and not run.active
