"""Who computes when: all jobs go on at once, in slices of time dealt in turn, and visitors who wait go first.

Jobs are worked on in threads of the page's own process, as many as there are cores, with one torch thread each. What
decided it (`benchmarks/threads_or_processes.py`: a model of the Small preset in float32 on 2 cores, steps a second of
all workers together, beside a visitor who looks at attention maps twice a second):

    workers           torch threads each    steps/s    a click, p95    memory for each worker
    1 thread          1                     9.7        8 ms            the run's own
    1 thread          2                     13.8       10 ms           the run's own
    2 threads         1                     17.0       13 ms           the run's own
    2 threads         2                     14.0       12 ms           the run's own
    2 processes       1                     17.1       11 ms           420 MB
    2 processes       2                     6.2        (collapsed)     420 MB

So the interpreter's lock costs next to nothing (torch gives it up in every operation), and processes would pay with
memory and with the orphans they become when their parent is killed. What they would isolate is a crash: one that ends
this process (a fault in torch, the system out of memory) stops all runs, and `playground/runs.py` brings them back from
their files, but for a run that seems to be the cause. One torch thread each because two on two cores stand still as
soon as anything else runs, and because results are then the same bit for bit whatever else the machine does. A run that
is alone still has a second core: a worker with nothing to do takes half of its step (`beside`).
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Protocol

import torch

from playground.parallel import T, here

SLICE_SECONDS = 0.5
MAX_CHARGED = 10  # slices, for what cannot be cut, such as the reading of a long text: no debt for minutes


class Job(Protocol):
    """Something that computes for long."""

    memory: int  # bytes that it takes

    def work(self, over: Callable[[], bool]) -> bool:
        """Goes on until `over()`, which it asks every now and then. True if there is more to do."""

    def leave(self) -> None:
        """Puts away what would be lost, since the engine closes."""


class Engine:
    """Deals the processor to jobs in turn: the one that has had least of it is next.

    While visitors' requests are answered (`visit`), as many workers step aside at the next opportunity, without waiting
    for their slices to end. The last one goes on, and requests take turns on the cores that were freed: so no flood of
    them can stop the training.
    """

    def __init__(self, n_workers: int, slice_seconds: float = SLICE_SECONDS):
        self.n_workers, self.slice_seconds = n_workers, slice_seconds
        self._served: dict[Job, float] = {}  # seconds that each job has had, or what a newcomer is taken to have had
        self._waiting: list[Job] = []
        self._halves: deque[tuple[Callable[[], object], Future]] = (
            deque()
        )  # of jobs' work, for workers with nothing to do
        self._busy = self._visits = 0
        self._freed = threading.Semaphore(max(1, n_workers - 1))
        self._own = threading.local()  # `visiting`: whether this thread is inside a visit
        self._closing = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._live, name=f"worker-{i}", daemon=True) for i in range(n_workers)]
        for thread in self._threads:
            thread.start()

    @property
    def jobs(self) -> list[Job]:
        with self._changed:
            return list(self._served)

    @property
    def n_jobs(self) -> int:
        return len(self._served)

    @property
    def crowding(self) -> float:
        """How many times longer everything takes because the workers are shared."""
        return max(1.0, self.n_jobs / self.n_workers)

    def add(self, job: Job) -> None:
        with self._changed:
            self._changed.wait_for(lambda: job not in self._served)  # it may be about to leave
            # A newcomer stands where the least served is, so it neither waits for its turn nor has one after the other.
            self._served[job] = min(self._served.values(), default=0.0)
            self._waiting.append(job)
            self._changed.notify_all()

    def beside(self, work: Callable[[], T]) -> "Future[T]":
        """Has something done by a worker that has nothing to do; if there is none, at once, by the caller."""
        with self._changed:
            if self._busy + len(self._halves) < self._places() and not (self._waiting or self._closing):
                future = Future()
                self._halves.append((work, future))
                self._changed.notify_all()
                return future
        return here(work)

    @contextmanager
    def visit(self) -> Iterator[None]:
        """A visitor waits for what is computed here. Not for long at a time: other visitors wait, too."""
        if getattr(self._own, "visiting", False):
            yield  # a visit inside a visit is the same one
            return
        with self._changed:
            self._visits += 1
        try:
            with self._freed:
                self._own.visiting = True
                yield
        finally:
            self._own.visiting = False
            with self._changed:
                self._visits -= 1
                self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Ends all work, has every job put away what it has, and says whether all did within `seconds`."""
        deadline = monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        # One thread more, since the others may be inside something long.
        self._threads.append(threading.Thread(target=self._live, name="worker-last", daemon=True))
        self._threads[-1].start()
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _live(self) -> None:
        torch.set_num_threads(1)
        while task := self._take():
            task()

    def _take(self) -> Callable[[], None] | None:
        """What to do next, once there is a place for it; None when the engine closes and no job is left."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._halves or self._closing or (self._waiting and self._busy < self._places())
            )
            if not (self._halves or self._waiting):
                return None
            self._busy += 1
            if self._halves:
                return partial(self._do_half, *self._halves.popleft())
            job = min(self._waiting, key=self._served.__getitem__)
            self._waiting.remove(job)
            return partial(self._do_slice, job)

    def _do_half(self, work: Callable[[], object], future: Future) -> None:
        try:
            tell = partial(future.set_result, work())
        except Exception as error:  # which is the job's own to deal with
            tell = partial(future.set_exception, error)
        with self._changed:  # before the job goes on and asks again
            self._busy -= 1
            self._changed.notify_all()
        tell()

    def _do_slice(self, job: Job) -> None:
        started, more = monotonic(), False
        try:
            if self._closing:
                job.leave()
            else:
                more = job.work(lambda: self._over(started))
        except Exception:
            logging.exception("a job failed")
        self._put_back(job, monotonic() - started, more)

    def _put_back(self, job: Job, seconds: float, more: bool) -> None:
        with self._changed:
            self._busy -= 1
            self._served[job] += min(seconds, MAX_CHARGED * self.slice_seconds)
            if more:
                self._waiting.append(job)
            else:
                del self._served[job]
            self._changed.notify_all()

    def _places(self) -> int:
        return max(1, self.n_workers - self._visits)

    def _over(self, started: float) -> bool:
        return self._closing or monotonic() - started >= self.slice_seconds or self._busy > self._places()
