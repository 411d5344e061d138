"""What each visitor has, and what all of them together may take: memory, disk, and a share of the processor.

A `Workspace` is one visitor's runs and checkpoints, in a folder that is found by a key which cannot be guessed.
`Workspaces` has them all. What stands in the folders is the truth; memory holds what is lately used.

    <data>/visitors/<digest of the key>/workspace.json      the list of checkpoints, and which is in use
                                       /checkpoints/…       a file for each; of a run's point it has the run's id
                                       /runs/<id>/…         see runs.py
"""

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, time

from filelock import FileLock, Timeout

from playground import checkpoint as checkpoints
from playground.checkpoint import MAX_NAME, Checkpoint, Provenance, clean_name
from playground.config import ModelConfig, Recipe, memory_bytes
from playground.corpora import BUILT_IN
from playground.corpus import Text, built_in
from playground.engine import Engine
from playground.errors import BadInput
from playground.files import remove, remove_except, write_json
from playground.recent import Recent
from playground.runs import COMPUTING, RECORD, Run
from playground.settings import Settings
from playground.training import planned_model

KEY = re.compile(r"[A-Za-z0-9_-]{32}")  # what `secrets.token_urlsafe(24)` makes
INDEX = "workspace.json"
MAX_OPEN = 64  # workspaces in memory, unless more are busy; the rest is opened again when its visitor comes
CACHE_BYTES = 2**30  # of checkpoints read from the disk
LOCK_SECONDS = 6
UPLOAD_SECONDS = 7_200  # that an upload is kept; what a run or a checkpoint needs of it has been copied by then
TEND_SECONDS = 10
IDLE_SECONDS = 150  # after which a visitor without an open page has left
GB = 2**30


class Host:
    """What all visitors share: the engine, the room for runs and files, and the checkpoints at hand."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.engine = Engine(settings.workers)
        self.disk_bytes = 0  # in use, as of the last look
        self._recent: Recent[Checkpoint] = Recent(CACHE_BYTES)
        self._admission = threading.Lock()

    @contextmanager
    def room_for(self, memory: int) -> Iterator[None]:
        """For adding a run to the engine inside. Raises `BadInput` if it has no room."""
        with self._admission:
            runs = self.engine.jobs
            if len(runs) >= self.settings.runs_at_once:
                raise BadInput(
                    f"This server is busy with {len(runs)} run{'s' * (len(runs) != 1)}, as many as it takes: try again "
                    "in some minutes."
                )
            free = int(self.settings.memory_gb * GB) - sum(run.memory for run in runs)
            if memory > free:
                raise BadInput(
                    f"This run would need about {_gb(memory)} of memory, and {_gb(max(0, free))} are free while others "
                    "train: make the batch, the context or the model smaller, or try again in some minutes."
                )
            yield

    @property
    def disk_limit(self) -> int:
        return int(self.settings.disk_gb * GB)

    def check_disk(self) -> None:
        if self.disk_bytes > self.disk_limit:
            raise BadInput(
                f"The server's disk is full, {_gb(self.disk_bytes)} of {_gb(self.disk_limit)}: try again in some "
                "minutes, when what nobody uses has been removed."
            )

    def load(self, file: Path) -> Checkpoint:
        """The checkpoint in a file of ours, which never changes once it is written."""
        checkpoint = self._recent.get(file)
        if not checkpoint:
            checkpoint = checkpoints.load(file)
            self.remember(file, checkpoint)
        return checkpoint

    def remember(self, file: Path, checkpoint: Checkpoint) -> None:
        """Keeps at hand what a file holds."""
        self._recent.put(file, checkpoint, checkpoint.nbytes)

    def forget(self, file: Path) -> None:
        self._recent.drop(file)


class Workspace:
    """What one visitor has: runs by id, checkpoints by name, and the checkpoint in use."""

    def __init__(self, folder: Path, host: Host, shipped: dict[str, Checkpoint]):
        self.folder, self.shipped, self._host = folder, shipped, host
        self.seen = monotonic()  # when a page of this visitor last asked for something
        self._lock = threading.RLock()
        index = _read_json(folder / INDEX) or {"checkpoints": {}, "in_use": None, "version": 0}
        remove_except(folder, {INDEX})
        remove_except(folder / "checkpoints", set(index["checkpoints"].values()))
        files = {name: folder / "checkpoints" / file for name, file in index["checkpoints"].items()}
        # A file's path, or a checkpoint that stands in no file of the visitor's.
        self._checkpoints: dict[str, Checkpoint | Path] = shipped | {n: f for n, f in files.items() if f.exists()}
        self._in_use = index["in_use"] if index["in_use"] in self._checkpoints else next(iter(shipped))
        self._version = index["version"]  # goes up with each change of what is in use
        self.runs = {run.id: run for run in sorted(self._open_runs(), key=lambda run: run.created)}

    # Whose it is, and whether anybody looks.

    @property
    def names(self) -> list[str]:
        """Of all checkpoints, the shipped ones first, then in the order in which they came."""
        return list(self._checkpoints)

    @property
    def in_use(self) -> tuple[Checkpoint, int]:
        """The checkpoint in use, and a number that goes up with each change."""
        with self._lock:
            try:
                return self.listed(self._in_use), self._version
            except BadInput:  # its file was damaged or taken away by something else
                return next(iter(self.shipped.values())), self._version

    @property
    def current(self) -> Checkpoint:
        return self.in_use[0]

    def ships(self, checkpoint: Checkpoint) -> bool:
        """Whether every visitor has it."""
        return self.shipped.get(checkpoint.name) is checkpoint

    @property
    def active_run(self) -> Run | None:
        return next((run for run in list(self.runs.values()) if run.active), None)

    def unattended(self) -> float:
        """Seconds since a page of this visitor was open: every page asks for something once a minute at least."""
        return monotonic() - self.seen

    @property
    def busy(self) -> bool:
        """Whether it must stay: somebody looks, or a run goes on, or something stands in no file."""
        run = self.active_run
        unwritten = any(isinstance(e, Checkpoint) for n, e in self._checkpoints.items() if n not in self.shipped)
        return self.unattended() < IDLE_SECONDS or (run is not None and run.state in COMPUTING) or unwritten

    # Runs.

    def start(self, text: Text, recipe: Recipe, start: Checkpoint | None = None) -> Run:
        """Starts a run on a text; with `start`, goes on from that checkpoint's weights."""
        with self._lock:
            if self.active_run:
                raise BadInput("A run of yours is still going: stop it, or let it finish, before you start another.")
            model = affordable_model(text, recipe, start, self._host.settings)
            self._host.check_disk()
            name = self._free_name(f"{start.name} → {text.name}" if start else text.name)
            first = self._first_text(start, text)
            folder = self.folder / "runs" / secrets.token_urlsafe(16)
            memory = memory_bytes(model, recipe.train)
            try:
                with self._host.room_for(memory):
                    Run.create(folder, name, text, recipe, start, memory, first)
                    run = self._open_run(folder)
                    self.runs[run.id] = run
                    run.begin()
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise _disk_failed(error) from error
            self._drop_old_runs()
            self._write_index()
            return run

    def pause(self) -> None:
        if run := self.active_run:
            run.pause()

    def resume(self) -> None:
        run = self.active_run
        if run and run.state == "paused":
            with self._host.room_for(run.memory):
                run.resume()
        elif run:
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

    def go_back(self, run_id: str, step: int) -> Checkpoint:
        """Lists what a run had become after a step, one of its points, and takes it into use."""
        return self.add(self.run(run_id).point(step), f"{run_id}.{step}")

    def maker(self, checkpoint: Checkpoint) -> Run | None:
        """The run that a listed checkpoint is of, as it became or as it was on the way, if that run is here."""
        run_id, _ = self.point_of(checkpoint)
        runs = list(self.runs.values())
        return next((run for run in runs if run.id == run_id or run.name == checkpoint.name), None)

    def point_of(self, checkpoint: Checkpoint) -> tuple[str, int] | tuple[None, None]:
        """Of which run, by its id, and after which step a listed checkpoint is a point that one went back to."""
        entry = self._checkpoints.get(checkpoint.name)
        run_id, *step = entry.name.split(".")[:-1] if isinstance(entry, Path) else [None]
        return (run_id, int(step[0])) if step else (None, None)

    # Checkpoints.

    def keep(self, checkpoint: Checkpoint) -> None:
        """Lists a checkpoint under its name, in place of an earlier one of that name, and takes it into use.

        What a run has learned is kept in memory, at least, if the disk cannot be written.
        """
        try:
            self._list(checkpoint.name, self._write(checkpoint, self._file()))
        except OSError:
            logging.exception("a checkpoint could not be written")
            self._list(checkpoint.name, checkpoint)

    def save_as(self, name: str | None) -> Checkpoint:
        """Lists the checkpoint in use under a name of the visitor's choice."""
        if not name or not name.strip():
            raise BadInput("Give the checkpoint a name first.")
        return self.add(replace(self.current, name=name))

    def add(self, checkpoint: Checkpoint, file_name: str = "") -> Checkpoint:
        """Lists a checkpoint from elsewhere, under a name that is still free, and takes it into use.

        With the name of a file that is listed already, it takes the place of that and of nothing else.
        """
        self._host.check_disk()
        with self._lock:
            file = self._file(file_name)
            own_name = next((name for name, entry in self._checkpoints.items() if entry == file), None)
            added = replace(checkpoint, name=own_name or self._free_name(checkpoint.name))
            try:
                self._list(added.name, self._write(added, file))
            except OSError as error:
                raise _disk_failed(error) from error
            return added

    def listed(self, name: object) -> Checkpoint:
        entry = self._checkpoints.get(name) if isinstance(name, str) else None
        if not entry:
            raise BadInput("This checkpoint is not in the list any more: choose another.")
        try:
            return self._host.load(entry) if isinstance(entry, Path) else entry
        except (BadInput, OSError) as error:
            logging.exception("a checkpoint cannot be read")
            raise BadInput("This checkpoint cannot be read any more: choose another.") from error

    def use(self, name: object) -> Checkpoint:
        """Takes a listed checkpoint into use."""
        with self._lock:
            checkpoint = self.listed(name)
            self._list(name, self._checkpoints[name])
            return checkpoint

    def text_of(self, checkpoint: Checkpoint) -> Text | None:
        """What a checkpoint was trained on last, if that is still here."""
        return self.text_named(checkpoint.provenance[-1]) if checkpoint.provenance else None

    def text_named(self, learned: Provenance) -> Text | None:
        """A text that something was trained on, if it is still here: one that is built in, or the text of a run."""
        titles = {corpus.title: name for name, corpus in BUILT_IN.items()}
        if learned.name in titles and (text := built_in(titles[learned.name])).sha256 == learned.sha256:
            return text
        runs = (run for run in reversed(list(self.runs.values())) if run.past.provenance[-1:] == (learned,))
        return next((run.text for run in runs), None)

    def _first_text(self, start: Checkpoint | None, text: Text) -> Text | None:
        """What the start of a run on a text has learned from, if that is here and another."""
        return self.text_of(start) if start and not start.learned_last_from(text.sha256) else None

    # Files.

    def _file(self, name: str = "") -> Path:
        return self.folder / "checkpoints" / f"{name or secrets.token_urlsafe(16)}.safetensors"

    def _write(self, checkpoint: Checkpoint, file: Path) -> Path:
        checkpoints.save(checkpoint, file)
        self._host.remember(file, checkpoint)  # it comes into use next
        return file

    def _list(self, name: str, entry: Checkpoint | Path) -> None:
        """Lists it and takes it into use. The index is written first: a crash leaves a file too many, never too few."""
        with self._lock:
            replaced = [self._checkpoints[name]] if name in self._checkpoints else []
            self._checkpoints[name] = entry
            self._in_use, self._version = name, self._version + 1
            dropped = [self._checkpoints.pop(old) for old in self._surplus()]
            self._write_index()
        for file in [old for old in replaced + dropped if isinstance(old, Path) and old != entry]:
            self._host.forget(file)
            remove(file)

    def _surplus(self) -> list[str]:
        """The oldest checkpoints beyond what one visitor may have; never a shipped one, nor that in use."""
        made = [name for name in self._checkpoints if name not in self.shipped]
        files = [self._checkpoints[name] for name in made]
        sizes = [file.stat().st_size if isinstance(file, Path) else 0 for file in files]
        excess = sum(sizes) + sum(run.points_bytes for run in self.runs.values()) - self._most_bytes
        n_surplus, surplus = len(made) - self._host.settings.kept_checkpoints, []
        for name, size in zip(made, sizes, strict=True):
            if name != self._in_use and (len(surplus) < n_surplus or excess > 0):
                surplus.append(name)
                excess -= size
        return surplus

    @property
    def _most_bytes(self) -> int:
        """Of one visitor's checkpoints and points of runs; these take half of it at most."""
        return int(self._host.settings.visitor_gb * GB)

    def _write_index(self) -> None:
        files = {name: entry.name for name, entry in self._checkpoints.items() if isinstance(entry, Path)}
        index = {"checkpoints": files, "in_use": self._in_use, "version": self._version}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / INDEX, index)
        except OSError:
            logging.exception("the list of a visitor's checkpoints could not be written")  # memory still has it

    def _open_runs(self) -> Iterator[Run]:
        for folder in self.folder.glob("runs/*"):
            if not (folder / RECORD).exists():  # a start that was cut short
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                yield self._open_run(folder)
            except Exception:  # whatever is wrong with one run must not keep the others away
                logging.exception("the run in %s cannot be read", folder)

    def _open_run(self, folder: Path) -> Run:
        settings = self._host.settings
        points_bytes = self._most_bytes / 2 / settings.kept_runs
        return Run(folder, self._host.engine, self.keep, settings.save_seconds, points_bytes)

    def _drop_old_runs(self) -> None:
        ended = [run for run in self.runs.values() if not run.active]
        for run in ended[: max(0, len(self.runs) - self._host.settings.kept_runs)]:
            del self.runs[run.id]
            shutil.rmtree(run.folder, ignore_errors=True)

    def _free_name(self, name: str) -> str:
        """The name, or with a number behind it if a checkpoint has it, or a run that will publish one."""
        name, taken = clean_name(name), {*self._checkpoints, *(run.name for run in self.runs.values())}
        numbered = (f"{name[: MAX_NAME - len(number)].rstrip()}{number}" for number in map(" ({})".format, count(2)))
        return next(free for free in chain([name], numbered) if free not in taken)


def affordable_model(text: Text, recipe: Recipe, start: Checkpoint | None, settings: Settings) -> ModelConfig:
    """The model of a run. Raises `BadInput` for one that cannot be, or that would take more memory than one may."""
    for name, sentence in (recipe.train if start else recipe).problems().items():
        raise BadInput(f"{name}: {sentence}")
    model = planned_model(text, recipe, start)
    model.validate()
    needed, limit = memory_bytes(model, recipe.train), int(settings.run_gb * GB)
    if needed > limit:
        raise BadInput(
            f"This run would need about {_gb(needed)} of memory, and {_gb(limit)} are the limit: make the batch, the "
            "context or the model smaller."
        )
    return model


class Workspaces:
    """All visitors' workspaces. Opened at the start: those whose runs were going when the program last ended."""

    def __init__(self, shipped: dict[str, Checkpoint], settings: Settings):
        self.shipped, self.settings = shipped, settings
        self._folder, self.uploads = settings.data / "visitors", settings.data / "uploads"
        self._data_lock = _claim(settings.data)
        self.host = Host(settings)
        self._open: OrderedDict[str, Workspace] = OrderedDict()  # by their folders' names, the latest seen last
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._recover()
        threading.Thread(target=self._keep_tending, name="tend", daemon=True).start()

    def enter(self, key: object) -> tuple[str, Workspace]:
        """The workspace of a key, or a new one with a new key."""
        if not (isinstance(key, str) and KEY.fullmatch(key)):
            key = secrets.token_urlsafe(24)
        workspace = self.get(key)
        with suppress(OSError):  # there is no folder before there is something to keep
            os.utime(workspace.folder)  # the longest idle one makes way when the disk is full
        return key, workspace

    def get(self, key: object) -> Workspace:
        if not (isinstance(key, str) and KEY.fullmatch(key)):
            raise BadInput("This page does not know whose it is: reload it.")
        # Whoever reads the folder's name, in a listing or a log, does not know the key.
        return self._get(hashlib.sha256(key.encode()).hexdigest()[:32])

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for files that are needed for a moment. Raises `BadInput` if there is no room for any."""
        self.host.check_disk()
        try:
            self.uploads.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self.uploads) as folder:
                yield Path(folder)
        except OSError as error:
            raise _disk_failed(error) from error

    def tend(self) -> None:
        """Pauses runs that nobody looks at, closes what is idle, and makes room on the disk."""
        minutes = self.settings.unattended_minutes
        for workspace in list(self._open.values()):
            if (run := workspace.active_run) and workspace.unattended() > 60 * minutes:
                run.pause(f"No page was open for {minutes:g} minutes, so this run paused itself: press Resume.")
        with self._lock:
            idle = [name for name, workspace in self._open.items() if not workspace.busy]
            for name in idle[: max(0, len(self._open) - MAX_OPEN)]:
                del self._open[name]
        self._make_room()

    def close(self, seconds: float) -> bool:
        """Stops all computing and writes every run's state. Says whether that was done within `seconds`."""
        self._closed.set()
        in_time = self.host.engine.close(seconds)
        self._data_lock.release()
        return in_time

    def _get(self, name: str) -> Workspace:
        with self._lock:
            if name not in self._open:
                self._open[name] = Workspace(self._folder / name, self.host, self.shipped)
            self._open.move_to_end(name)
            self._open[name].seen = monotonic()
            return self._open[name]

    def _recover(self) -> None:
        states = {record: _read_json(record) for record in self._folder.glob(f"*/runs/*/{RECORD}")}
        going = {record.parents[2].name for record, run in states.items() if run and run.get("state") in COMPUTING}
        for name in sorted(going):
            try:
                for run in self._get(name).runs.values():
                    if run.interrupted:
                        run.recover()
            except Exception:  # what is wrong with one visitor's folder must not keep the others away
                logging.exception("the folder %s cannot be opened", name)

    def _keep_tending(self) -> None:
        while not self._closed.wait(TEND_SECONDS):
            try:
                self.tend()
            except Exception:
                logging.exception("tending failed")

    def _make_room(self) -> None:
        """Removes uploads that were used long ago and, if all else still is too much, what the longest idle have."""
        _remove_older(self.uploads, UPLOAD_SECONDS)
        used, limit = folder_bytes(self._folder), self.host.disk_limit
        if used > limit:
            for folder in sorted(self._folder.iterdir(), key=lambda folder: folder.stat().st_mtime):
                if used <= 0.9 * limit:
                    break
                used -= self._remove(folder)
        uploads = folder_bytes(self.uploads)
        if used + uploads > limit:
            _remove_older(self.uploads, UPLOAD_SECONDS / 10)
        self.host.disk_bytes = used + uploads

    def _remove(self, folder: Path) -> int:
        """Removes a visitor's folder unless it is in use, and says how many bytes that has given."""
        with self._lock:
            workspace = self._open.get(folder.name)
            if workspace and workspace.busy:
                return 0
            self._open.pop(folder.name, None)
            n_bytes = folder_bytes(folder)
            shutil.rmtree(folder, ignore_errors=True)
            return n_bytes


def _claim(folder: Path) -> FileLock:
    """Two programs on the same runs would spoil them. One that is about to end gets the time for it."""
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise BadInput(f"Another playground uses {folder}: set PLAYGROUND_DATA to another folder.") from None
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error.strerror}): set PLAYGROUND_DATA to another.") from error
    return lock


def _remove_older(folder: Path, seconds: float) -> None:
    for file in folder.rglob("*"):
        with suppress(OSError):  # a folder that is not empty yet
            if time() - file.stat().st_mtime > seconds:
                file.rmdir() if file.is_dir() else file.unlink()


def folder_bytes(folder: Path) -> int:
    """How much the files in a folder take, those included that vanish while they are counted."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total


def _read_json(file: Path) -> dict | None:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _disk_failed(error: OSError) -> BadInput:
    return BadInput(f"The server's disk cannot be written ({error.strerror or error}): try again later.")


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / GB:.1f}".removesuffix(".0") + " GB"
