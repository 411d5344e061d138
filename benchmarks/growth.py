"""How a step's time and a run's memory grow with the model, and how well the page foretells both.

    python -m benchmarks.growth     prints the table

Each model trains in a process of its own, so that its memory is its own.
"""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks.row import Row, at_most
from playground.config import ModelConfig, TrainConfig, memory_bytes
from playground.corpus import Corpus
from playground.parallel import second_thread
from playground.tokenizer import CharTokenizer
from playground.training import Trainer, estimate_seconds, train

BASE = ModelConfig()
GROWN = {"n_embd": (64, 128, 256, 384), "block_size": (32, 64, 128, 256), "n_layer": (2, 4, 8, 16)}
TRAINING = TrainConfig(max_iters=12, eval_interval=12)


@dataclass(frozen=True)
class Measured:
    step_seconds: float
    seconds: float  # of the whole run
    foretold_seconds: float
    memory: int  # bytes
    foretold_memory: int


def rows() -> Iterator[Row]:
    measured = [one for axis in measure().values() for one in axis.values()]
    off = [abs(one.foretold_seconds / one.seconds - 1) for one in measured]
    yield at_most("a run's time, foretold: off by at most", "%", 100 * max(off), 25)
    off = [abs(one.foretold_memory / one.memory - 1) for one in measured]
    yield at_most("a run's memory, foretold: off by at most", "%", 100 * max(off), 25)


def measure() -> dict[str, dict[int, Measured]]:
    return {name: {size: _in_own_process(name, size) for size in sizes} for name, sizes in GROWN.items()}


def table(measured: dict[str, dict[int, Measured]]) -> str:
    """In Markdown, with the exponents of time and memory at the larger sizes: 1 is in proportion, 2 is squared."""
    lines = ["| | a step | foretold run | memory | foretold |", "| --- | --: | --: | --: | --: |"]
    for name, axis in measured.items():
        for size, one in axis.items():
            time, memory = one.foretold_seconds / one.seconds, one.foretold_memory / one.memory
            step, taken = f"{1e3 * one.step_seconds:.0f} ms", f"{one.memory / 1e6:.0f} MB"
            lines.append(f"| {name} {size} | {step} | {time:.0%} | {taken} | {memory:.0%} |")
        time, memory = (_exponent(axis, of) for of in ("step_seconds", "memory"))
        lines.append(f"| **{name}: exponent** | {time:.2f} | | {memory:.2f} | |")
    return "\n".join(lines)


def _exponent(axis: dict[int, Measured], of: str) -> float:
    """The slope of a straight line through the logarithms of the three largest sizes."""
    sizes = list(axis)[-3:]
    slope, _ = np.polyfit([math.log(size) for size in sizes], [math.log(getattr(axis[size], of)) for size in sizes], 1)
    return float(slope)


def _in_own_process(name: str, size: int) -> Measured:
    command = [sys.executable, "-m", "benchmarks.growth", name, str(size)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return Measured(**json.loads(said.stdout))


def _train(config: ModelConfig) -> Measured:
    with second_thread() as beside:
        _trainer(replace(BASE, n_embd=32, n_layer=1), beside).step()  # what every first step loads
        before = _reset_peak()
        trainer = _trainer(config, beside)
        steps = list(train(trainer))
        memory = _peak() - before
        foretold = estimate_seconds(config, TRAINING, beside)
    between = [later.seconds - earlier.seconds for earlier, later in pairwise(steps[1:-1])]
    return Measured(float(np.median(between)), trainer.seconds, foretold, memory, memory_bytes(config, TRAINING))


def _trainer(config: ModelConfig, beside) -> Trainer:
    ids = torch.randint(config.vocab_size, (20_000,), generator=torch.Generator().manual_seed(0))
    return Trainer(config, TRAINING, Corpus("", 0, "", ids, ids, 0, 0), CharTokenizer("ab"), beside=beside)


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The most memory that this process has had since the last reset, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(asdict(_train(replace(BASE, **{sys.argv[1]: int(sys.argv[2])})))))
    else:
        print(table(measure()))
