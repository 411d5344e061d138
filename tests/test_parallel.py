"""Who works on a step: a second thread, and processes that torchrun starts, all on this machine and with gloo."""

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import astuple, replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from surroundings import PATIENCE, free_port

from playground.__main__ import STATE, main
from playground.checkpoint import FILE_NAME, TrainStep, load
from playground.config import PRESETS
from playground.corpus import built_in, read_text
from playground.errors import BadInput
from playground.parallel import ALONE, World, here, joined_world, second_thread
from playground.training import Trainer, make_trainer, train

ROOT = Path(__file__).parents[1]


# --- A second thread --------------------------------------------------------------------------------------------------


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """How many threads torch has stays as it was."""
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


def test_here_does_it_at_once_and_in_this_thread():
    done = here(threading.current_thread)
    assert done.done() and done.result() is threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        here(lambda: 1 / 0).result()


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize(("n_threads", "half"), [(2, 1), (3, 1), (4, 2)])
def test_a_second_thread_and_this_one_share_the_cores(n_threads, half):
    torch.set_num_threads(n_threads)
    with second_thread() as beside:
        assert beside(threading.current_thread).result(PATIENCE) is not threading.current_thread()
        assert torch.get_num_threads() == half
        assert beside(torch.get_num_threads).result(PATIENCE) == half
        met = threading.Barrier(2, timeout=PATIENCE)
        other = beside(met.wait)
        met.wait()  # else it would wait in vain
        other.result(PATIENCE)
        with pytest.raises(ZeroDivisionError):
            beside(lambda: 1 / 0).result(PATIENCE)
    assert torch.get_num_threads() == n_threads
    assert not any(thread.name.startswith("half") for thread in threading.enumerate())


@pytest.mark.usefixtures("torch_threads")
def test_with_one_thread_there_is_no_second():
    torch.set_num_threads(1)
    with second_thread() as beside:
        assert beside(threading.current_thread).result(0) is threading.current_thread()
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("torch_threads")
def test_the_threads_come_back_after_an_error():
    torch.set_num_threads(4)
    with pytest.raises(ZeroDivisionError), second_thread():
        raise ZeroDivisionError
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_sums_are_the_same_whoever_takes_the_other_half(batch_size, small_text, small_recipe):
    recipe = replace(
        small_recipe,
        model=replace(small_recipe.model, dropout=0.2),
        train=replace(small_recipe.train, batch_size=batch_size, max_iters=10),
    )
    torch.set_num_threads(2)
    with second_thread() as beside:
        histories = [list(train(make_trainer(small_text, recipe, beside=who))) for who in (beside, here)]
    one, other = ([astuple(replace(step, seconds=0.0)) for step in history] for history in histories)
    assert one == other


# --- Several processes ------------------------------------------------------------------------------------------------


def torchrun(*program: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a program that runs as two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, f"--master-port={free_port()}", *map(str, program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
    ) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.terminate()  # its processes end with it; were it killed, they would not
    return process.returncode, out, err


@pytest.fixture(scope="module")
def stories(tmp_path_factory) -> Path:
    """A text of which 80 steps learn only a part."""
    path = tmp_path_factory.mktemp("texts") / "stories.txt"
    path.write_text(built_in("stories").text[:20_000])
    return path


@pytest.fixture(scope="module")
def one_process(stories) -> list[TrainStep]:
    """The first 80 steps of the tiny preset, as one process takes them."""
    history = list(islice(train(make_trainer(read_text(stories), PRESETS["tiny"])), 80))
    start, halfway, end = (history[i].val_loss for i in (0, 39, 79))
    assert start > halfway + 0.1 > end + 0.2  # so that a loss to reach ends a training after 40 or 80
    return history


def training(text: Path, out: Path, until: TrainStep) -> list[str]:
    """What follows `python -m playground` to train as `one_process` until that step."""
    stop = until.val_loss + 0.05
    return ["train", str(text), "--out", str(out), "--preset", "tiny", "--json", "--target-val-loss", str(stop)]


@pytest.fixture(scope="module")
def by_two(stories, one_process, tmp_path_factory) -> tuple[Path, tuple[int, str, str]]:
    """The folder of 40 steps taken by two processes, and what they said."""
    out = tmp_path_factory.mktemp("runs") / "two"
    return out, torchrun("-m", "playground", *training(stories, out, until=one_process[39]))


def assert_same_curve(history: Iterable[TrainStep], expected: list[TrainStep]) -> None:
    """Every number of every step, to 1e-3."""
    assert [step.step for step in history] == [step.step for step in expected]
    for name in ("train_loss", "val_loss", "learning_rate", "grad_norm"):
        pairs = [(getattr(one, name), getattr(other, name)) for one, other in zip(history, expected, strict=True)]
        assert [one for one, _ in pairs] == pytest.approx([other for _, other in pairs], abs=1e-3), name


def test_two_processes_take_the_steps_of_one(by_two, one_process):
    out, (code, _, err) = by_two
    assert code == 0, err
    assert_same_curve(load(out).history, one_process[:40])


def test_two_processes_write_and_report_once(by_two):
    out, (_, said, err) = by_two
    figures = json.loads(said)  # one line and nothing else
    assert figures["steps"] == 40 and figures["val_loss"] == load(out).val_loss
    assert {file.name for file in out.iterdir()} == {FILE_NAME, STATE}
    assert err.count("| 0/400") == 1  # of one progress bar
    assert "Warning" not in err


def test_one_process_goes_on_from_two(by_two, stories, one_process):
    out, _ = by_two
    assert main([*training(stories, out, until=one_process[79]), "--resume"]) == 0
    assert_same_curve(load(out).history, one_process)


def test_two_processes_go_on_from_one(stories, one_process, tmp_path):
    assert main(training(stories, tmp_path, until=one_process[39])) == 0
    assert load(tmp_path).step == 40
    code, _, err = torchrun("-m", "playground", *training(stories, tmp_path, until=one_process[79]), "--resume")
    assert code == 0, err
    assert_same_curve(load(tmp_path).history, one_process)


def test_two_processes_drop_what_the_two_halves_of_one_drop(stories, tmp_path):
    recipe = PRESETS["classic"]
    assert recipe.model.dropout
    one_step = ["train", stories, "--preset", "classic", "--target-val-loss", 99, "--out", tmp_path]
    code, _, err = torchrun("-m", "playground", *one_step)
    assert code == 0, err
    assert_same_curve(load(tmp_path).history, [make_trainer(read_text(stories), recipe).step()])


POISONED = """
import math, sys
from playground.__main__ import main
from playground.training import Trainer

step = Trainer.step

def poisoned_third_step(self):
    if self.n_steps == 2 and self.world.rank == 1:
        self.model.lm_head.weight.data.fill_(math.nan)
    return step(self)

Trainer.step = poisoned_third_step
sys.exit(main())
"""


def test_all_processes_end_when_one_diverges(stories, tmp_path):
    program = tmp_path / "poisoned.py"
    program.write_text(POISONED)
    code, said, err = torchrun(program, "train", stories, "--preset", "tiny", "--out", tmp_path / "out")
    assert code != 0 and said == ""
    assert "playground: The loss was no longer a finite number at step 3" in err
    assert load(tmp_path / "out").step == 1 and math.isfinite(load(tmp_path / "out").val_loss)


def test_rows_that_cannot_be_shared_equally_are_refused(small_text, small_recipe):
    recipe = replace(small_recipe, train=replace(small_recipe.train, batch_size=3))
    with pytest.raises(BadInput) as caught:
        make_trainer(small_text, recipe, world=World(rank=0, size=2))
    assert str(caught.value) == ("batch_size: 3 rows cannot be shared equally by 2 processes: choose a multiple of 2.")


@pytest.mark.parametrize("world_size", [None, "1"])
def test_without_others_a_process_is_alone(world_size, monkeypatch, small_text, small_recipe):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world_size:
        monkeypatch.setenv("WORLD_SIZE", world_size)
    with joined_world(torch.device("cpu")) as world:
        assert world == ALONE == World(rank=0, size=1)
        assert not torch.distributed.is_initialized()
        assert isinstance(make_trainer(small_text, small_recipe, world=world), Trainer)
