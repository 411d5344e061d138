"""What visitors have, and have again after a restart; what they may take; and that they never meet."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from surroundings import PATIENCE
from test_runs import join, no_file_beyond, pause, wait_until, without_clock

from playground import runs, workspaces
from playground.checkpoint import Checkpoint, Provenance, save
from playground.config import Recipe, memory_bytes
from playground.corpus import Text, built_in
from playground.errors import BadInput
from playground.generation import write_sample
from playground.runs import PAST, RECORD, STATE, TEXT
from playground.settings import Settings
from playground.training import make_trainer, planned_model, saved_history, train
from playground.workspaces import INDEX, KEY, Workspace, Workspaces, folder_bytes

SHORT = Text("short.txt", "ab")  # as words, no run on it gets further than its first check
OTHER = Text("fox.txt", "The quick brown fox jumps over the lazy dog.\n" * 20)


@pytest.fixture
def open_data(tiny_checkpoint, tmp_path) -> Iterator[Callable[..., Workspaces]]:
    """Workspaces on one data folder, with other settings if the test wants some; closed when it ends."""
    opened = []

    def open_(**chosen) -> Workspaces:
        settings = Settings(**{"data": tmp_path / "data", "workers": 1, "save_seconds": 0.0, **chosen})
        opened.append(Workspaces({"Shipped": tiny_checkpoint}, settings))
        return opened[-1]

    yield open_
    for visitors in opened:
        assert visitors.close(PATIENCE)


@pytest.fixture
def visitors(open_data) -> Workspaces:
    return open_data()


@pytest.fixture
def workspace(visitors) -> Workspace:
    return visitors.enter(None)[1]


@pytest.fixture
def long_recipe(small_recipe) -> Recipe:
    """More steps than any test waits for. With dropout, since that is what a restart could disturb."""
    model = replace(small_recipe.model, dropout=0.2)
    return replace(small_recipe, model=model, train=replace(small_recipe.train, max_iters=100_000))


@pytest.fixture
def eager_saving(monkeypatch) -> None:
    """A state after every slice, however long that takes."""
    monkeypatch.setattr(runs, "SAVING_SHARE", 1e9)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints are the same but for how they came here."""
    return (
        (one.name, one.past, one.tokenizer.to_dict()) == (other.name, other.past, other.tokenizer.to_dict())
        and one.weights.keys() == other.weights.keys()
        and all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())
    )


def checkpoint_files(workspace: Workspace) -> list[Path]:
    return sorted((workspace.folder / "checkpoints").glob("*"))


# --- A visitor's runs -------------------------------------------------------------------------------------------------


def test_a_workspace_opens_with_what_ships(workspace, tiny_checkpoint):
    assert workspace.current is tiny_checkpoint and workspace.names == ["Shipped"]
    assert workspace.runs == {} and workspace.active_run is None


def test_a_run_publishes_into_its_visitors_workspace(workspace, small_text, small_recipe):
    run = join(workspace.start(small_text, small_recipe))
    assert (run.state, run.message, run.name) == ("finished", "", "verses.txt")
    assert workspace.run(run.id) is run and run.text == small_text
    assert workspace.names == ["Shipped", "verses.txt"] and len(checkpoint_files(workspace)) == 1
    in_a_loop = make_trainer(small_text, small_recipe, sampler=write_sample)
    list(train(in_a_loop))
    assert without_clock(workspace.current.history) == without_clock(in_a_loop.history)


def test_every_pause_publishes_in_place_of_the_one_before(workspace, small_text, long_recipe):
    run = pause(workspace.start(small_text, long_recipe), after=3)
    step, version = run.progress().step, workspace.in_use[1]
    assert workspace.current.name == "verses.txt" and workspace.current.step == step >= 3
    workspace.resume()
    pause(run, after=step + 1)
    assert workspace.current.step == run.progress().step > step and workspace.in_use[1] > version
    assert workspace.names == ["Shipped", "verses.txt"] and len(checkpoint_files(workspace)) == 1


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
    workspace.stop()
    second = join(workspace.start(small_text, small_recipe))
    assert second.name == "verses.txt (2)" and workspace.active_run is None
    assert workspace.names == ["Shipped", "verses.txt", "verses.txt (2)"]


def test_fine_tuning_is_named_after_both(workspace, small_recipe):
    run = join(workspace.start(OTHER, small_recipe, start=workspace.current))
    assert run.name == "Verses → fox.txt" and workspace.current.name == run.name
    assert [text.name for text in workspace.current.provenance] == ["verses.txt", "fox.txt"]


def test_a_run_that_learned_nothing_replaces_no_model(workspace, small_recipe, tiny_checkpoint):
    run = join(workspace.start(SHORT, replace(small_recipe, tokenizer="word")))
    assert run.state == "failed" and run.message.startswith("short.txt has only 2 tokens")
    assert workspace.current is tiny_checkpoint and workspace.names == ["Shipped"]


def test_what_cannot_be_is_refused_before_a_run_exists(workspace, small_text, small_recipe):
    model = replace(small_recipe.model, n_head=3)
    with pytest.raises(BadInput, match="n_head: an embedding of 16 cannot be cut into 3 equal heads"):
        workspace.start(small_text, replace(small_recipe, model=model))
    with pytest.raises(BadInput, match="tokenizer_vocab_size"):
        workspace.start(small_text, replace(small_recipe, tokenizer="bpe", tokenizer_vocab_size=100))
    with pytest.raises(BadInput, match=r"short.txt has only 2 tokens"):
        workspace.start(SHORT, small_recipe)
    assert workspace.runs == {} and not (workspace.folder / "runs").exists()


# --- A visitor's checkpoints ------------------------------------------------------------------------------------------


def test_save_as_lists_the_checkpoint_in_use_under_a_free_name(workspace, tiny_checkpoint):
    saved = workspace.save_as("  Mine \n")
    assert saved.name == "Mine" and same(workspace.current, saved) and same(workspace.listed("Mine"), saved)
    assert same(replace(saved, name="Verses"), tiny_checkpoint)
    assert [workspace.save_as(name).name for name in ("Mine", "Mine", "Shipped")] == [
        "Mine (2)",
        "Mine (3)",
        "Shipped (2)",
    ]
    assert workspace.names == ["Shipped", "Mine", "Mine (2)", "Mine (3)", "Shipped (2)"]
    assert workspace.listed("Shipped") is tiny_checkpoint
    with pytest.raises(BadInput, match="name first"):
        workspace.save_as(" \n")


def test_an_upload_never_takes_the_place_of_another(workspace, small_text, long_recipe, tiny_checkpoint):
    run = workspace.start(small_text, long_recipe)  # whose checkpoint will have this name
    assert workspace.add(replace(tiny_checkpoint, name="Shipped")).name == "Shipped (2)"
    assert workspace.add(replace(tiny_checkpoint, name="verses.txt")).name == "verses.txt (2)"
    assert workspace.listed("Shipped") is tiny_checkpoint
    pause(run, after=1)
    assert workspace.names == ["Shipped", "Shipped (2)", "verses.txt (2)", "verses.txt"]


def test_uploads_at_the_same_moment_get_different_names(workspace, tiny_checkpoint):
    threads = [threading.Thread(target=workspace.add, args=(tiny_checkpoint,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert workspace.names == ["Shipped", "Verses", *(f"Verses ({i})" for i in range(2, 7))]
    assert len(checkpoint_files(workspace)) == 6


def test_the_text_of_a_checkpoint_is_found_while_it_is_here(workspace, small_text, small_recipe, tiny_checkpoint):
    assert workspace.text_of(tiny_checkpoint) is None  # it comes from nowhere
    run = workspace.start(small_text, small_recipe)
    join(run)
    trained = workspace.current
    assert workspace.text_of(trained) == small_text
    assert workspace.text_of(replace(trained, name="renamed")) == small_text
    elsewhere = (*trained.provenance, Provenance(small_text.name, 3, "0" * 64))
    assert workspace.text_of(replace(trained, provenance=elsewhere)) is None
    tuned = join(workspace.start(OTHER, small_recipe, trained))  # goes on with another text
    assert workspace.text_of(workspace.listed(tuned.name)) == OTHER and workspace.text_of(trained) == small_text
    sums = built_in("sums")
    for digest, found in ((sums.sha256, sums), ("0" * 64, None)):
        learned = (*trained.provenance, Provenance(sums.name, len(sums.text), digest))
        assert workspace.text_of(replace(trained, provenance=learned)) == found


def test_use_changes_the_checkpoint_in_use(workspace, tiny_checkpoint):
    workspace.save_as("Mine")
    version = workspace.in_use[1]
    assert workspace.use("Shipped") is tiny_checkpoint is workspace.current
    assert workspace.in_use[1] > version
    for name in ("never", None, 5, ["Mine"], ""):
        with pytest.raises(BadInput, match="not in the list any more"):
            workspace.use(name)
    assert workspace.current is tiny_checkpoint
    assert same(workspace.use("Mine"), workspace.current) and workspace.current.name == "Mine"


def test_fine_tuning_measures_what_is_forgotten_of_a_text_that_is_here(workspace, small_text, small_recipe):
    first = join(workspace.start(small_text, small_recipe))
    trained = workspace.listed(first.name)
    tuned = join(workspace.start(OTHER, small_recipe, trained))
    assert tuned.past.beginning.first_text == "verses.txt" and "is not measured" not in tuned.message
    same_text = join(workspace.start(small_text, small_recipe, trained))
    assert same_text.past.beginning.first_text is None and same_text.message == ""
    elsewhere = replace(trained, provenance=(replace(trained.provenance[0], sha256="0" * 64),))
    unknown = join(workspace.start(OTHER, small_recipe, elsewhere))
    assert unknown.past.beginning.first_text is None and "is not measured" in unknown.message


def test_a_visitor_goes_back_to_an_earlier_point(open_data, small_text, small_recipe, long_recipe, tiny_checkpoint):
    visitors = open_data()
    key, workspace = visitors.enter(None)
    run = join(workspace.start(small_text, small_recipe, tiny_checkpoint))
    assert workspace.current.name == run.name
    for _ in range(2):  # a second time in its own place
        assert same(workspace.go_back(run.id, 10), run.point(10))
        assert same(workspace.current, run.point(10)) and workspace.current.step == 10
        assert workspace.names == ["Shipped", run.name, f"{run.name}, step 10"]
    for run_id, step in ((run.id, 11), (run.id, -10), ("nobody's", 10)):
        with pytest.raises(BadInput, match=r"not kept|not here"):
            workspace.go_back(run_id, step)

    going = workspace.start(OTHER, long_recipe, workspace.current)  # which needs not stop for it
    assert workspace.go_back(going.id, 0).weights.keys() == run.point(10).weights.keys()
    assert all(torch.equal(w, run.point(10).weights[name]) for name, w in workspace.current.weights.items())
    assert going.active
    workspace.stop()
    join(going)

    visitors.close(PATIENCE)
    again = open_data().get(key)
    assert again.run(run.id).points == [0, 1, 10, 20, 30]
    assert same(again.go_back(run.id, 20), run.point(20))


def test_going_back_takes_the_place_of_nothing_else(open_data, small_text, small_recipe, tiny_checkpoint):
    """Not of a checkpoint that a visitor called so, nor of the point of a run whose name is cut to the same."""
    visitors = open_data()
    key, workspace = visitors.enter(None)
    long_text = replace(small_text, name="long " * 15 + "name")  # 79 letters, of which two runs differ in none
    runs = [
        join(workspace.start(long_text, replace(small_recipe, train=replace(small_recipe.train, seed=seed)), start))
        for seed, start in ((1, tiny_checkpoint), (2, tiny_checkpoint))
    ]
    point_names = {run.point(10).name for run in runs}
    assert len(point_names) == 1 and all(len(run.name) <= 80 for run in runs)
    own = workspace.save_as(point_names.pop())

    for _ in range(2):
        for run in runs:
            went_back = workspace.go_back(run.id, 10)
            assert same(replace(went_back, name=run.point(10).name), run.point(10))
            assert "step 10 (" in went_back.name and workspace.maker(went_back) is run
            assert workspace.point_of(went_back) == (run.id, 10)
    assert len(workspace.names) == len(set(workspace.names)) == 6  # what ships, two ends, its own, and two points
    assert same(workspace.listed(own.name), own) and workspace.maker(own) is None
    for name in (own.name, runs[0].name, workspace.names[0]):
        assert workspace.point_of(workspace.listed(name)) == (None, None)
    assert [workspace.maker(workspace.listed(run.name)) for run in runs] == runs

    visitors.close(PATIENCE)
    again = open_data().get(key)
    listed = [again.listed(name) for name in again.names]
    assert [checkpoint.name for checkpoint in listed[1:]] == again.names[1:]
    made_by = [again.maker(checkpoint) for checkpoint in listed]
    assert [run and run.id for run in made_by] == [None, *(run.id for run in runs), None, *(run.id for run in runs)]


# --- Limits of one visitor --------------------------------------------------------------------------------------------


def test_only_so_many_checkpoints_are_kept(open_data, tiny_checkpoint):
    workspace = open_data(kept_checkpoints=3).enter(None)[1]
    for i in range(5):
        workspace.keep(replace(tiny_checkpoint, name=f"Number {i}"))
    assert workspace.names == ["Shipped", "Number 2", "Number 3", "Number 4"]
    workspace.keep(replace(tiny_checkpoint, name="Number 2"))  # in place of itself, so nothing has to go
    assert workspace.names == ["Shipped", "Number 2", "Number 3", "Number 4"]
    assert workspace.current.name == "Number 2"
    assert len(checkpoint_files(workspace)) == 3  # and the others are gone from the disk, too


def test_the_checkpoint_in_use_is_never_dropped(open_data, tiny_checkpoint):
    workspace = open_data(kept_checkpoints=1).enter(None)[1]
    for name in ("First", "Second"):
        workspace.keep(replace(tiny_checkpoint, name=name))
        assert workspace.names == ["Shipped", name] and workspace.current.name == name
    workspace.use("Shipped")
    assert workspace.names == ["Shipped", "Second"]  # as many as may be


def test_only_so_many_bytes_are_kept(open_data, tiny_checkpoint, tmp_path):
    save(tiny_checkpoint, tmp_path / "measure")
    three_and_a_half = 3.5 * (tmp_path / "measure").stat().st_size / 2**30
    workspace = open_data(visitor_gb=three_and_a_half).enter(None)[1]
    for i in range(5):
        workspace.keep(replace(tiny_checkpoint, name=f"Number {i}"))
    assert workspace.names == ["Shipped", "Number 2", "Number 3", "Number 4"]
    assert folder_bytes(workspace.folder) <= three_and_a_half * 2**30
    workspace.use("Number 2")
    workspace.keep(replace(tiny_checkpoint, name="Number 5"))
    assert workspace.names == ["Shipped", "Number 3", "Number 4", "Number 5"]


def test_the_points_of_runs_count_among_the_bytes(open_data, small_text, small_recipe, tiny_checkpoint, tmp_path):
    save(tiny_checkpoint, tmp_path / "measure")
    size = (tmp_path / "measure").stat().st_size
    workspace = open_data(visitor_gb=10 * size / 2**30, kept_runs=1).enter(None)[1]
    run = join(workspace.start(small_text, small_recipe, tiny_checkpoint))
    assert 3 <= len(run.points) <= 5 and run.points_bytes <= 5 * size  # half of it at most
    for i in range(8):
        workspace.keep(replace(tiny_checkpoint, name=f"Number {i}"))
    kept = sum(file.stat().st_size for file in checkpoint_files(workspace))
    assert 9 * size < kept + run.points_bytes <= 10 * size


def test_one_checkpoint_stays_however_large_it_is(open_data, tiny_checkpoint):
    workspace = open_data(visitor_gb=1e-6).enter(None)[1]
    for name in ("First", "Second"):
        workspace.keep(replace(tiny_checkpoint, name=name))
        assert workspace.names == ["Shipped", name] and same(workspace.current, replace(tiny_checkpoint, name=name))


def test_only_so_many_runs_are_kept(open_data, small_text, small_recipe, long_recipe):
    visitors = open_data(kept_runs=3)
    key, workspace = visitors.enter(None)
    word_recipe = replace(small_recipe, tokenizer="word")
    started = [join(workspace.start(SHORT, word_recipe)).id for _ in range(3)]
    assert list(workspace.runs) == started
    active = pause(workspace.start(small_text, long_recipe))
    assert list(workspace.runs) == [*started[1:], active.id]
    workspace.stop()
    last = join(workspace.start(SHORT, word_recipe))
    kept = [started[2], active.id, last.id]
    assert list(workspace.runs) == kept
    assert {folder.name for folder in (workspace.folder / "runs").iterdir()} == set(kept)
    with pytest.raises(BadInput, match="not here any more"):
        workspace.run(started[0])
    visitors.close(PATIENCE)
    assert list(open_data().get(key).runs) == kept


# --- Limits of all together -------------------------------------------------------------------------------------------


def needed(text: Text, recipe: Recipe) -> int:
    return memory_bytes(planned_model(text, recipe), recipe.train)


@pytest.fixture
def thick_recipe(long_recipe) -> Recipe:
    """Some 0.9 GB, mostly for the batch."""
    return replace(
        long_recipe,
        train=replace(long_recipe.train, batch_size=448),
        model=replace(long_recipe.model, n_layer=8, n_embd=32, block_size=64),
    )


def test_a_run_too_big_for_the_server_is_refused(workspace, small_text, small_recipe):
    model = replace(small_recipe.model, n_embd=2048, n_layer=48)
    gb = needed(small_text, replace(small_recipe, model=model)) / 2**30
    with pytest.raises(BadInput) as caught:
        workspace.start(small_text, replace(small_recipe, model=model))
    assert str(caught.value) == (
        f"This run would need about {gb:.1f} GB of memory, and 4 GB are the limit: "
        "make the batch, the context or the model smaller."
    )
    assert workspace.runs == {}


def test_fine_tuning_is_refused_when_the_checkpoints_model_is_too_big(workspace, small_recipe, tiny_checkpoint):
    """What counts is the model that will be trained, which is the checkpoint's and not the recipe's."""
    far_sighted = replace(tiny_checkpoint, config=replace(tiny_checkpoint.config, block_size=2048))
    recipe = replace(small_recipe, train=replace(small_recipe.train, batch_size=512))
    with pytest.raises(BadInput, match="GB of memory"):
        workspace.start(Text("long.txt", "a fox " * 10_000), recipe, start=far_sighted)


def test_a_run_that_has_no_room_beside_others_is_refused_until_there_is(
    open_data, small_text, small_recipe, long_recipe, thick_recipe
):
    thick, small = needed(small_text, thick_recipe), needed(small_text, long_recipe)
    visitors = open_data(memory_gb=(thick + small / 2) / 2**30)
    (_, mine), (_, yours) = visitors.enter(None), visitors.enter(None)
    run = mine.start(small_text, long_recipe)
    with pytest.raises(BadInput) as caught:
        yours.start(small_text, thick_recipe)
    free = (thick - small / 2) / 2**30
    assert str(caught.value) == (
        f"This run would need about {thick / 2**30:.1f} GB of memory, and {free:.1f} GB are free while others train: "
        "make the batch, the context or the model smaller, or try again in some minutes."
    )
    assert yours.runs == {} and not (yours.folder / "runs").exists()
    pause(run)  # a run that has paused takes none
    wait_until(lambda: not visitors.host.engine.n_jobs, "the room")
    big = yours.start(small_text, thick_recipe)
    with pytest.raises(BadInput, match="are free while others train"):
        mine.resume()
    assert run.state == "paused" and mine.active_run is run
    yours.stop()
    join(big)
    wait_until(lambda: not visitors.host.engine.n_jobs, "the room")
    mine.resume()
    assert run.state in ("starting", "running")


def test_only_so_many_runs_share_the_server(open_data, small_text, long_recipe):
    visitors = open_data(runs_at_once=2)
    spaces = [visitors.enter(None)[1] for _ in range(3)]
    begun = [workspace.start(small_text, long_recipe) for workspace in spaces[:2]]
    with pytest.raises(BadInput, match=r"^This server is busy with 2 runs, .* try again in some minutes\.$"):
        spaces[2].start(small_text, long_recipe)
    assert spaces[2].runs == {}
    pause(begun[0])
    wait_until(lambda: visitors.host.engine.n_jobs == 1, "the room")
    spaces[2].start(small_text, long_recipe)
    with pytest.raises(BadInput, match="try again in some minutes"):
        spaces[0].resume()
    assert begun[0].state == "paused"


def test_many_who_start_at_the_same_moment_do_not_get_in_together(open_data, small_text, long_recipe):
    visitors = open_data(runs_at_once=2)
    outcomes = []

    def start() -> None:
        try:
            outcomes.append(visitors.enter(None)[1].start(small_text, long_recipe).name)
        except BadInput as error:
            outcomes.append(str(error).split(",")[0])

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(outcomes) == ["This server is busy with 2 runs"] * 4 + ["verses.txt"] * 2
    assert visitors.host.engine.n_jobs == 2


def test_when_the_disk_is_full_the_longest_idle_visitor_makes_way(open_data, tiny_checkpoint):
    visitors = open_data(disk_gb=100_000)
    entered = [visitors.enter(None) for _ in range(4)]
    for i, (_, workspace) in enumerate(entered):
        workspace.keep(replace(tiny_checkpoint, name="Kept"))
        os.utime(workspace.folder, (1_000.0 + i, 1_000.0 + i))  # came in this order
    for _, workspace in entered[1:]:  # so the one that came first still looks
        workspace.seen -= 3_600

    used = folder_bytes(visitors.settings.data)
    each = folder_bytes(entered[0][1].folder)
    settings = replace(visitors.settings, disk_gb=(used - each) / 2**30)
    visitors.settings = visitors.host.settings = settings
    with pytest.raises(BadInput, match="try again"):
        visitors.host.disk_bytes = used
        entered[3][1].add(tiny_checkpoint)
    visitors.tend()

    gone = [not workspace.folder.exists() for _, workspace in entered]
    assert gone == [False, True, True, False]  # nine tenths of the room are 2.7 workspaces
    assert visitors.host.disk_bytes == folder_bytes(visitors.settings.data) <= 0.9 * settings.disk_gb * 2**30
    assert visitors.host.disk_bytes < used
    assert visitors.get(entered[0][0]) is entered[0][1]
    key, anew = visitors.enter(entered[1][0])
    assert key == entered[1][0] and anew.names == ["Shipped"]
    assert visitors.get(entered[3][0]).add(tiny_checkpoint)  # there is room again


def test_uploads_make_way_before_anybody_loses_work(open_data, tiny_checkpoint):
    visitors = open_data()
    _, idle = visitors.enter(None)
    idle.keep(replace(tiny_checkpoint, name="Kept"))
    idle.seen -= 3_600
    ages = {"new": 10, "of this hour": 1_800, "old": 3 * 3_600}  # seconds
    for name, age in ages.items():
        file = visitors.uploads / name / "text.txt"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * 100_000)
        os.utime(file, (time.time() - age,) * 2)
    visitors.tend()
    assert {file.parent.name for file in visitors.uploads.rglob("*.txt")} == {"new", "of this hour"}
    settings = replace(visitors.settings, disk_gb=(folder_bytes(idle.folder) + 50_000) / 2**30)
    visitors.settings = visitors.host.settings = settings
    visitors.tend()
    assert {file.parent.name for file in visitors.uploads.rglob("*.txt")} == {"new"}
    assert idle.folder.exists()
    with pytest.raises(BadInput, match="disk is full"):  # which the guard asks before it lets an upload in
        visitors.host.disk_bytes = folder_bytes(visitors.settings.data)
        visitors.host.check_disk()


def test_on_a_full_disk_nothing_begins_and_what_a_run_has_learned_is_kept(
    open_data, small_text, small_recipe, tiny_checkpoint
):
    visitors = open_data(disk_gb=1e-9)
    workspace = visitors.enter(None)[1]
    workspace.keep(replace(tiny_checkpoint, name="Learned"))
    visitors.tend()
    full = r"^The server's disk is full, .* try again in some minutes, when what nobody uses has been removed\.$"
    for begin in (
        lambda: workspace.start(small_text, small_recipe),
        lambda: workspace.add(tiny_checkpoint),
        lambda: workspace.save_as("Mine"),
    ):
        with pytest.raises(BadInput, match=full):
            begin()
    workspace.keep(replace(tiny_checkpoint, name="Learned, too"))
    assert workspace.names == ["Shipped", "Learned", "Learned, too"] and workspace.runs == {}


def test_a_scratch_folder_is_gone_when_it_is_left(visitors):
    with visitors.scratch() as folder:
        (folder / "model.safetensors").write_bytes(bytes(100))
        assert folder.parent == visitors.uploads
    with pytest.raises(ZeroDivisionError), visitors.scratch() as folder:
        _ = 1 / 0
    assert not folder.exists() and not list(visitors.uploads.iterdir())


def test_a_scratch_folder_on_a_full_disk(visitors):
    with no_file_beyond(1_000), pytest.raises(BadInput, match="disk cannot be written"), visitors.scratch() as folder:
        (folder / "model.safetensors").write_bytes(bytes(2_000))
    visitors.host.disk_bytes = visitors.host.disk_limit + 1
    with pytest.raises(BadInput, match="disk is full"), visitors.scratch():
        pass


def test_what_was_added_is_in_use_without_being_read_again(workspace, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(workspaces.checkpoints, "load", lambda file: pytest.fail(f"{file} was read"))
    added = workspace.add(replace(tiny_checkpoint, name="Large"))
    assert workspace.current is added


# --- A disk that refuses ----------------------------------------------------------------------------------------------


def test_a_checkpoint_that_the_disk_does_not_take_is_usable_from_memory(workspace, tiny_checkpoint):
    learned = replace(tiny_checkpoint, name="Learned")
    with no_file_beyond(5_000):
        workspace.keep(learned)
        assert workspace.current is learned and workspace.names == ["Shipped", "Learned"]
        with pytest.raises(BadInput) as caught:
            workspace.add(tiny_checkpoint)
    assert str(workspace.folder) not in str(caught.value)  # a visitor has no use for a path of the server's
    workspace.seen -= 3_600
    assert workspace.busy  # since nothing else has it
    assert workspace.use("Shipped") is tiny_checkpoint and workspace.use("Learned") is learned
    assert checkpoint_files(workspace) == []
    workspace.keep(learned)
    assert len(checkpoint_files(workspace)) == 1 and not workspace.busy


@pytest.mark.parametrize("fine_tuning", [False, True])
def test_a_run_that_the_disk_does_not_take_leaves_nothing_behind(
    fine_tuning, workspace, small_text, small_recipe, tiny_checkpoint
):
    start = tiny_checkpoint if fine_tuning else None
    with no_file_beyond(1_000), pytest.raises(BadInput) as caught:
        workspace.start(small_text, small_recipe, start=start)
    assert str(caught.value).startswith("The server's disk cannot be written (")
    with no_file_beyond(len(small_text.text) + 1_000), pytest.raises(BadInput) as caught:  # the checkpoint is larger
        workspace.start(small_text, small_recipe, start=tiny_checkpoint)
    assert str(caught.value).startswith("The server's disk cannot be written (")
    assert workspace.runs == {} and not list(workspace.folder.glob("runs/*"))
    assert join(workspace.start(small_text, small_recipe, start=start)).state == "finished"


def test_a_run_that_a_full_disk_ends_is_kept_in_memory(workspace, small_text, small_recipe):
    """Its state is larger than what the system takes, and so is its checkpoint."""
    with no_file_beyond(8_000):
        run = join(workspace.start(small_text, small_recipe))
    assert run.state == "failed" and "The server's disk failed (File too large)" in run.message
    assert workspace.current.name == "verses.txt"
    assert workspace.current.step == run.progress().step in (1, 10, 20, 30)  # where its last good weights were
    assert checkpoint_files(workspace) == []


# --- Restarts ---------------------------------------------------------------------------------------------------------


def test_everything_is_back_after_a_restart(open_data, small_text, small_recipe, long_recipe, tiny_checkpoint):
    visitors = open_data()
    key, mine = visitors.enter(None)
    finished = join(mine.start(small_text, small_recipe))
    failed = join(mine.start(SHORT, replace(small_recipe, tokenizer="word")))
    mine.save_as("Zebra")
    mine.save_as("Ape")
    paused = mine.start(OTHER, long_recipe)
    pause(paused, after=12)
    mine.use("Zebra")
    before = (mine.names, mine.in_use[1], list(mine.runs))
    zebra, listed = mine.current, {name: mine.listed(name) for name in mine.names}
    progress = {run.id: (run.progress(), run.progress(7), run.created) for run in mine.runs.values()}
    assert visitors.close(PATIENCE)

    visitors = open_data()
    same_key, again = visitors.enter(key)
    assert same_key == key and again is not mine
    assert (again.names, again.in_use[1], list(again.runs)) == before
    assert again.names == ["Shipped", "verses.txt", "Zebra", "Ape", "fox.txt"]
    assert same(again.current, zebra) and all(same(again.listed(name), listed[name]) for name in listed)
    assert {run.id: (run.progress(), run.progress(7), run.created) for run in again.runs.values()} == progress
    assert [run.state for run in again.runs.values()] == ["finished", "failed", "paused"]
    assert again.run(failed.id).message == failed.message and again.run(finished.id).text == small_text

    run = again.active_run
    assert run.id == paused.id and run.text == OTHER
    step = run.progress().step
    time.sleep(0.1)
    assert run.state == "paused" and run.progress().step == step  # what has paused does not go on by itself
    again.resume()
    wait_until(lambda: run.progress().step >= step + 5, "five more steps")
    assert run.message == "" and run.progress().steps[:step] == progress[run.id][0].steps


def test_runs_that_were_going_go_on_by_themselves(open_data, small_text, long_recipe):
    recipe = replace(long_recipe, train=replace(long_recipe.train, max_iters=150, eval_interval=50))
    visitors = open_data(workers=2)
    entered = [visitors.enter(None) for _ in range(2)]
    going = [workspace.start(small_text, recipe) for _, workspace in entered]
    wait_until(lambda: all(run.progress().step >= 3 for run in going), "some steps of both")
    assert visitors.close(PATIENCE)
    steps = [len(saved_history(run.folder / STATE)) for run in going]
    assert all(3 <= step < 150 for step in steps)

    visitors = open_data(workers=2)
    in_a_loop = make_trainer(small_text, recipe, sampler=write_sample)
    list(train(in_a_loop))
    for (key, _), run, step in zip(entered, going, steps, strict=True):
        again = visitors.enter(key)[1]
        went_on = join(again.run(run.id))
        assert went_on.progress().steps[:step] == run.progress().steps[:step]  # by the clock, too: not taken anew
        assert went_on.state == "finished"
        assert json.loads((went_on.folder / RECORD).read_bytes())["recovered"] == [step, 1]
        assert without_clock(again.current.history) == without_clock(in_a_loop.history)
        weights = in_a_loop.model.state_dict()
        assert all(torch.equal(weight, weights[name]) for name, weight in again.current.weights.items())


@pytest.mark.usefixtures("eager_saving")
def test_a_run_goes_on_from_a_copy_of_the_data_as_after_a_crash(open_data, small_text, long_recipe, tmp_path):
    visitors = open_data()
    key, workspace = visitors.enter(None)
    run = workspace.start(small_text, long_recipe)
    wait_until(lambda: (run.folder / STATE).exists(), "the first state")
    copy = tmp_path / "copy"
    for name in (INDEX, *(f"runs/{run.id}/{name}" for name in (RECORD, TEXT, STATE))):
        file = copy / "visitors" / workspace.folder.name / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(workspace.folder / name, file)
    went_on = open_data(data=copy).enter(key)[1].active_run
    step = went_on.progress().step
    assert step > 0
    wait_until(lambda: went_on.progress().step > step, "the next step")
    wait_until(lambda: run.progress().step > step, "as many steps of the first")
    assert without_clock(went_on.progress().steps[: step + 1]) == without_clock(run.progress().steps[: step + 1])


def test_a_second_program_on_the_same_data_is_refused(open_data, visitors):
    with pytest.raises(BadInput) as caught:
        open_data()
    folder = visitors.settings.data
    assert str(caught.value) == f"Another playground uses {folder}: set PLAYGROUND_DATA to another folder."
    visitors.close(PATIENCE)
    assert open_data().enter(None)


def test_data_in_a_place_that_cannot_be_is_refused(open_data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"cannot be written .* set PLAYGROUND_DATA to another\.$"):
        open_data(data=tmp_path / "file")


def test_what_a_crash_left_half_made_is_cleared_away(open_data, small_text, small_recipe, tiny_checkpoint):
    visitors = open_data()
    key, workspace = visitors.enter(None)
    run = join(workspace.start(small_text, small_recipe))
    visitors.close(PATIENCE)
    sound = sorted(workspace.folder.rglob("*"))

    half_begun = workspace.folder / "runs" / "half-begun"
    half_begun.mkdir()
    (half_begun / TEXT).write_text("The quick brown")
    (run.folder / f"{STATE}.unfinished").write_bytes(bytes(1_000))
    (run.folder / ".tmpEdtIhk").write_bytes(bytes(1_000))  # what safetensors calls a file that it is writing
    (workspace.folder / "checkpoints" / "half.safetensors.unfinished").write_bytes(bytes(1_000))
    save(tiny_checkpoint, workspace.folder / "checkpoints" / "not-yet-listed.safetensors")
    (workspace.folder / f"{INDEX}.unfinished").write_bytes(b"{")

    again = open_data().get(key)
    assert list(again.runs) == [run.id] and again.names == ["Shipped", "verses.txt"]
    again.use("Shipped")
    again.use("verses.txt")
    assert [path for path in sorted(workspace.folder.rglob("*")) if path not in sound] == []


def cut_in_half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def changed_record(**entries) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        record = json.loads((folder / RECORD).read_bytes()) | entries
        (folder / RECORD).write_text(json.dumps(record))

    return change


DAMAGES = {
    "record cut in half": lambda folder: cut_in_half(folder / RECORD),
    "record of another kind": lambda folder: (folder / RECORD).write_text("[]"),
    "record without entries": lambda folder: (folder / RECORD).write_text("{}"),
    "record with an impossible recipe": changed_record(recipe={"title": "x"}),
    "record with a recipe of another kind": changed_record(recipe=None),
    "state cut in half": lambda folder: cut_in_half(folder / STATE),
    "state of another kind": lambda folder: (folder / STATE).write_bytes(b"not a state"),
    "past cut in half": lambda folder: cut_in_half(folder / PAST),
    "past of another kind": lambda folder: (folder / PAST).write_text("[]"),
}


@pytest.mark.parametrize("state", ["running", "paused"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_run_that_cannot_be_read_does_not_keep_the_rest_from_opening(
    damage, state, open_data, small_text, long_recipe, tiny_checkpoint
):
    visitors = open_data()
    (my_key, mine), (your_key, yours) = visitors.enter(None), visitors.enter(None)
    mine.keep(replace(tiny_checkpoint, name="Mine"))
    damaged = pause(mine.start(small_text, long_recipe), after=1)
    sound = pause(yours.start(small_text, long_recipe), after=1)
    visitors.close(PATIENCE)
    for run in (damaged, sound):
        changed_record(state=state)(run.folder)
    damage(damaged.folder)

    visitors = open_data()
    mine, yours = visitors.get(my_key), visitors.get(your_key)
    assert mine.names == ["Shipped", "Mine", "verses.txt"] and mine.listed("Mine")
    yours.resume()
    again = yours.run(sound.id)
    step = sound.progress().step
    wait_until(lambda: again.progress().step > step, "the next step of the sound run")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_past_that_cannot_be_read_locks_nobody_out(content, open_data, small_text, small_recipe, tiny_checkpoint):
    visitors = open_data()
    key, workspace = visitors.enter(None)
    run = join(workspace.start(small_text, small_recipe, tiny_checkpoint))
    visitors.close(PATIENCE)
    (run.folder / PAST).write_bytes(content)

    again = open_data().get(key)
    assert again.current.name == run.name and again.maker(again.current).id == run.id
    assert again.use("Shipped") is tiny_checkpoint and again.text_of(tiny_checkpoint) is None
    assert again.add(tiny_checkpoint).name == "Verses"
    progress = again.run(run.id).progress()
    assert (progress.state, progress.step, progress.steps) == ("finished", 0, [])


def test_what_is_in_use_is_known_without_reading_any_past(
    open_data, small_text, small_recipe, tiny_checkpoint, monkeypatch
):
    """As many as twenty histories, each of which may have a hundred thousand steps."""
    visitors = open_data()
    key, workspace = visitors.enter(None)
    run = join(workspace.start(small_text, small_recipe, tiny_checkpoint))
    visitors.close(PATIENCE)
    monkeypatch.setattr(workspaces.Run, "past", property(lambda run: pytest.fail("a past was read")))
    again = open_data().get(key)
    assert again.maker(again.current).id == run.id and again.run(run.id).points_bytes > 0
    again.use("Shipped")


# --- Runs that nobody looks at ----------------------------------------------------------------------------------------


def test_a_run_goes_on_while_a_page_asks_and_for_a_while_after(visitors, small_text, long_recipe):
    key, workspace = visitors.enter(None)
    run = workspace.start(small_text, long_recipe)
    wait_until(lambda: run.state == "running", "the run")

    def goes_on() -> bool:
        visitors.tend()
        step = run.progress().step
        wait_until(lambda: run.progress().step > step + 1 or run.state == "paused", "two more steps")
        return run.state == "running"

    workspace.seen -= 100 * 60
    visitors.get(key)  # as every question of a page does
    assert goes_on() and workspace.unattended() < PATIENCE
    workspace.seen -= 28 * 60
    assert goes_on() and 28 * 60 <= workspace.unattended() < 30 * 60
    workspace.seen -= 2 * 60
    visitors.tend()
    wait_until(lambda: run.state == "paused", "the pause")
    assert run.message == "No page was open for 30 minutes, so this run paused itself: press Resume."

    visitors.enter(key)
    visitors.tend()
    assert run.state == "paused" and run.message  # it does not go on by itself, but it may
    workspace.resume()
    assert goes_on() and run.message == ""


def test_how_long_a_run_goes_on_unattended_is_the_hosts_choice(open_data, small_text, long_recipe):
    visitors = open_data(unattended_minutes=0.5)
    _, workspace = visitors.enter(None)
    run = workspace.start(small_text, long_recipe)
    visitors.tend()
    wait_until(lambda: run.progress().step >= 3, "step 3")
    workspace.seen -= 31
    visitors.tend()
    wait_until(lambda: run.state == "paused", "the pause")
    assert run.message.startswith("No page was open for 0.5 minutes")


def test_tending_goes_on_by_itself(open_data, small_text, long_recipe, monkeypatch):
    monkeypatch.setattr(workspaces, "TEND_SECONDS", 0.02)
    visitors = open_data()
    _, workspace = visitors.enter(None)
    run = workspace.start(small_text, long_recipe)
    wait_until(lambda: run.progress().step >= 3, "step 3")
    workspace.seen -= 31 * 60
    wait_until(lambda: run.state == "paused", "the pause")
    assert visitors.host.disk_bytes > 0


# --- Whose workspace --------------------------------------------------------------------------------------------------


def test_a_key_opens_its_own_workspace_and_no_other(visitors):
    my_key, mine = visitors.enter(None)
    your_key, yours = visitors.enter(None)
    assert my_key != your_key and KEY.fullmatch(my_key) and mine.folder != yours.folder
    assert visitors.enter(my_key) == (my_key, mine)
    assert visitors.get(my_key) is mine is not yours
    mine.save_as("Mine")
    assert yours.names == ["Shipped"] and yours.current.name == "Verses"
    assert list(visitors.shipped) == ["Shipped"]


FORGED = [None, "", "forged", 5, 1.5, True, ["key"], {"key": 1}, ("key",), b"key", "k" * 31, "k" * 33, "k" * 100_000]
FORGED += ["\x00", "\ud800", "../" * 10 + "ab", "k" * 31 + "/", "k" * 31 + "ü", "k" * 32 + "\n", "k" * 31 + "\x00"]


@pytest.mark.parametrize("forged", FORGED, ids=lambda key: ascii(key)[-20:])
def test_a_key_of_another_form_opens_an_empty_workspace(forged, visitors):
    my_key, mine = visitors.enter(None)
    mine.save_as("Mine")
    new_key, new = visitors.enter(forged)
    assert new_key not in (forged, my_key) and new is not mine
    assert new.names == ["Shipped"] and new.folder.parent == mine.folder.parent
    with pytest.raises(BadInput, match="reload"):
        visitors.get(forged)


def test_keys_stand_nowhere_in_the_data(visitors, small_text, small_recipe, caplog):
    key, workspace = visitors.enter(None)
    join(workspace.start(small_text, small_recipe))
    workspace.save_as("Mine")
    visitors.tend()
    files = [path for path in visitors.settings.data.rglob("*") if path.is_file()]
    assert len(files) >= 5  # the lock, the index, two checkpoints, the run
    assert not [path for path in visitors.settings.data.rglob("*") if key in str(path)]
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert key not in caplog.text


def test_a_run_of_one_visitor_is_not_found_by_another(visitors, small_text, long_recipe):
    (_, mine), (_, yours) = visitors.enter(None), visitors.enter(None)
    my_run = pause(mine.start(small_text, long_recipe))
    with pytest.raises(BadInput, match="not here any more"):
        yours.run(my_run.id)
    yours.stop()
    your_run = pause(yours.start(small_text, long_recipe))  # each may have one at the same time
    assert my_run.active and your_run.active and my_run.id != your_run.id


def test_two_visitors_at_once_never_share_what_they_make(open_data, small_text, small_recipe):
    visitors = open_data(workers=2)
    (_, mine), (_, yours) = visitors.enter(None), visitors.enter(None)
    my_run, your_run = mine.start(small_text, small_recipe), yours.start(OTHER, small_recipe)
    join(my_run)
    join(your_run)
    assert mine.names == ["Shipped", "verses.txt"] and yours.names == ["Shipped", "fox.txt"]
    assert [c.provenance[0].name for c in (mine.current, yours.current)] == ["verses.txt", "fox.txt"]
    assert list(mine.runs) == [my_run.id] and list(yours.runs) == [your_run.id]


def test_workspaces_that_nobody_uses_leave_memory_and_come_back(open_data, small_text, long_recipe, monkeypatch):
    monkeypatch.setattr(workspaces, "MAX_OPEN", 2)
    visitors = open_data()
    entered = [visitors.enter(None) for _ in range(6)]
    looked_at, going, paused, *idle = (workspace for _, workspace in entered)
    run, paused_run = going.start(small_text, long_recipe), paused.start(small_text, long_recipe)
    pause(paused_run, after=1)
    for workspace in idle:
        workspace.save_as("Mine")
    visitors.tend()
    assert all(visitors.get(key) is workspace for key, workspace in entered)  # all were here a moment ago
    for _, workspace in entered[1:]:
        workspace.seen -= 3_600
    visitors.tend()
    again = [visitors.get(key) for key, _ in entered]
    assert again[0] is looked_at and again[1] is going and run.active
    assert all(now is not before for now, (_, before) in list(zip(again, entered, strict=True))[2:])
    assert [workspace.names for workspace in again[3:]] == [["Shipped", "Mine"]] * 3
    assert again[2].active_run.id == paused_run.id and again[2].active_run.progress() == paused_run.progress()
