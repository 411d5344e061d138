"""Where should training go on: in threads of the page's own process, or in processes of their own?

Trains the Small preset on a built-in text in one and two workers of either kind, beside a visitor who clicks through
attention maps twice a second, and prints how fast the workers train, how long a click takes and what a worker weighs.
The answer that was drawn from it stands in `playground/engine.py`.

    python -m benchmarks.threads_or_processes [seconds per line]
"""

import multiprocessing
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from playground.checkpoint import load
from playground.config import PRESETS
from playground.corpus import built_in
from playground.inspection import inspect
from playground.training import make_trainer

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "stories"
PROMPT = "Once upon a time there was a little fox who lived by the river. " * 3
BETWEEN_CLICKS = 0.5  # seconds


def work(n_threads: int, steps, ready, stop) -> None:
    """One worker: trains until it is told to stop, counting its steps. The evaluations are left out."""
    torch.set_num_threads(n_threads)
    trainer = make_trainer(built_in("stories"), PRESETS["small"])
    trainer.step()
    ready.set()
    while not stop.is_set():
        trainer._move(trainer._backward()[0] * 0 + 1e-3)
        steps.value += 1


class InThreads:
    """The workers' counters and flags, for either kind."""

    Worker = staticmethod(lambda target, args: threading.Thread(target=target, args=args))
    Event = threading.Event

    @staticmethod
    def counter():
        return type("Counter", (), {"value": 0})()


class InProcesses:
    _context = multiprocessing.get_context("spawn")
    Worker = _context.Process
    Event = _context.Event

    @staticmethod
    def counter():
        return InProcesses._context.Value("i", 0, lock=False)


def measure(kind, n_workers: int, n_threads: int, seconds: float, click: Callable[[], object] | None):
    """Steps a second of all workers together, and the seconds of each click beside them."""
    stop, counters, workers = kind.Event(), [], []
    for _ in range(n_workers):
        ready, counter = kind.Event(), kind.counter()
        counters.append(counter)
        workers.append(kind.Worker(target=work, args=(n_threads, counter, ready, stop)))
        workers[-1].start()
        ready.wait()
    before, started, clicks = sum(c.value for c in counters), time.perf_counter(), []
    while time.perf_counter() - started < seconds:
        clicked = time.perf_counter()
        if click:
            click()
            clicks.append(time.perf_counter() - clicked)
        time.sleep(max(0.0, BETWEEN_CLICKS - (time.perf_counter() - clicked)))
    rate = (sum(c.value for c in counters) - before) / (time.perf_counter() - started)
    weights = [resident(worker.pid) for worker in workers if hasattr(worker, "pid")]
    stop.set()
    for worker in workers:
        worker.join()
    return rate, clicks, weights


def resident(pid: int | str = "self") -> int:
    """Megabytes that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() // 2**20


def main(seconds: float) -> None:
    torch.set_num_threads(1)
    checkpoint = load(SHIPPED)
    click = lambda: inspect(checkpoint, PROMPT)  # noqa: E731
    click()
    print(f"{'workers':>9} {'torch threads':>14} {'clicks':>7} {'steps/s':>8} {'click p50':>10} {'p95':>7}  memory")
    print(f"{'none':>9} {'':>14} {'yes':>7} {'':>8}", *_quantiles(measure(InThreads, 0, 1, seconds, click)[1]))
    for kind in (InThreads, InProcesses):
        for n_workers, n_threads in ((1, 1), (1, 2), (2, 1), (2, 2)):
            for clicking in (None, click):
                before = resident()
                rate, clicks, weights = measure(kind, n_workers, n_threads, seconds, clicking)
                name = f"{n_workers} {'thread' if kind is InThreads else 'process'}"
                memory = f"{weights} MB" if weights else f"+{resident() - before} MB"
                print(
                    f"{name:>9} {n_threads:>14} {'yes' if clicking else 'no':>7} {rate:8.1f}",
                    *_quantiles(clicks),
                    f" {memory}",
                    flush=True,
                )


def _quantiles(clicks: list[float]) -> list[str]:
    return [f"{1000 * q:7.0f} ms" for q in np.quantile(clicks, (0.5, 0.95))] if clicks else [" " * 10] * 2


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
