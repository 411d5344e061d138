"""Who does the work of a step: this thread, a second one beside it, or several processes that each take some rows.

A step's rows are cut in two halves whose gradients are added. Whether a second thread takes one of them or this one
takes both in turn, the sums are the same, bit for bit; and unlike two threads inside every single operation, two halves
meet only once a step, so they do not stand still when something else needs a core.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

N_HALVES = 2

T = TypeVar("T")
Beside = Callable[[Callable[[], T]], "Future[T]"]  # has something done beside this thread, if there is somebody


def here(work: Callable[[], T]) -> "Future[T]":
    """Nobody is beside this thread: it does the work itself, at once."""
    done = Future()
    done.set_result(work())
    return done


@contextmanager
def second_thread() -> Iterator[Beside]:
    """A thread for the other half of each step, while this one and its operations take only half of the cores."""
    n_threads = torch.get_num_threads()
    half = max(1, n_threads // N_HALVES)
    torch.set_num_threads(half)
    try:
        with ThreadPoolExecutor(1, "half") as executor:  # its thread begins with as many as are set here
            yield executor.submit if n_threads > 1 else here
    finally:
        torch.set_num_threads(n_threads)


@dataclass(frozen=True)
class World:
    """The processes that train one model together, and which of them this is."""

    rank: int = 0
    size: int = 1


ALONE = World()


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """The processes that torchrun has started, connected to each other; without torchrun this one alone.

    On one machine, each has the GPU of its own number.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
