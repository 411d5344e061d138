"""Runs that go on in threads, and the workspaces of visitors who must never meet."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace

import pytest
import torch

from playground import runs
from playground.checkpoint import Checkpoint, TrainStep
from playground.corpus import Corpus, Text, reference_losses
from playground.errors import BadInput
from playground.generation import write_sample
from playground.runs import MAX_CHECKPOINTS, MAX_RUNS, Run, Workspace, Workspaces, past_progress
from playground.training import full_loss, make_trainer, train

PATIENCE = 60  # seconds that anything here may take before the test counts as failed


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.005)


def join(run: Run) -> Run:
    """Waits until the run's thread has ended."""
    for thread in threading.enumerate():
        if thread.name == f"run-{run.id[:6]}":
            thread.join(PATIENCE)
    assert not run.active, f"{run.name} is still {run.state}"
    return run


def pause(run: Run, after: int = 0) -> Run:
    """Pauses the run once it has made some steps."""
    wait_until(lambda: run.progress().step >= after, f"step {after}")
    run.pause()
    wait_until(lambda: run.state == "paused", "the pause")
    return run


def without_clock(history: list[TrainStep]) -> list[tuple]:
    return [astuple(replace(step, seconds=0.0)) for step in history]


@pytest.fixture
def visitors(tiny_checkpoint) -> Iterator[Workspaces]:
    """Workspaces whose runs end with the test."""
    visitors = Workspaces({"Shipped": tiny_checkpoint})
    entered, enter = [], visitors.enter

    def remembering_enter(key: object) -> tuple[str, Workspace]:
        entered.append(enter(key))
        return entered[-1]

    visitors.enter = remembering_enter
    yield visitors
    for _, workspace in entered:
        for run in list(workspace.runs.values()):
            run.stop()
            join(run)


@pytest.fixture
def workspace(visitors) -> Workspace:
    return visitors.enter(None)[1]


@pytest.fixture
def long_recipe(small_recipe):
    """More steps than any test waits for. With dropout, since that is what a pause could disturb."""
    model = replace(small_recipe.model, dropout=0.2)
    return replace(small_recipe, model=model, train=replace(small_recipe.train, max_iters=100_000))


SHORT = Text("short.txt", "ab")  # as words, no run on it gets further than its first check


# --- A run from start to end ------------------------------------------------------------------------------------------


def corpus_of(text: Text, checkpoint: Checkpoint) -> Corpus:
    return Corpus.build(text, checkpoint.tokenizer, checkpoint.config.block_size)


def test_a_run_finishes_and_publishes_its_checkpoint(workspace, small_text, small_recipe):
    run = join(workspace.start(small_text, small_recipe))
    assert (run.state, run.message, run.name) == ("finished", "", "verses.txt")
    assert workspace.run(run.id) is run and run.text is small_text

    published = workspace.current
    assert published is workspace.checkpoints["verses.txt"]
    assert published.step == 30 and published.provenance[0].name == "verses.txt"
    assert (
        published.val_loss
        == run.progress().final_loss
        == full_loss(published.model, corpus_of(small_text, published).val)
    )
    assert published.history[-1].sample == write_sample(published.model, published.tokenizer)

    progress = run.progress()
    assert (progress.name, progress.state, progress.step, progress.max_iters) == ("verses.txt", "finished", 30, 30)
    assert progress.seconds == published.history[-1].seconds and progress.seconds_left is None
    assert progress.tokens_per_second == pytest.approx(30 * 8 * 16 / progress.seconds)
    assert progress.references == reference_losses(corpus_of(small_text, published), published.config.vocab_size)
    assert progress.final_loss == published.val_loss
    assert progress.references.n_tokens == len(corpus_of(small_text, published).val) - 1


def test_a_run_in_a_thread_learns_what_a_loop_learns(workspace, small_text, small_recipe):
    """Pauses and learning-rate changes of others, and the thread itself, make no difference to a single bit."""
    recipe = replace(small_recipe, model=replace(small_recipe.model, dropout=0.2))
    in_a_loop = make_trainer(small_text, recipe, sampler=write_sample)
    list(train(in_a_loop))

    run = workspace.start(small_text, recipe)
    while run.active:
        run.pause()
        wait_until(lambda: run.state == "paused" or not run.active, "the pause")
        torch.rand(3)
        run.resume()
        seen = run.progress().step
        wait_until(lambda seen=seen: run.progress().step > seen or not run.active, "the next step")

    assert without_clock(join(run).checkpoint.history) == without_clock(in_a_loop.history)
    weights = in_a_loop.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in workspace.current.weights.items())


def test_progress_tells_what_is_new_since_a_cursor(workspace, small_text, small_recipe):
    run = join(workspace.start(small_text, small_recipe))
    everything = run.progress(0)
    assert [step.step for step in everything.steps] == list(range(1, 31))
    assert everything.cursor == 0 and everything.n_evaluated_before == 0

    news = run.progress(20)
    assert news.cursor == 20 and news.steps == everything.steps[20:]
    assert news.step == 30
    assert news.n_evaluated_before == 3  # at steps 1, 10 and 20

    for cursor in (30, 31, 10**9):
        assert run.progress(cursor).cursor == 30 and run.progress(cursor).steps == []
    assert run.progress(-5) == everything


def test_progress_while_it_goes_on_loses_no_step(workspace, small_text, long_recipe):
    run, steps = workspace.start(small_text, long_recipe), []
    assert run.progress().step >= 0  # even before the trainer is there
    while len(steps) < 50:
        progress = run.progress(len(steps))
        assert progress.cursor == len(steps)
        steps += progress.steps
        time.sleep(0.005)
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    assert run.progress().seconds_left > 0


def test_a_checkpoints_own_history_looks_like_a_run_that_ended(tiny_checkpoint):
    progress = past_progress(tiny_checkpoint, cursor=25)
    assert (progress.name, progress.state, progress.step, progress.max_iters) == ("Verses", "finished", 30, 30)
    assert progress.steps == list(tiny_checkpoint.history[25:]) and progress.cursor == 25
    assert progress.final_loss == tiny_checkpoint.val_loss and progress.seconds_left is None
    empty = past_progress(replace(tiny_checkpoint, history=()))
    assert (empty.step, empty.steps, empty.tokens_per_second) == (0, [], 0.0)


# --- Pause, resume, stop ----------------------------------------------------------------------------------------------


def test_a_pause_publishes_and_holds_still(workspace, small_text, long_recipe):
    run = pause(workspace.start(small_text, long_recipe), after=3)
    step = run.progress().step
    published = workspace.current
    assert published.name == "verses.txt" and published.step == step >= 3
    assert published.val_loss == run.progress().final_loss == run.trainer.val_loss()
    weights = {name: weight.clone() for name, weight in published.weights.items()}
    time.sleep(0.1)  # some ten steps, were it not to hold
    assert run.state == "paused" and run.active and run.progress().step == step

    run.resume()
    wait_until(lambda: run.progress().step >= step + 5, "five more steps")
    assert run.state == "running"
    assert published.step == step  # which is as it was, though the training goes on
    assert all(torch.equal(weight, weights[name]) for name, weight in published.weights.items())

    pause(run)
    assert workspace.current.step == run.progress().step >= step + 5
    assert list(workspace.checkpoints) == ["Shipped", "verses.txt"]  # in place of the first, not beside it


@pytest.mark.parametrize("paused", [False, True])
def test_stop_ends_a_run_and_keeps_what_it_learned(paused, workspace, small_text, long_recipe):
    run = workspace.start(small_text, long_recipe)
    wait_until(lambda: run.progress().step >= 3, "step 3")
    if paused:
        pause(run)
    run.stop()
    join(run)
    assert run.state == "stopped" and run.message == ""
    assert workspace.current.name == "verses.txt" and workspace.current.step == run.progress().step >= 3
    run.resume()
    run.pause()
    assert run.state == "stopped"  # an end is an end


def test_the_workspace_passes_its_buttons_on_to_the_active_run(workspace, small_text, long_recipe):
    for press in (workspace.pause, workspace.resume, workspace.stop):
        press()  # with no run there is nothing to do
    with pytest.raises(BadInput, match="No run is going"):
        workspace.set_learning_rate(0.01)

    run = workspace.start(small_text, long_recipe)
    wait_until(lambda: run.progress().step >= 1, "the first step")
    workspace.pause()
    wait_until(lambda: run.state == "paused", "the pause")
    workspace.set_learning_rate(0.005)
    step = run.progress().step
    workspace.resume()
    wait_until(lambda: run.progress().step > step, "the next step")
    workspace.stop()
    join(run)
    before, after = run.progress(step - 1).steps[:2]
    assert after.learning_rate == pytest.approx(0.005) != before.learning_rate


def test_one_run_at_a_time(workspace, small_text, small_recipe, long_recipe):
    first = pause(workspace.start(small_text, long_recipe), after=1)
    assert workspace.active_run is first
    with pytest.raises(BadInput, match="still going"):
        workspace.start(small_text, small_recipe)
    assert list(workspace.runs) == [first.id]
    first.stop()
    join(first)
    second = join(workspace.start(small_text, small_recipe))
    assert second.name == "verses.txt (2)" and workspace.active_run is None
    assert list(workspace.checkpoints) == ["Shipped", "verses.txt", "verses.txt (2)"]


def test_fine_tuning_starts_from_the_checkpoint(workspace, small_recipe, tiny_checkpoint):
    fox = Text("fox.txt", "The quick brown fox jumps over the lazy dog.\n" * 20)
    join(workspace.start(fox, small_recipe, start=tiny_checkpoint))
    assert [text.name for text in workspace.current.provenance] == ["verses.txt", "fox.txt"]
    assert workspace.current.tokenizer is tiny_checkpoint.tokenizer


# --- Runs that fail ---------------------------------------------------------------------------------------------------


def test_a_text_that_cannot_be_used_says_so(workspace, small_text, small_recipe, tiny_checkpoint):
    run = join(workspace.start(SHORT, replace(small_recipe, tokenizer="word")))
    assert run.state == "failed"
    assert run.message.startswith("short.txt has only 2 tokens") and run.message.endswith(".")
    assert run.progress().message == run.message and run.progress().steps == []
    assert workspace.current is tiny_checkpoint and list(workspace.checkpoints) == ["Shipped"]
    assert join(workspace.start(small_text, small_recipe)).state == "finished"  # and the next run is free to go


def test_a_text_of_characters_that_is_too_short_is_refused_before_anything_starts(workspace, small_recipe):
    with pytest.raises(BadInput, match=r"short.txt has only 2 tokens"):
        workspace.start(SHORT, small_recipe)
    assert workspace.runs == {}


def test_a_run_stopped_before_its_first_step_replaces_no_model(workspace, small_text, small_recipe, tiny_checkpoint):
    run = workspace.start(small_text, small_recipe)
    run.stop()
    join(run)
    if not run.progress().step:  # it may have been quicker than we
        assert workspace.current is tiny_checkpoint and run.progress().max_iters == 30


def test_a_run_that_diverges_in_its_first_step_replaces_no_model(workspace, small_text, small_recipe, tiny_checkpoint):
    recipe = replace(small_recipe, train=replace(small_recipe.train, optimizer="adam", learning_rate=10.0))
    hopeless = {name: weight * 1e30 for name, weight in tiny_checkpoint.weights.items()}
    run = join(workspace.start(small_text, recipe, start=replace(tiny_checkpoint, weights=hopeless)))
    assert run.state == "failed" and "no longer a finite number" in run.message
    assert workspace.current is tiny_checkpoint


def test_weights_that_broke_in_the_last_step_before_a_pause_are_not_published(workspace, small_text, long_recipe):
    run = pause(workspace.start(small_text, long_recipe), after=12)
    run.trainer.model.lm_head.weight.data[0, 0] = float("nan")
    run.stop()  # without another step that would notice
    join(run)
    assert run.state == "failed" and "no longer a finite number" in run.message
    assert all(weight.isfinite().all() for weight in workspace.current.weights.values())


def test_a_run_that_diverges_publishes_its_last_good_weights(workspace, small_text, long_recipe):
    run = pause(workspace.start(small_text, long_recipe), after=12)
    run.trainer.model.lm_head.weight.data[0, 0] = float("nan")
    run.resume()
    join(run)
    assert run.state == "failed" and "no longer a finite number" in run.message and "learning rate" in run.message
    kept = workspace.current
    assert kept.name == "verses.txt" and kept.step >= 10 and kept.step % 10 == 0
    assert kept.step == run.progress().step
    assert all(weight.isfinite().all() for weight in kept.weights.values())
    assert kept.val_loss == run.progress().final_loss == full_loss(kept.model, corpus_of(small_text, kept).val)


def test_a_defect_of_ours_is_told_and_logged(workspace, small_text, small_recipe, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a defect")

    logged = []
    monkeypatch.setattr(threading, "excepthook", lambda report: logged.append(report.exc_type))
    monkeypatch.setattr(runs, "make_trainer", broken)
    run = join(workspace.start(small_text, small_recipe))
    assert run.state == "failed" and "defect of ours" in run.message
    assert logged == [ZeroDivisionError]
    assert workspace.active_run is None


def test_impossible_settings_are_refused_before_a_run_exists(workspace, small_text, small_recipe):
    model = replace(small_recipe.model, n_head=3)
    with pytest.raises(BadInput, match="n_head: an embedding of 16 cannot be cut into 3 equal heads"):
        workspace.start(small_text, replace(small_recipe, model=model))
    with pytest.raises(BadInput, match="tokenizer_vocab_size"):
        workspace.start(small_text, replace(small_recipe, tokenizer="bpe", tokenizer_vocab_size=100))
    assert workspace.runs == {}


def test_a_run_too_big_for_the_server_is_refused(workspace, small_text, small_recipe):
    model = replace(small_recipe.model, n_embd=2048, n_layer=48)
    with pytest.raises(BadInput, match="GB of memory"):
        workspace.start(small_text, replace(small_recipe, model=model))
    assert workspace.runs == {}


def test_fine_tuning_is_refused_when_the_checkpoints_model_is_too_big(workspace, small_recipe, tiny_checkpoint):
    """What counts is the model that will be trained, which is the checkpoint's and not the recipe's."""
    far_sighted = replace(tiny_checkpoint, config=replace(tiny_checkpoint.config, block_size=2048))
    recipe = replace(small_recipe, train=replace(small_recipe.train, batch_size=512))
    with pytest.raises(BadInput, match="GB of memory"):
        workspace.start(Text("long.txt", "a fox " * 10_000), recipe, start=far_sighted)


# --- Checkpoints in a workspace ---------------------------------------------------------------------------------------


def test_a_workspace_opens_with_what_ships(workspace, tiny_checkpoint):
    assert workspace.current is tiny_checkpoint and workspace.checkpoints == {"Shipped": tiny_checkpoint}
    assert workspace.runs == {} and workspace.active_run is None


def test_save_as_lists_the_current_checkpoint_under_a_free_name(workspace, tiny_checkpoint):
    saved = workspace.save_as("  Mine \n")
    assert saved.name == "Mine" and workspace.current is saved and workspace.checkpoints["Mine"] is saved
    assert saved.weights is tiny_checkpoint.weights
    assert workspace.save_as("Mine").name == "Mine (2)"
    assert workspace.save_as("Mine").name == "Mine (3)"
    assert workspace.save_as("Shipped").name == "Shipped (2)"
    assert workspace.checkpoints["Shipped"] is tiny_checkpoint
    with pytest.raises(BadInput, match="name first"):
        workspace.save_as(" \n")


def test_an_upload_never_takes_the_place_of_another(workspace, tiny_checkpoint):
    upload = replace(tiny_checkpoint, name="Shipped")
    assert workspace.add(upload).name == "Shipped (2)"
    assert workspace.current.name == "Shipped (2)"
    assert workspace.checkpoints["Shipped"] is tiny_checkpoint


def test_use_changes_the_current_checkpoint(workspace, tiny_checkpoint):
    workspace.save_as("Mine")
    version = workspace.in_use[1]
    assert workspace.use("Shipped") is tiny_checkpoint is workspace.current
    assert workspace.in_use[1] > version
    with pytest.raises(BadInput, match="not in the list any more"):
        workspace.use("never")
    assert workspace.current is tiny_checkpoint


def test_only_so_many_checkpoints_are_kept(workspace, tiny_checkpoint):
    for i in range(MAX_CHECKPOINTS + 5):
        workspace.keep(replace(tiny_checkpoint, name=f"Number {i}"))
    newest = [f"Number {i}" for i in range(5, MAX_CHECKPOINTS + 5)]
    assert list(workspace.checkpoints) == ["Shipped", *newest]
    workspace.keep(replace(tiny_checkpoint, name=newest[0]))  # in place of itself, so nothing has to go
    assert list(workspace.checkpoints) == ["Shipped", *newest]
    assert workspace.current.name == newest[0]


def test_only_so_many_runs_are_kept(workspace, small_text, small_recipe, long_recipe):
    word_recipe = replace(small_recipe, tokenizer="word")
    started = [join(workspace.start(SHORT, word_recipe)).id for _ in range(MAX_RUNS)]
    assert list(workspace.runs) == started
    active = pause(workspace.start(small_text, long_recipe))
    assert list(workspace.runs) == [*started[1:], active.id]
    active.stop()
    join(active)
    last = join(workspace.start(SHORT, word_recipe))
    assert list(workspace.runs) == [*started[2:], active.id, last.id]
    with pytest.raises(BadInput, match="not here any more"):
        workspace.run(started[0])


# --- Whose workspace --------------------------------------------------------------------------------------------------


def test_a_key_opens_its_own_workspace_and_no_other(visitors):
    my_key, mine = visitors.enter(None)
    your_key, yours = visitors.enter(None)
    assert my_key != your_key and len(my_key) >= 32
    assert visitors.enter(my_key) == (my_key, mine)
    assert visitors.get(my_key) is mine is not yours
    mine.save_as("Mine")
    assert list(yours.checkpoints) == ["Shipped"] and yours.current.name == "Verses"
    assert list(visitors.shipped) == ["Shipped"]


FORGED = [None, "", "forged", 5, 1.5, True, ["key"], {"key": 1}, ("key",), b"key", "k" * 100_000, "\x00", "\ud800"]


@pytest.mark.parametrize("forged", FORGED, ids=lambda key: repr(key)[:20])
def test_a_key_that_we_did_not_give_out_opens_an_empty_workspace(forged, visitors):
    my_key, mine = visitors.enter(None)
    mine.save_as("Mine")
    new_key, new = visitors.enter(forged)
    assert new_key not in (forged, my_key) and new is not mine
    assert list(new.checkpoints) == ["Shipped"]
    with pytest.raises(BadInput, match="reload the page"):
        visitors.get(forged)


def test_a_run_of_one_visitor_is_not_found_by_another(visitors, small_text, long_recipe):
    (_, mine), (_, yours) = visitors.enter(None), visitors.enter(None)
    my_run = pause(mine.start(small_text, long_recipe))
    with pytest.raises(BadInput, match="not here any more"):
        yours.run(my_run.id)
    yours.stop()
    your_run = pause(yours.start(small_text, long_recipe))  # each may have one at the same time
    assert my_run.active and your_run.active and my_run.id != your_run.id


def test_the_workspace_longest_unseen_makes_way(visitors, monkeypatch):
    monkeypatch.setattr(runs, "MAX_WORKSPACES", 3)
    a, b, c = (visitors.enter(None)[0] for _ in range(3))
    visitors.enter(a)
    visitors.get(b)  # so c has been unseen for longest
    d, _ = visitors.enter(None)
    with pytest.raises(BadInput, match="reload the page"):
        visitors.get(c)
    for key in (a, b, d):
        visitors.get(key)
    assert visitors.enter(c)[0] != c  # and a forgotten key opens nothing


def test_a_workspace_with_a_run_going_never_makes_way(visitors, small_text, long_recipe, monkeypatch):
    monkeypatch.setattr(runs, "MAX_WORKSPACES", 2)
    busy_key, busy = visitors.enter(None)
    run = pause(busy.start(small_text, long_recipe))
    keys = [visitors.enter(None)[0] for _ in range(5)]
    assert visitors.get(busy_key) is busy and run.active
    assert visitors.enter(keys[-1])[0] == keys[-1]
    for key in keys[:-1]:
        with pytest.raises(BadInput):
            visitors.get(key)

    run.stop()
    join(run)
    visitors.enter(keys[-1])
    visitors.enter(None)
    with pytest.raises(BadInput):
        visitors.get(busy_key)  # once it has ended, its turn comes too
