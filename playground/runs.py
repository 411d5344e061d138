"""Runs: trainings that go on whoever looks on, and that outlive the program they go on in.

A `Run` is a job of the engine and lives in a folder of its own. What it needs to begin is written there before it
begins, and its state every few seconds after; so opening the folder again, after a pause, a restart or a crash, goes on
from the last state to the very curve the run would have had.

    run.json            name, recipe, whether it runs, has paused or ended
    text.txt            what it learns from
    start.safetensors   the checkpoint it started from, if it did
    first.txt           what that had learned from, if it is at hand
    points/             the checkpoints after some steps of a run that started from one: see `Run.points`
    state.safetensors   weights, optimizers, random numbers and history: all that the next step depends on
    past.json           history and losses when it paused or ended
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from time import monotonic, time

import torch
from safetensors import SafetensorError

from playground import checkpoint as checkpoints
from playground.checkpoint import MAX_NAME, Beginning, Checkpoint, Past, TrainStep, clean_name
from playground.config import ModelConfig, Recipe, TrainConfig
from playground.corpus import References, Text
from playground.engine import Engine
from playground.errors import BadInput
from playground.files import remove, remove_except, write_bytes, write_json
from playground.generation import write_sample
from playground.training import (
    Diverged,
    Trainer,
    check_learning_rate,
    is_evaluated,
    make_trainer,
    saved_history,
)

COMPUTING = ("starting", "running", "pausing", "stopping")
ACTIVE = (*COMPUTING, "paused")
MAX_RECOVERIES = 5  # without a step of progress; more would mean that the run itself ends the server
MAX_POINTS = 16  # of a run that one can go back to
RECORD, TEXT, START, STATE, PAST = "run.json", "text.txt", "start.safetensors", "state.safetensors", "past.json"
FIRST, POINTS = "first.txt", "points"
TOO_LARGE = "No earlier steps are kept of a model this large: to keep one, pause there and save the model under a name."
SAVING_SHARE = 0.05  # of the time at most goes into saving states, however large they are


@dataclass(frozen=True)
class Point:
    """A step of a run that one can go back to, with the losses that were found there, as `TrainStep` has them."""

    step: int
    val_loss: float | None  # None as long as those of the start are not known
    first_val_loss: float | None


@dataclass(frozen=True)
class Progress:
    """What is new in a run since a cursor: the page asks for it twice a second."""

    name: str
    state: str
    step: int
    max_iters: int
    cursor: int  # where `steps` begin: the cursor asked for, or the end if that is earlier
    steps: list[TrainStep]
    tokens_per_second: float
    seconds: float  # of computing so far
    seconds_left: float | None  # while the run is active, shared as the machine is now
    message: str = ""
    text: str | None = None  # the name of what it learns from
    others: int = 0  # other runs that share the machine with this one
    references: References | None = None
    final_loss: float | None = None  # over the whole validation part
    first_final_loss: float | None = None  # likewise, of the text that was learned before
    beginning: Beginning | None = None  # where it is fine-tuned
    points: Sequence[Point] = ()
    points_note: str = ""  # why there are none, where one might look for some


def past_progress(checkpoint: Checkpoint, cursor: int = 0) -> Progress:
    """The history that a checkpoint brought along, in the form of a run that has ended."""
    return _progress(
        checkpoint.history,
        checkpoint.config,
        checkpoint.train_config,
        cursor,
        name=checkpoint.name,
        state="finished",
        text=checkpoint.provenance[-1].name if checkpoint.provenance else None,
        references=checkpoint.references,
        final_loss=checkpoint.val_loss,
        first_final_loss=checkpoint.first_val_loss,
        beginning=checkpoint.beginning,
    )


def _progress(
    history: Sequence[TrainStep],
    config: ModelConfig,
    train_config: TrainConfig,
    cursor: int,
    crowding: float = 1.0,
    **known,
) -> Progress:
    """What happened from the step at `cursor` on, and what else is `known` of the run."""
    cursor = min(max(cursor, 0), len(history))
    seconds, first = (history[-1].seconds, history[0].seconds) if history else (0.0, 0.0)
    # Seconds a step. The first one evaluates and allocates, so it says little of the others.
    pace = crowding * (seconds - first) / (len(history) - 1) if len(history) > 1 else 0.0
    return Progress(
        step=len(history),
        max_iters=train_config.max_iters,
        cursor=cursor,
        steps=list(history[cursor:]),
        tokens_per_second=train_config.batch_size * config.block_size / pace if pace else 0.0,
        seconds=seconds,
        seconds_left=pace * (train_config.max_iters - len(history)) if pace and known["state"] in ACTIVE else None,
        **known,
    )


class Run:
    """A training. `state`: starting, running, (pausing, paused, starting, running, stopping,) then finished, stopped or
    failed.

    `publish` is called with a new checkpoint at every pause and at the end, from the thread that works on the run.
    A run that has paused takes no memory: it goes on from its files as after a restart. Of one that started from a
    checkpoint, some of what it was on the way stays for as long as the run, in `points_bytes` at most.
    """

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        publish: Callable[[Checkpoint], None],
        save_seconds: float,
        points_bytes: float,
    ):
        """Opens the run in a folder that `create` has made. It goes on when it is told to `begin`."""
        self.folder, self.id = folder, folder.name
        self._engine, self._publish, self._save_seconds = engine, publish, save_seconds
        self._record = record = json.loads((folder / RECORD).read_bytes())
        self.name, self.created, self.memory = record["name"], record["created"], record["memory"]
        self.recipe = _recipe(record["recipe"])
        self.state, self.message, self._rate = record["state"], record["message"], record["rate"]
        self._wanted = record["wanted"]  # running, paused or stopped: what the visitor asked for last
        self.trainer: Trainer | None = None  # while the run computes
        self.interrupted = self.state in COMPUTING  # and nobody has begun it in this program
        if self.interrupted:
            self.state = "paused"
        self._saved_step, self._save_at = -1, 0.0
        self._lock = threading.RLock()
        self._points_bytes = points_bytes
        self._point_steps = self._plan_points()
        self._thin_points()
        kept = {RECORD, TEXT, PAST} | ({START} if self._point_steps else set())
        remove_except(folder, kept | ({START, FIRST, STATE} if self.active else set()))

    @staticmethod
    def create(
        folder: Path,
        name: str,
        text: Text,
        recipe: Recipe,
        start: Checkpoint | None,
        memory: int,
        first: Text | None = None,
    ) -> None:
        """Writes all that a run needs to begin. `memory` is how many bytes it is taken to need; `first` is what the
        start has learned from, for measuring how much of that is forgotten.
        """
        folder.mkdir(parents=True)
        write_bytes(folder / TEXT, text.text.encode())
        if start:  # whose tokenizer and shape stay, whatever the recipe asks for
            checkpoints.save(start, folder / START)
            tokenizer, model = start.tokenizer, replace(start.config, dropout=recipe.model.dropout)
            recipe = replace(recipe, tokenizer=tokenizer.kind, tokenizer_vocab_size=tokenizer.vocab_size, model=model)
        if first:
            write_bytes(folder / FIRST, first.text.encode())
        record = {"name": name, "created": time(), "memory": memory, "recipe": asdict(recipe)}
        record |= {
            "text": [text.name, text.note],
            "text_sha256": text.sha256,
            "first": [first.name, first.note] if first else None,
            "start": start and start.name,
            "state": "starting",
            "wanted": "running",
            "message": "",
            "rate": None,
            "recovered": [0, 0],  # at which step, and how often there
        }
        write_json(folder / RECORD, record)  # last: a folder with a record is a whole one

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def text(self) -> Text:
        return self._read("text", TEXT)

    @property
    def points(self) -> list[int]:
        """The steps that one can go back to, the start included: evaluations spread over the run."""
        kept = self._point_sizes()
        reached = len((self.trainer or self.past).history) if kept else 0  # what lies beyond is of another future
        return [step for step in kept if step <= reached]

    @property
    def points_bytes(self) -> int:
        return sum(self._point_sizes().values())

    def point(self, step: int) -> Checkpoint:
        """What the run had become after a step, one of its `points`."""
        if step not in self.points:
            raise BadInput("This step of the run is not kept: choose one of the list.")
        return replace(checkpoints.load(self._point_file(step)), name=self._point_name(step))

    @property
    def origin(self) -> dict[str, str | None]:
        """What it learns from: `text`, its name, and `text_sha256`; and `start`, the checkpoint it goes on from."""
        record = self._record
        return {"text": record["text"][0], "text_sha256": record.get("text_sha256"), "start": record.get("start")}

    @property
    def learning_rate(self) -> float | None:
        """That of the latest step of a run that is active."""
        history = (self.trainer or self.past).history
        return history[-1].learning_rate if self.active and history else None

    @cached_property
    def past(self) -> Past:
        """What can be told of the run while it does not compute; read when it is first asked for."""
        if (self.folder / PAST).exists() and not self.interrupted:
            try:
                return Past.from_dict(json.loads((self.folder / PAST).read_bytes()))
            except (OSError, ValueError, AttributeError):  # not by a crash of ours: those leave whole files
                logging.exception("the past of a run cannot be read")
        try:
            history = saved_history(self.folder / STATE)
        except (SafetensorError, ValueError, LookupError, OSError):  # there is none yet, or it will have to begin anew
            history = ()
        return Past(self.recipe.model, self.recipe.train, tuple(history))

    def begin(self) -> None:
        """Computes from now on, as often as it has its turn."""
        self.past = self.past  # read before a worker may replace it
        self.interrupted, self.state = False, "starting"
        self._engine.add(self)

    def recover(self) -> None:
        """Goes on after the program that it went on in has ended; unless that seems to happen because of this run."""
        step = len(self.past.history)
        at, times = self._record["recovered"]
        self._record["recovered"] = [step, times + 1 if at == step else 1]
        if self._record["recovered"][1] > MAX_RECOVERIES:
            self._wanted = "paused"
            self.message = f"The server ended {MAX_RECOVERIES} times at step {step:,}: press Resume to try again."
        else:
            if self._wanted == "running":
                self.message = f"The server restarted, and this run went on from step {step:,}."
            self.begin()
        self._write_record()

    def pause(self, why: str = "") -> None:
        with self._lock:
            if self.state in COMPUTING and self._wanted == "running":
                self._wanted, self.state, self.message = "paused", "pausing", why
                self._write_record()

    def resume(self) -> None:
        with self._lock:
            if self.active and (self.state == "paused" or self._wanted == "paused"):
                self._wanted, self.message = "running", ""
                if self.state == "paused":
                    self.begin()
                else:
                    self.state = "running"
                self._write_record()

    def stop(self) -> None:
        with self._lock:
            if self.active:
                self._wanted = "stopped"
                if self.state == "paused":  # and what it has learned is published
                    self._end("stopped")
                else:
                    self.state = "stopping"
                    self._write_record()

    def set_learning_rate(self, learning_rate: float) -> None:
        """The next step is taken with this learning rate, which then falls as the schedule does."""
        check_learning_rate(self.recipe.train, learning_rate)
        with self._lock:
            self._rate = learning_rate
            self._write_record()

    def progress(self, cursor: int = 0) -> Progress:
        """What happened from the step at `cursor` on."""
        state, past, latest = self.state, self.past, self.trainer or self.past  # which another thread may change
        history, computing = list(latest.history), state in COMPUTING
        over = len(past.history) == len(history)
        points = [_point(step, history, latest.beginning) for step in self.points if step <= len(history)]
        return _progress(
            history,
            latest.config,
            latest.train_config,
            cursor,
            crowding=self._engine.crowding if computing else 1.0,
            name=self.name,
            state=state,
            message=self.message,
            text=clean_name(self.origin["text"]),
            others=max(0, self._engine.n_jobs - 1) if computing else 0,
            references=latest.references,
            final_loss=past.val_loss if over else None,
            first_final_loss=past.first_val_loss if over else None,
            beginning=latest.beginning,
            points=points,
            points_note=TOO_LARGE if self.origin["start"] and not points else "",
        )

    # What the engine calls, in one thread at a time.

    def work(self, over: Callable[[], bool]) -> bool:
        try:
            return self._work(over)
        except (Diverged, BadInput) as error:
            self._fail(str(error))
        except OSError as error:
            if self.trainer:
                remove(self.folder / STATE)  # a full disk needs the room, and memory holds what is in it
            self._fail(
                f"The server's disk failed ({error.strerror or error}), so training stopped. Download what you want to "
                "keep, and start again when there is room."
            )
        except Exception as error:
            if _is_out_of_memory(error):
                self._fail(
                    "The server's memory ran out, so training stopped. Try a smaller batch, context or embedding."
                )
            else:
                logging.exception("a run failed")
                self._fail("Training failed by a defect of ours; its report is in the server's log.")
        return False

    def leave(self) -> None:
        if self.trainer and self.trainer.n_steps > self._saved_step:
            self._save()

    def _work(self, over: Callable[[], bool]) -> bool:
        if not self.trainer:
            self._open_trainer()
        with self._lock:
            if self._wanted == "running":
                self.state = "running"
        while self._wanted == "running" and not self.trainer.finished and not over():
            self._take_rate()
            self.trainer.step()
            self._keep_point(self.trainer.n_steps)
        if self.trainer.finished or self._wanted == "stopped":
            self._save()  # since the loss over the whole validation part takes a while
            self._hand_over()
            self._end("finished" if self.trainer.finished else "stopped", _notes(self.trainer))
            return False
        if self._wanted == "paused":
            return self._hold()
        if monotonic() >= self._save_at:
            self._save()
        return True

    def _open_trainer(self) -> None:
        trainer, state = self._new_trainer(), self.folder / STATE
        if state.exists():
            try:
                trainer.load_state(state)
            except (SafetensorError, ValueError, LookupError):  # not by a crash of ours: those leave whole files
                logging.exception("the state of a run cannot be read")
                trainer = self._new_trainer()
                self.message = "The saved state of this run could not be read, so it began anew."
        self._saved_step, self._save_at = trainer.n_steps, monotonic() + self._save_seconds
        self.message = self.message or _notes(trainer)
        self.trainer = trainer

    def _new_trainer(self) -> Trainer:
        start = self.folder / START
        base = checkpoints.load(start) if start.exists() else None
        first = self._read("first", FIRST) if self._record.get("first") else None
        return make_trainer(self.text, self.recipe, base, write_sample, first, beside=self._engine.beside)

    def _plan_points(self) -> list[int]:
        """The start and the evaluations to keep: as many as there is room for, or none if that is not even two."""
        start, train = self.folder / START, self.recipe.train
        most = min(MAX_POINTS, int(self._points_bytes // start.stat().st_size)) if start.exists() else 0
        evaluated = (step for step in range(1, train.max_iters + 1) if is_evaluated(step, train))
        return _spread([0, *evaluated], most) if most > 1 else []

    def _point_name(self, step: int) -> str:
        place = f", step {step:,}"
        return self.name[: MAX_NAME - len(place) - len(" (99)")] + place  # with room for a number, if it is taken

    def _point_file(self, step: int) -> Path:
        return self.folder / POINTS / f"{step}.safetensors" if step else self.folder / START

    def _point_sizes(self) -> dict[int, int]:
        """The bytes of the points by their steps: of all that stand here, whatever the host allowed at the time."""
        files = {int(file.stem): file for file in (self.folder / POINTS).glob("*.safetensors")}
        files |= {0: self.folder / START} if self._point_steps else {}
        sizes = {}
        for step in sorted(files):
            with suppress(OSError):  # it is gone by now
                sizes[step] = files[step].stat().st_size
        return sizes

    def _keep_point(self, step: int) -> None:
        if step in self._point_steps:
            checkpoints.save(self.trainer.checkpoint(self._point_name(step)), self._point_file(step))
            self._thin_points()

    def _thin_points(self) -> None:
        """Removes points that are too many or too much: each has a history and a life, which grow with the run."""
        sizes = self._point_sizes()
        while len(sizes) > MAX_POINTS or sum(sizes.values()) > self._points_bytes:
            step = _least_missed(list(sizes))
            del sizes[step]
            remove(self._point_file(step))

    def _take_rate(self) -> None:
        """Follows a change of the learning rate, which is forgotten only when a state remembers it."""
        if self._rate is None:
            return
        with self._lock:
            self.trainer.set_learning_rate(self._rate)
            self._save()
            self._rate = None
            self._write_record()

    def _hold(self) -> bool:
        """Pauses, unless something else is wanted by the time that what was learned has been handed over."""
        self._save()
        self._hand_over()
        with self._lock:
            if self._wanted != "paused":
                return True
            self.state, self.trainer = "paused", None
            self._write_record()
            return False  # said in here: once the lock is open, a visitor may resume

    def _save(self) -> None:
        started = monotonic()
        self.trainer.save_state(self.folder / STATE)
        self._saved_step, took = self.trainer.n_steps, monotonic() - started
        self._save_at = monotonic() + max(self._save_seconds, took / SAVING_SHARE)

    def _hand_over(self) -> None:
        """Publishes what was learned. Before the first step that is nothing, and random weights replace no model."""
        if self.trainer.history:
            losses = self.trainer.val_loss(), self.trainer.first_val_loss()
            checkpoint = self.trainer.checkpoint(self.name, *losses)
            self.past = checkpoint.past
            self._publish(checkpoint)
            self._write(PAST, self.past.to_dict())

    def _fail(self, message: str) -> None:
        """Ends the run with its last good weights; or leaves it paused, if they cannot be had but a state can."""
        kept = False
        if self.trainer:
            try:
                self.trainer.back_to_good_weights()
                self._hand_over()
                kept = True
            except Exception:
                logging.exception("the last good weights of a run could not be kept")
        if kept or not (self.folder / STATE).exists():
            self._end("failed", message)
        else:
            self.trainer = None
            with self._lock:
                self._wanted, self.state, self.message = "paused", "paused", f"{message} Press Resume to try again."
                self._write_record()

    def _end(self, state: str, message: str = "") -> None:
        with self._lock:
            self.trainer = None  # with its optimizers and its copies of the weights, five times what is published
            self.message, self.state = message, state  # the state last: whoever sees it finds the message there
            self._write_record()
        remove(self.folder / STATE, self.folder / FIRST, *([] if self._point_steps else [self.folder / START]))

    def _read(self, entry: str, file: str) -> Text:
        name, note = self._record[entry]
        return Text(name, (self.folder / file).read_bytes().decode(), note)

    def _write_record(self) -> None:
        self._record |= {"state": self.state, "wanted": self._wanted, "message": self.message, "rate": self._rate}
        self._write(RECORD, self._record)

    def _write(self, name: str, content: dict) -> None:
        try:
            write_json(self.folder / name, content)
        except OSError:
            logging.exception("%s of a run could not be written", name)


def _recipe(values: dict) -> Recipe:
    return Recipe(**values | {"model": ModelConfig(**values["model"]), "train": TrainConfig(**values["train"])})


def _spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of the steps, two or more: the first, the last, and evenly between.

    >>> _spread([0, 1, 10, 20, 30, 40, 50], 4)
    [0, 10, 30, 50]
    """
    n = min(most, len(steps))
    return [steps[round(i * (len(steps) - 1) / (n - 1))] for i in range(n)]


def _point(step: int, history: Sequence[TrainStep], beginning: Beginning | None) -> Point:
    seen = history[step - 1] if step else beginning
    return Point(step, seen and seen.val_loss, seen and seen.first_val_loss)


def _least_missed(steps: Sequence[int]) -> int:
    """Which of the steps leaves the shortest gap; of two, the last.

    >>> _least_missed([0, 10, 20, 25, 40]), _least_missed([0, 40])
    (20, 40)
    """
    gaps = {step: after - before for before, step, after in zip(steps, steps[1:], steps[2:], strict=False)}
    return min(gaps, key=gaps.get, default=steps[-1])


def _notes(trainer: Trainer) -> str:
    """What the visitor should know of the texts."""
    start = trainer.start
    if not start or trainer.first or start.learned_last_from(trainer.corpus.sha256):
        return ""
    return "What the model learned from before is not at hand, so what it forgets of that is not measured."


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory could not be had. On the CPU torch has no class of its own for that, only words."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
