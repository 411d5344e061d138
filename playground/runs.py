"""Runs and checkpoints of the visitors of a page: training goes on in threads, whoever looks on.

A `Workspace` is one visitor's, found by a key that cannot be guessed; a `Run` is one training in a thread of its own.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch

from playground.checkpoint import Checkpoint, TrainStep, clean_name
from playground.config import ModelConfig, Recipe, TrainConfig, memory_bytes
from playground.corpus import Corpus, References, Text
from playground.errors import BadInput
from playground.generation import write_sample
from playground.training import Diverged, Trainer, make_trainer, planned_model

MAX_WORKSPACES = 64
MAX_CHECKPOINTS = 30
MAX_RUNS = 20
MAX_RUN_BYTES = 4 * 2**30
ACTIVE = ("starting", "running", "paused", "pausing")


@dataclass(frozen=True)
class Progress:
    """What is new in a run since a cursor: the page asks for it twice a second."""

    name: str
    state: str
    step: int
    max_iters: int
    cursor: int  # where `steps` begin: the cursor asked for, or the end if that is earlier
    steps: list[TrainStep]
    n_evaluated_before: int  # evaluations among the steps before `cursor`
    tokens_per_second: float
    seconds: float
    seconds_left: float | None  # while the run is active
    message: str = ""
    references: References | None = None
    final_loss: float | None = None  # over the whole validation part


def past_progress(checkpoint: Checkpoint, cursor: int = 0) -> Progress:
    """The history that a checkpoint brought along, in the form of a run that has ended."""
    return _progress(
        checkpoint.history,
        checkpoint.config,
        checkpoint.train_config,
        cursor,
        name=checkpoint.name,
        state="finished",
        references=checkpoint.references,
        final_loss=checkpoint.val_loss,
    )


def _progress(
    history: Sequence[TrainStep], config: ModelConfig, train_config: TrainConfig, cursor: int, **known
) -> Progress:
    """What happened from the step at `cursor` on, and what else is `known` of the run."""
    cursor = min(max(cursor, 0), len(history))
    seconds = history[-1].seconds if history else 0.0
    pace = seconds / len(history) if history else 0.0  # seconds a step
    return Progress(
        step=len(history),
        max_iters=train_config.max_iters,
        cursor=cursor,
        steps=list(history[cursor:]),
        n_evaluated_before=sum(step.val_loss is not None for step in history[:cursor]),
        tokens_per_second=train_config.batch_size * config.block_size / pace if pace else 0.0,
        seconds=seconds,
        seconds_left=pace * (train_config.max_iters - len(history)) if pace and known["state"] in ACTIVE else None,
        **known,
    )


class Run:
    """A training in a thread. `state`: starting, running, (pausing, paused, running,) then finished, stopped or failed.

    `publish` is called from the thread with a new checkpoint at every pause and at the end.
    """

    def __init__(
        self,
        name: str,
        text: Text,
        recipe: Recipe,
        start: Checkpoint | None,
        publish: Callable[[Checkpoint], None],
    ):
        self.id, self.name, self.text, self.recipe = secrets.token_urlsafe(16), name, text, recipe
        self.state, self.message = "starting", ""
        self.trainer: Trainer | None = None  # while the run is active
        self.checkpoint: Checkpoint | None = None  # the latest it has published
        self._start, self._publish = start, publish
        self._wanted = "running"
        self._changed = threading.Condition()
        threading.Thread(target=self._live, name=f"run-{self.id[:6]}", daemon=True).start()

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def learning_rate(self) -> float | None:
        """That of the latest step of a run that is active."""
        trainer = self.trainer
        return trainer.history[-1].learning_rate if trainer and trainer.history else None

    def pause(self) -> None:
        self._want("paused")

    def resume(self) -> None:
        self._want("running")

    def stop(self) -> None:
        self._want("stopped")

    def set_learning_rate(self, learning_rate: float) -> None:
        if trainer := self.trainer:  # which another thread may be about to let go
            trainer.set_learning_rate(learning_rate)

    def progress(self, cursor: int = 0) -> Progress:
        """What happened from the step at `cursor` on."""
        known = {"name": self.name, "state": self.state, "message": self.message}
        checkpoint, past = self.checkpoint, self.trainer or self.checkpoint  # alike in what is asked of them here
        if not past:
            return _progress((), self.recipe.model, self.recipe.train, 0, **known)
        history = list(past.history)
        measured = checkpoint and len(checkpoint.history) == len(history)
        known |= {"references": past.references, "final_loss": checkpoint.val_loss if measured else None}
        return _progress(history, past.config, past.train_config, cursor, **known)

    def _want(self, state: str) -> None:
        with self._changed:
            if self.active and self._wanted != "stopped":
                self._wanted = state
                self._changed.notify_all()

    def _live(self) -> None:
        torch.set_num_threads(1)
        state, message = "failed", "Training failed by a defect of ours; its report is in the log."
        try:
            self.trainer = make_trainer(self.text, self.recipe, self._start, write_sample)
            self.message = _note_unknown(self.trainer.corpus)
            try:
                self._train()
                self._hand_over()
                state, message = "finished" if self.trainer.finished else "stopped", self.message
            except Diverged as error:
                self._hand_over()
                message = str(error)
        except BadInput as error:
            message = str(error)
        finally:
            self.trainer = None  # with its optimizers and its copies of the weights, five times what is published
            self.message, self.state = message, state  # the state last: whoever sees it finds the message there

    def _train(self) -> None:
        while not self.trainer.finished and self._wanted != "stopped":
            if self._wanted == "paused":
                self._hold()
            else:
                self.state = "running"
                self.trainer.step()

    def _hold(self) -> None:
        self.state = "pausing"
        self._hand_over()
        self.state = "paused"
        with self._changed:
            self._changed.wait_for(lambda: self._wanted != "paused")

    def _hand_over(self) -> None:
        """Publishes what was learned. Before the first step that is nothing, and random weights replace no model."""
        if self.trainer.history:
            self.checkpoint = self.trainer.checkpoint(self.name, self.trainer.val_loss())
            self._publish(self.checkpoint)


def _note_unknown(corpus: Corpus) -> str:
    if not corpus.unknown:
        return ""
    return f"{corpus.unknown:,} of {len(corpus.val):,} validation tokens are not in the vocabulary."


class Workspace:
    """What one visitor has: runs by id, checkpoints by name, and the checkpoint in use."""

    def __init__(self, shipped: dict[str, Checkpoint]):
        self.shipped = shipped
        self.checkpoints = dict(shipped)
        self.in_use = (next(iter(shipped.values())), 0)  # a checkpoint, and a number that goes up with each change
        self.runs: dict[str, Run] = {}
        self._lock = threading.RLock()

    @property
    def current(self) -> Checkpoint:
        return self.in_use[0]

    @property
    def active_run(self) -> Run | None:
        return next((run for run in list(self.runs.values()) if run.active), None)

    def start(self, text: Text, recipe: Recipe, start: Checkpoint | None = None) -> Run:
        """Starts a run on a text; with `start`, goes on from that checkpoint's weights."""
        with self._lock:
            if self.active_run:
                raise BadInput("A run of yours is still going: stop it, or let it finish, before you start another.")
            affordable_model(text, recipe, start)
            name = f"{start.name} → {text.name}" if start else text.name
            run = Run(self._free_name(name), text, recipe, start, self.keep)
            self.runs[run.id] = run
            ended = [run_id for run_id, run in self.runs.items() if not run.active]
            for old in ended[: max(0, len(self.runs) - MAX_RUNS)]:
                del self.runs[old]
            return run

    def pause(self) -> None:
        if run := self.active_run:
            run.pause()

    def resume(self) -> None:
        if run := self.active_run:
            run.resume()

    def stop(self) -> None:
        if run := self.active_run:
            run.stop()

    def set_learning_rate(self, learning_rate: float) -> None:
        """Changes the rate of the run that is going, from its next step on."""
        run = self.active_run
        if not run:
            raise BadInput("No run is going, so there is no learning rate to change: start one first.")
        run.set_learning_rate(learning_rate)

    def run(self, run_id: str) -> Run:
        if run_id not in self.runs:
            raise BadInput("This run is not here any more: start a new one.")
        return self.runs[run_id]

    def keep(self, checkpoint: Checkpoint) -> None:
        """Lists a checkpoint under its name, in place of an earlier one of that name, and takes it into use."""
        with self._lock:
            made = [name for name in self.checkpoints if name not in self.shipped and name != checkpoint.name]
            for name in made[: max(0, len(made) + 1 - MAX_CHECKPOINTS)]:
                del self.checkpoints[name]
            self.checkpoints[checkpoint.name] = checkpoint
            self._take(checkpoint)

    def save_as(self, name: str) -> Checkpoint:
        """Lists the checkpoint in use under a name of the visitor's choice."""
        if not name.strip():
            raise BadInput("Give the checkpoint a name first.")
        return self.add(replace(self.current, name=name))

    def add(self, checkpoint: Checkpoint) -> Checkpoint:
        """Lists a checkpoint from elsewhere, under a name that is still free, and takes it into use."""
        with self._lock:
            added = replace(checkpoint, name=self._free_name(checkpoint.name))
            self.keep(added)
            return added

    def listed(self, name: object) -> Checkpoint:
        checkpoint = self.checkpoints.get(name) if isinstance(name, str) else None
        if not checkpoint:
            raise BadInput("This checkpoint is not in the list any more: choose another.")
        return checkpoint

    def use(self, name: object) -> Checkpoint:
        """Takes a listed checkpoint into use."""
        with self._lock:
            self._take(self.listed(name))
            return self.current

    def _take(self, checkpoint: Checkpoint) -> None:
        self.in_use = (checkpoint, self.in_use[1] + 1)

    def _free_name(self, name: str) -> str:
        """The name, or with a number behind it if a checkpoint has it, or a run that will publish one."""
        name, taken = clean_name(name), {*self.checkpoints, *(run.name for run in self.runs.values())}
        return next(n for n in (name if i == 1 else f"{name} ({i})" for i in count(1)) if n not in taken)


def affordable_model(text: Text, recipe: Recipe, start: Checkpoint | None = None) -> ModelConfig:
    """The model of a run. Raises `BadInput` for one that cannot be, or that would take more memory than one may."""
    for name, sentence in (recipe.train if start else recipe).problems().items():
        raise BadInput(f"{name}: {sentence}")
    model = planned_model(text, recipe, start)
    model.validate()
    needed = memory_bytes(model, recipe.train)
    if needed > MAX_RUN_BYTES:
        raise BadInput(
            f"This run would need about {needed / 2**30:.1f} GB of memory, and {MAX_RUN_BYTES / 2**30:.0f} GB are the "
            "limit: make the batch, the context or the embedding smaller."
        )
    return model


class Workspaces:
    """All visitors' workspaces. The least recently seen one without a run makes way when there are too many."""

    def __init__(self, shipped: dict[str, Checkpoint]):
        self.shipped = shipped
        self._open: OrderedDict[str, Workspace] = OrderedDict()
        self._lock = threading.Lock()

    def enter(self, key: object) -> tuple[str, Workspace]:
        """The workspace of a key, or a new one with a new key: a key that we did not give out opens nothing."""
        with self._lock:
            if not isinstance(key, str) or key not in self._open:
                key = secrets.token_urlsafe(24)
                self._make_room()
                self._open[key] = Workspace(self.shipped)
            self._open.move_to_end(key)
            return key, self._open[key]

    def get(self, key: object) -> Workspace:
        with self._lock:
            if not isinstance(key, str) or key not in self._open:
                raise BadInput("The server has started anew or forgotten this visit: reload the page.")
            self._open.move_to_end(key)
            return self._open[key]

    def _make_room(self) -> None:
        idle = [key for key, workspace in self._open.items() if not workspace.active_run]
        for key in idle[: max(0, len(self._open) + 1 - MAX_WORKSPACES)]:
            del self._open[key]
