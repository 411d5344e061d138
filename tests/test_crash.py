"""What becomes of runs when the program is killed, told to end, started twice, or finds its files damaged."""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from functools import lru_cache
from pathlib import Path

import crash_host
import pytest
import torch
from handmade import random_checkpoint
from safetensors.torch import load_file
from surroundings import PATIENCE, free_port, wait_until

from playground import checkpoint as checkpoints
from playground.checkpoint import Checkpoint, TrainStep
from playground.config import Recipe
from playground.errors import BadInput
from playground.generation import write_sample
from playground.runs import ACTIVE, COMPUTING, PAST, RECORD, STATE, TEXT, Run
from playground.tokenizer import CharTokenizer
from playground.training import Trainer, make_trainer, saved_history, train
from playground.workspaces import INDEX, Workspaces

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("KILLS", "10"))
LAST_STEP = crash_host.recipe_of(1).train.max_iters
ENDLESS = crash_host.recipe_of(seed=1, max_iters=100_000)
ANN, BOB = "a" * 32, "b" * 32  # the keys of two visitors


def without_clock(history: list[TrainStep]) -> list[tuple]:
    """The history but for the seconds, which no two runs share."""
    return [astuple(replace(step, seconds=0.0)) for step in history]


def uninterrupted(recipe: Recipe, n_steps: int, start: Checkpoint | None = None) -> Trainer:
    """A trainer that has made these steps without a pause."""
    trainer = make_trainer(crash_host.TEXT, recipe, start, write_sample)
    for _ in range(n_steps):
        trainer.step()
    return trainer


# --- Killed -----------------------------------------------------------------------------------------------------------


class Host:
    """Processes that compute in a folder, one after the other; see crash_host.py."""

    def __init__(self):
        self._forker = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "crash_host.py"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def open(self, folder: Path) -> None:
        print(folder, file=self._forker.stdin, flush=True)
        self._pid = self.wait_for("pid")

    def wait_for(self, word: str, at_least: int = 0) -> int | str:
        """What a line says behind this word; if that is a number, one that is large enough."""
        for line in self._forker.stdout:
            said, what = line.split()
            what = int(what) if what.lstrip("-").isdigit() else what
            if said == word and (isinstance(what, str) or what >= at_least):
                return what
            assert said != "gone", "the host ended by itself"
        pytest.fail("the host is gone")

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        assert self.wait_for("gone", at_least=-signal.SIGKILL) == -signal.SIGKILL, "the host ended before it was killed"

    def end(self) -> None:
        os.killpg(self._forker.pid, signal.SIGKILL)
        self._forker.wait()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.end()


@lru_cache
def whole_run(seed: int) -> Checkpoint:
    """What a run of the host's comes to if nothing interrupts it."""
    trainer = make_trainer(crash_host.TEXT, crash_host.recipe_of(seed), sampler=write_sample)
    for _ in train(trainer):
        pass
    return trainer.checkpoint("", trainer.val_loss())


def records(folder: Path) -> dict[Path, dict]:
    """What is written of all runs, by their folders, the oldest first."""
    found = {file.parent: json.loads(file.read_bytes()) for file in folder.glob(f"visitors/*/runs/*/{RECORD}")}
    return dict(sorted(found.items(), key=lambda run: run[1]["created"]))


def check_files(folder: Path) -> None:
    """Every file can be read, but for those whose names say that they are unfinished."""
    for file in (file for file in folder.rglob("*") if file.is_file()):
        if file.suffix == ".unfinished" or file.name.startswith(".tmp"):  # as safetensors calls its own
            continue
        if file.name == STATE:
            assert load_file(file)
            assert [step.step for step in saved_history(file)] == list(range(1, len(saved_history(file)) + 1))
        elif file.suffix == ".safetensors":
            assert checkpoints.load(file).weights
        elif file.name == INDEX:
            listed = json.loads(file.read_bytes())["checkpoints"].values()
            assert all((file.parent / "checkpoints" / name).exists() for name in listed)
        elif file.suffix == ".json":
            assert json.loads(file.read_bytes())
        elif file.name == TEXT:
            assert file.read_text() == crash_host.TEXT.text
        else:
            assert file == folder / "lock"


def check_state(run: Path, seed: int) -> int:
    """The last state lies on the curve that the run would have had. Returns its step."""
    history = saved_history(run / STATE) if (run / STATE).exists() else []
    assert without_clock(history) == without_clock(whole_run(seed).history)[: len(history)]
    return len(history)


def check_end(run: Path, name: str, seed: int) -> None:
    """What the run has published is what it would have come to."""
    visitor, whole = run.parents[1], whole_run(seed)
    index = json.loads((visitor / INDEX).read_bytes())
    published = checkpoints.load(visitor / "checkpoints" / index["checkpoints"][name])
    assert without_clock(published.history) == without_clock(whole.history)
    assert published.weights.keys() == whole.weights.keys()
    assert all(torch.equal(published.weights[key], weight) for key, weight in whole.weights.items())
    assert (published.val_loss, published.references) == (whole.val_loss, whole.references)
    assert len(json.loads((run / PAST).read_bytes())["history"]) == LAST_STEP


# Kills come by turns this many seconds at most after a host has said this: at its opening, anywhere, when the run
# pauses and goes on again, and when it ends and the next one starts.
MOMENTS = [("pid", 0, 0.2), ("pid", 0, 1.5), ("step", LAST_STEP // 2, 0.1), ("step", LAST_STEP - 1, 0.25)]


@pytest.mark.timeout(PATIENCE + 30 * KILLS)
def test_killed_at_any_moment_a_run_goes_on_to_the_curve_it_would_have_had(host, tmp_path):
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed}")
    rng, n_hits, resumed, last_step, ended = random.Random(seed), 0, [], None, set()
    for n in range(KILLS + 1):
        host.open(tmp_path)
        if last_step is not None:
            assert host.wait_for("opened") == last_step
            resumed.append(last_step)
        if n < KILLS:
            word, at_least, seconds = MOMENTS[n % len(MOMENTS)]
            if word == "step":
                host.wait_for(word, at_least)
            time.sleep(rng.uniform(0, seconds))
        else:
            assert host.wait_for("ended") == "finished"  # after the last kill, one run is left in peace
        host.kill()
        check_files(tmp_path)
        last_step = None
        for number, (run, record) in enumerate(records(tmp_path).items(), start=1):
            assert record["recipe"]["train"]["seed"] == number
            if record["state"] in ACTIVE:
                n_hits, last_step = n_hits + 1, check_state(run, number)
            elif run not in ended:
                assert record["state"] == "finished"
                check_end(run, record["name"], number)
                ended.add(run)
    print(f"{n_hits} of {KILLS} kills hit a run; {len(ended)} runs ended; went on from steps {sorted(resumed)}")
    assert n_hits >= 0.7 * KILLS
    assert ended


# --- Told to end, and started twice -----------------------------------------------------------------------------------


@pytest.fixture
def start_app() -> Iterator[Callable[..., tuple[subprocess.Popen, int]]]:
    """Starts the real page on a folder: its process, and the port where it is served."""
    apps = []

    def start(folder: Path, save_seconds: int = 5) -> tuple[subprocess.Popen, int]:
        port = free_port()
        about = {"PLAYGROUND_DATA": str(folder), "PLAYGROUND_SAVE_SECONDS": str(save_seconds)}
        about |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=os.environ | about, **pipes)
        apps.append(app)
        return app, port

    yield start
    for app in apps:
        app.kill()
        app.wait()


def connect(app: subprocess.Popen, port: int) -> http.client.HTTPConnection:
    """A connection to the page, once it is served, that stays open."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def is_served() -> bool:
        assert app.poll() is None, app.stderr.read()
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().startswith(b"<!doctype html>")
        except OSError:
            connection.close()
            return False

    wait_until(is_served, "the page")
    return connection


def test_sigterm_writes_every_runs_state_and_ends_in_time(start_app, tmp_path):
    folders = [tmp_path / "visitors" / visitor / "runs" / "endless" for visitor in ("ann", "bob")]
    for folder in folders:
        Run.create(folder, "Endless", crash_host.TEXT, ENDLESS, None, memory=1)

    def now() -> list[list[TrainStep]]:
        return [saved_history(folder / STATE) for folder in folders]

    app, port = start_app(tmp_path, save_seconds=3_600)
    connection = connect(app, port)
    time.sleep(8)  # the runs go on behind the page, and nothing tells of them; both begin on a busy machine as well
    assert not any((folder / STATE).exists() for folder in folders)
    told = time.monotonic()
    app.terminate()
    assert app.wait(PATIENCE) == 0, app.stderr.read()
    print(f"ended in {time.monotonic() - told:.2f} s")
    connection.close()
    before = now()
    assert all(before)

    app, port = start_app(tmp_path, save_seconds=0)
    connect(app, port).close()
    wait_until(lambda: all(len(new) > len(old) for new, old in zip(now(), before, strict=True)), "the next states")
    for new, old in zip(now(), before, strict=True):
        assert new[: len(old)] == old  # with their seconds: these very steps
    check_files(tmp_path)


def test_a_second_program_on_the_same_folder_ends_with_a_sentence(host, start_app, tmp_path):
    host.open(tmp_path)
    host.wait_for("step", at_least=1)
    second, _ = start_app(tmp_path)
    said = second.communicate(timeout=PATIENCE)[1]
    assert second.returncode == 1
    assert said.splitlines()[-1] == (
        f"playground: Another playground uses {tmp_path}: set PLAYGROUND_DATA to another folder."
    )
    assert "Traceback" not in said
    with pytest.raises(BadInput, match="Another playground"):  # the second one has not opened the lock
        crash_host.open_workspaces(tmp_path)
    assert host.wait_for("ended") == "finished"
    host.kill()
    run, record = next(iter(records(tmp_path).items()))
    check_end(run, record["name"], seed=1)


# --- Files that a crash, or somebody, has left in a bad way -----------------------------------------------------------


@pytest.fixture
def open_folder(tmp_path) -> Iterator[Callable[[], Workspaces]]:
    """Opens the workspaces in a folder; for another time only once they are closed."""
    opened = []

    def open_once_more() -> Workspaces:
        opened.append(crash_host.open_workspaces(tmp_path))
        return opened[-1]

    yield open_once_more
    for workspaces in opened:
        workspaces.close(PATIENCE)


def wait_for_step(run: Run, step: int) -> Run:
    wait_until(lambda: run.progress().step >= step or not run.active, f"step {step}")
    assert run.active, run.message
    return run


def pause(run: Run) -> Run:
    run.pause()
    wait_until(lambda: run.state == "paused", "the pause")
    return run


def only_run(workspaces: Workspaces, key: str) -> Run:
    (run,) = workspaces.get(key).runs.values()
    return run


def test_unfinished_files_of_an_earlier_crash_disturb_nothing(open_folder, tmp_path):
    start = random_checkpoint(CharTokenizer.train(crash_host.TEXT.text))
    workspaces = open_folder()
    workspace = workspaces.get(ANN)
    run = workspace.start(crash_host.TEXT, ENDLESS, start)
    pause(wait_for_step(run, 5))  # so that there is a file of each kind
    n_paused, names = run.progress().step, workspace.names
    workspace.resume()
    wait_for_step(run, n_paused + 5)
    assert workspaces.close(PATIENCE)
    n_before = len(saved_history(run.folder / STATE))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 8  # a lock, an index, a checkpoint and five of the run
    for file in files:
        file.with_name(file.name + ".unfinished").write_bytes(random.randbytes(1_000_000))  # longer than the true one

    workspaces = open_folder()
    workspace, run = workspaces.get(ANN), only_run(workspaces, ANN)
    assert (workspace.names, workspace.current.step) == (names, n_paused)
    assert len(run.past.history) == n_before
    pause(wait_for_step(run, n_before + 5))
    assert workspaces.close(PATIENCE)
    check_files(tmp_path)
    n_after = len(saved_history(run.folder / STATE))
    trainer = uninterrupted(ENDLESS, n_after, start)
    assert without_clock(workspace.current.history) == without_clock(trainer.history)
    assert all(torch.equal(workspace.current.weights[k], w) for k, w in trainer.model.state_dict().items())


def test_what_a_killed_program_left_behind_is_cleared_away(open_folder, tmp_path):
    """Or else the disk fills with files that nobody will ever read."""
    workspaces = open_folder()
    run = workspaces.get(ANN).start(crash_host.TEXT, crash_host.recipe_of(1, max_iters=2))
    wait_until(lambda: not run.active, "the end")
    going = workspaces.get(BOB).start(crash_host.TEXT, ENDLESS)
    pause(wait_for_step(going, 2))
    assert workspaces.close(PATIENCE)
    files = {file for file in tmp_path.rglob("*") if file.is_file()}
    (listed,) = run.folder.parents[1].glob("checkpoints/*")
    left = [
        run.folder / STATE,  # killed between the record of the end and the end
        going.folder / f"{STATE}.unfinished",
        going.folder / ".tmpAbCdEf",  # a state that safetensors was writing
        listed.with_name("unlisted.safetensors"),  # killed before the list was written, or after
        listed.with_name("unlisted.safetensors.unfinished"),
    ]
    for file in left:
        file.write_bytes(b"left behind")
    workspaces = open_folder()
    for key in (ANN, BOB):
        assert workspaces.get(key).runs
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == files


DAMAGES = {
    "cut in half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("state", ["running", "paused"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_whose_state_is_damaged_begins_anew_and_the_others_go_on(damage, state, open_folder, tmp_path):
    """Text and recipe are still there, and make the same curve again."""
    workspaces = open_folder()
    anns, bobs = (workspaces.get(key).start(crash_host.TEXT, ENDLESS) for key in (ANN, BOB))
    wait_for_step(bobs, 5)
    wait_for_step(anns, 5)
    if state == "paused":
        pause(anns)
    assert workspaces.close(PATIENCE)
    assert [record["state"] in COMPUTING for record in records(tmp_path).values()] == [state == "running", True]
    n_bobs = len(saved_history(bobs.folder / STATE))
    (anns.folder / STATE).write_bytes(DAMAGES[damage]((anns.folder / STATE).read_bytes()))

    workspaces = open_folder()
    anns, bobs = only_run(workspaces, ANN), only_run(workspaces, BOB)
    if state == "paused":
        assert anns.state == "paused"
        workspaces.get(ANN).resume()
    wait_for_step(bobs, n_bobs + 5)
    wait_until(lambda: anns.state != "starting", "the start")
    wait_for_step(anns, 5)
    assert "could not be read" in anns.message
    assert workspaces.close(PATIENCE)
    for run in (anns, bobs):
        history = saved_history(run.folder / STATE)
        assert without_clock(history) == without_clock(uninterrupted(ENDLESS, len(history)).history)
