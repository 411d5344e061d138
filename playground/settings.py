"""What a host may choose, by environment variables. The README has the table."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from playground.errors import BadInput

PERSISTENT = Path("/data")  # where a Hugging Face Space has its persistent storage, if it has any
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, on Linux
PREFIX = "PLAYGROUND_"


def _between(low: float, high: float, default: float):
    return field(default=default, metadata={"range": (low, high)})


def _n_cores() -> int:
    """That this process may use, which in a container are often fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text().split()  # microseconds of processor time in each period, or "max"
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


def _default_folder() -> Path:
    if PERSISTENT.is_dir() and os.access(PERSISTENT, os.W_OK):
        return PERSISTENT / "transformer-playground"
    return Path("data")


@dataclass(frozen=True)
class Settings:
    """Each is set by the variable of its name in capitals behind PLAYGROUND_, such as PLAYGROUND_MEMORY_GB."""

    data: Path = field(default_factory=_default_folder)  # where visitors' runs and checkpoints are kept
    workers: int = field(default_factory=_n_cores, metadata={"range": (1, 256)})  # runs that compute at the same moment
    runs_at_once: int = _between(1, 1_000, default=32)  # runs that share the workers
    memory_gb: float = _between(0.1, 10_000, default=8)  # of all runs together
    run_gb: float = _between(0.01, 10_000, default=4)  # of one run
    disk_gb: float = _between(0.1, 100_000, default=10)  # of everything in `data`
    visitor_gb: float = _between(0.05, 100_000, default=2)  # of one visitor's checkpoints, and points of runs
    kept_runs: int = _between(1, 1_000, default=20)  # of one visitor
    kept_checkpoints: int = _between(1, 1_000, default=30)  # of one visitor
    unattended_minutes: float = _between(0.1, 100_000, default=30)  # how long a run goes on when no page is open
    save_seconds: float = _between(0, 3_600, default=5)  # between two writings of a run's state
    upload_mb: int = _between(1, 10_000, default=200)  # of any uploaded file; texts may have 20
    hub_mb: float = _between(0, 100_000, default=600)  # of a model from the Hugging Face Hub; 0: none is fetched

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Raises `BadInput` for a value that cannot be.

        >>> Settings.from_environment({"PLAYGROUND_SAVE_SECONDS": "2"}).save_seconds
        2.0
        """
        chosen = {f.name: environment.get(PREFIX + f.name.upper(), "").strip() for f in fields(cls)}
        return cls(**{f.name: _read(f, chosen[f.name]) for f in fields(cls) if chosen[f.name]})


def _read(f, value: str) -> object:
    if f.type is Path:
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            raise BadInput(f"{PREFIX}DATA is {value!r}, which is nobody's home: give the path of a folder.") from error
    low, high = f.metadata["range"]
    try:
        number = f.type(value)
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        kind = "whole number" if f.type is int else "number"
        raise BadInput(f"{PREFIX}{f.name.upper()} is {value!r}: give a {kind} from {low:,} to {high:,}.")
    return number
