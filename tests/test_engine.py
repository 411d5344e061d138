"""Who computes when. The jobs are plain Python, and where turns are counted the clock is ours too."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from random import Random

import pytest
import torch
from surroundings import PATIENCE, wait_until

from playground import engine as engine_module
from playground.engine import Engine

A_MOMENT = 0.05  # seconds in which what must not happen would have happened


@pytest.fixture
def make_engine() -> Iterator[Callable[..., Engine]]:
    """Engines that are closed when the test ends."""
    engines = []

    def make(*arguments, **named) -> Engine:
        engines.append(Engine(*arguments, **named))
        return engines[-1]

    yield make
    for engine in engines:
        assert engine.close(PATIENCE)


class Job:
    """Works until its slice is over, and notices when two threads are in it at once."""

    def __init__(self, n_turns: int | None = None):
        self.n_turns = n_turns  # after which it has no more to do
        self.turns = self.looks = self.n_left = 0
        self.working = self.disturbed = False

    def work(self, over: Callable[[], bool]) -> bool:
        self.disturbed |= self.working or self.n_left > 0
        self.working = True
        self.turn(over)
        self.turns += 1
        self.working = False
        return self.n_turns is None or self.turns < self.n_turns

    def turn(self, over: Callable[[], bool]) -> None:
        while not over():
            self.looks += 1
            time.sleep(0.0005)

    def leave(self) -> None:
        self.disturbed |= self.working
        self.n_left += 1


class Held(Job):
    """Works until it is let go."""

    def __init__(self, n_turns: int | None = None):
        super().__init__(n_turns)
        self.begun, self.let_go = threading.Event(), threading.Event()

    def turn(self, over: Callable[[], bool]) -> None:
        self.begun.set()
        assert self.let_go.wait(PATIENCE)


# --- Whose turn it is, by a clock of ours -----------------------------------------------------------------------------


class Timed(Job):
    """A job that moves the clock: each look takes `cost` seconds. It notes its turns in a log that all jobs share."""

    def __init__(self, name: str, cost: float, clock: "Clock", log: list[str], n_turns: int):
        super().__init__(n_turns)
        self.name, self.cost, self.clock, self.log, self.seconds = name, cost, clock, log, 0.0
        self.at_turn: dict[int, Callable[[], None]] = {}

    def turn(self, over: Callable[[], bool]) -> None:
        self.log.append(self.name)
        self.at_turn.get(self.turns, lambda: None)()
        while not over():
            self.clock.now += self.cost
            self.seconds += self.cost


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    monkeypatch.setattr(engine_module, "monotonic", clock := Clock())
    return clock


def deal(engine: Engine, *jobs: Job) -> None:
    """Has one worker deal turns to jobs that were all there from the start, until none has more to do."""
    first = Held(n_turns=1)
    engine.add(first)
    assert first.begun.wait(PATIENCE)
    for job in jobs:
        engine.add(job)
    first.let_go.set()
    wait_until(lambda: engine.n_jobs == 0, "the end of all jobs")
    assert not any(job.disturbed for job in jobs)


def test_jobs_of_equal_cost_take_turns(make_engine, clock):
    log = []
    jobs = [Timed(name, 1.0, clock, log, n_turns=5) for name in "abc"]
    deal(make_engine(1, slice_seconds=10.0), *jobs)
    assert "".join(log) == "abc" * 5
    assert [job.seconds for job in jobs] == [50.0] * 3  # a slice is as long as it should be


def test_the_least_served_is_next(make_engine, clock):
    """Each look of `b` takes 25 seconds, so its slice is 25 seconds long; the others' are 10."""
    log = []
    deal(
        make_engine(1, slice_seconds=10.0), *(Timed(n, c, clock, log, 60) for n, c in (("a", 10), ("b", 25), ("c", 5)))
    )
    served, dealt = Counter(), []
    for _ in range(90):  # the rule once more; the jobs are in the order in which they came to wait
        waiting = list(dict.fromkeys([*dealt[::-1], *"cba"]))[::-1]
        dealt.append(min(waiting, key=served.__getitem__))
        served[dealt[-1]] += 25 if dealt[-1] == "b" else 10
    assert log[:90] == dealt
    assert max(served.values()) - min(served.values()) <= 25


def test_a_newcomer_neither_starves_nor_has_one_turn_after_the_other(make_engine, clock):
    engine, log = make_engine(1, slice_seconds=10.0), []
    a, b, c = (Timed(name, 1.0, clock, log, n_turns=100) for name in "abc")
    a.at_turn[50] = lambda: engine.add(c)  # when the others have had 500 seconds each
    deal(engine, a, b)
    came = [i for i, name in enumerate(log) if name == "a"][50]
    assert "c" in log[came : came + 3]
    for start in range(came + 1, came + 100, 3):
        assert Counter(log[start : start + 3]) == {"a": 1, "b": 1, "c": 1}


def test_a_job_that_comes_back_stands_where_the_others_are(make_engine, clock):
    engine, log = make_engine(1, slice_seconds=10.0), []
    a, b = Timed("a", 1.0, clock, log, n_turns=40), Timed("b", 1.0, clock, log, n_turns=5)

    def come_back() -> None:
        b.n_turns = 15
        engine.add(b)

    a.at_turn[20] = come_back
    deal(engine, a, b)
    assert "".join(log) == "ab" * 5 + "a" * 16 + "ba" * 10 + "a" * 9


# --- Threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_all_jobs_go_on_and_none_in_two_threads_at_once(n_workers, make_engine):
    engine, jobs = make_engine(n_workers, slice_seconds=0.0), [Job(n_turns=200) for _ in range(6)]
    for job in jobs:
        engine.add(job)
    wait_until(lambda: all(job.turns >= 20 for job in jobs), "twenty turns of every job")
    wait_until(lambda: engine.n_jobs == 0, "the end of all jobs")
    assert [job.turns for job in jobs] == [200] * 6
    assert not any(job.disturbed for job in jobs) and not any(job.n_left for job in jobs)


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_as_many_jobs_at_once_as_there_are_workers(n_workers, make_engine):
    engine, jobs = make_engine(n_workers), [Held() for _ in range(4)]
    for job in jobs:
        engine.add(job)
    wait_until(lambda: sum(job.working for job in jobs) == n_workers, "work in every thread")
    time.sleep(A_MOMENT)
    assert [job.working for job in jobs] == [i < n_workers for i in range(4)]
    for job in jobs:
        job.let_go.set()


@pytest.mark.parametrize(
    ("n_workers", "expected"),
    [
        (1, [1.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        (2, [1.0, 1.0, 1.0, 1.5, 2.0, 2.5]),
        (4, [1.0, 1.0, 1.0, 1.0, 1.0, 1.25]),
    ],
)
def test_crowding_is_how_many_jobs_share_a_worker(n_workers, expected, make_engine):
    engine, jobs = make_engine(n_workers), [Held(n_turns=1) for _ in range(5)]
    seen = [engine.crowding]
    for job in jobs:
        engine.add(job)
        seen.append(engine.crowding)
    assert seen == pytest.approx(expected)
    assert engine.n_jobs == 5 and engine.jobs == jobs
    for job in jobs:
        job.let_go.set()
    wait_until(lambda: engine.n_jobs == 0, "the end of all jobs")
    assert engine.crowding == 1.0


def test_a_job_with_no_more_to_do_can_come_back_at_once(make_engine):
    """The one who adds it again may be quicker than the worker who is about to put it away."""
    engine, job = make_engine(2), Held(n_turns=1)
    engine.add(job)
    assert job.begun.wait(PATIENCE)
    adding = threading.Thread(target=engine.add, args=(job,))
    adding.start()
    time.sleep(A_MOMENT)  # the second worker is idle, and would take it
    assert adding.is_alive() and engine.n_jobs == 1 and not job.disturbed
    job.let_go.set()
    adding.join(PATIENCE)
    wait_until(lambda: engine.n_jobs == 0, "the end of the job")
    assert job.turns == 2
    assert not job.disturbed


def test_coming_and_going_loses_no_turn(make_engine):
    engine, jobs = make_engine(3, slice_seconds=0.0), [Job(n_turns=1) for _ in range(4)]

    def come_and_go(job: Job) -> None:
        for _ in range(200):
            engine.add(job)

    visitors = [threading.Thread(target=come_and_go, args=(job,)) for job in jobs]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(PATIENCE)
    wait_until(lambda: engine.n_jobs == 0, "the end of all jobs")
    assert [job.turns for job in jobs] == [200] * 4
    assert not any(job.disturbed for job in jobs)


# --- Visitors who wait ------------------------------------------------------------------------------------------------


def n_working(jobs: list[Job]) -> int:
    return sum(job.working for job in jobs)


@pytest.mark.parametrize("n_workers", [2, 3])
@pytest.mark.parametrize("n_visits", [1, 5])
def test_one_worker_steps_aside_for_visitors_and_never_all(n_visits, n_workers, make_engine):
    engine, jobs = make_engine(n_workers, slice_seconds=1_000.0), [Job() for _ in range(4)]
    for job in jobs:
        engine.add(job)
    wait_until(lambda: n_working(jobs) == n_workers, "work in every thread")
    visits = [engine.visit() for _ in range(n_visits)]
    for visit in visits:
        visit.__enter__()
    wait_until(lambda: n_working(jobs) == n_workers - 1, "a worker that steps aside")
    time.sleep(A_MOMENT)
    turns, looks = [job.turns for job in jobs], sum(job.looks for job in jobs)
    for visit in visits[1:]:  # as long as one of them waits
        visit.__exit__(None, None, None)
    wait_until(lambda: sum(job.looks for job in jobs) > looks + 50, "training beside the visit")
    assert n_working(jobs) == n_workers - 1
    assert [job.turns for job in jobs] == turns  # and whoever goes on does so undisturbed
    visits[0].__exit__(None, None, None)
    wait_until(lambda: n_working(jobs) == n_workers, "work in every thread again")


def test_the_only_worker_goes_on_during_a_visit(make_engine):
    engine, job = make_engine(1, slice_seconds=1_000.0), Job()
    with engine.visit():
        engine.add(job)
        wait_until(lambda: job.looks > 50, "training during a visit")
        with engine.visit():
            looks = job.looks
            wait_until(lambda: job.looks > looks + 50, "training during two visits")
        assert job.turns == 0  # all in one slice


def test_a_visit_that_fails_ends_all_the_same(make_engine):
    engine, jobs = make_engine(2, slice_seconds=1_000.0), [Job(), Job()]
    with pytest.raises(ZeroDivisionError), engine.visit():
        raise ZeroDivisionError
    for job in jobs:
        engine.add(job)
    wait_until(lambda: n_working(jobs) == 2, "work in both threads")


# --- Halves of a job's work -------------------------------------------------------------------------------------------


@pytest.fixture
def begin(make_engine) -> Iterator[Callable[[Engine, int], None]]:
    """Has so many workers of an engine be inside a job until the test ends."""
    begun = []

    def make(engine: Engine, n_jobs: int) -> None:
        jobs = [Held(n_turns=1) for _ in range(n_jobs)]
        begun.extend(jobs)
        for job in jobs:
            engine.add(job)
        assert all(job.begun.wait(PATIENCE) for job in jobs)

    yield make
    for job in begun:
        job.let_go.set()


@pytest.mark.parametrize(
    ("n_workers", "n_jobs", "visited", "by_a_worker"),
    [
        (2, 1, False, True),
        (3, 2, False, True),
        (3, 1, True, True),
        (1, 1, False, False),
        (2, 2, False, False),
        (2, 1, True, False),  # the worker with nothing to do makes way for the visitor
        (3, 2, True, False),
    ],
)
def test_who_does_the_other_half(n_workers, n_jobs, visited, by_a_worker, make_engine, begin):
    engine = make_engine(n_workers)
    begin(engine, n_jobs)
    with engine.visit() if visited else nullcontext():
        who = engine.beside(threading.current_thread).result(PATIENCE)
    assert (who is not threading.current_thread()) == by_a_worker
    assert who.name.startswith("worker-") == by_a_worker


def test_the_halves_are_worked_on_at_once(make_engine, begin):
    engine, met = make_engine(2), threading.Barrier(2, timeout=PATIENCE)
    begin(engine, 1)
    half = engine.beside(met.wait)
    met.wait()  # else it would wait in vain
    half.result(PATIENCE)


def test_no_more_halves_than_workers_with_nothing_to_do(make_engine, begin):
    engine, met = make_engine(3), threading.Barrier(3, timeout=PATIENCE)
    begin(engine, 1)
    halves = [engine.beside(met.wait) for _ in range(2)]
    assert engine.beside(threading.current_thread).result(PATIENCE) is threading.current_thread()
    met.wait()
    for half in halves:
        half.result(PATIENCE)


def test_a_job_that_waits_comes_before_halves(make_engine, begin):
    """It has been added, but the worker with nothing to do has not taken it yet."""
    engine = make_engine(2)
    begin(engine, 1)
    with engine._changed:  # so no worker takes anything
        engine.add(Job(n_turns=1))
        half = engine.beside(threading.current_thread)
    assert half.result(PATIENCE) is threading.current_thread()


class Halving(Job):
    """Has a half of its work done beside it, over and over, and counts how many were."""

    def __init__(self, engine: Engine, n_turns: int | None = None):
        super().__init__(n_turns)
        self.engine, self.n_beside = engine, 0

    def turn(self, over: Callable[[], bool]) -> None:
        while not over():
            who = self.engine.beside(threading.get_ident).result(PATIENCE)
            self.n_beside += who != threading.get_ident()
            self.looks += 1


def test_halves_starve_no_other_job(make_engine):
    engine = make_engine(2, slice_seconds=1_000.0)
    halving, other = Halving(engine), Held(n_turns=1)
    engine.add(halving)
    wait_until(lambda: halving.n_beside > 50, "halves by the other worker")
    engine.add(other)
    wait_until(other.begun.is_set, "work on the other job")
    n_beside, looks = halving.n_beside, halving.looks
    wait_until(lambda: halving.looks > looks + 50, "both halves by one worker")
    assert halving.n_beside <= n_beside + 1  # one may have been counted a moment later
    assert halving.turns == 0  # and nobody has interrupted it
    other.let_go.set()
    wait_until(lambda: halving.n_beside > n_beside + 50, "halves by the other worker again")


def test_jobs_that_halve_their_work_share_the_workers(make_engine):
    engine = make_engine(2, slice_seconds=0.002)
    jobs = [Halving(engine, n_turns=50) for _ in range(3)]
    for job in jobs:
        engine.add(job)
    wait_until(lambda: engine.n_jobs == 0, "the end of all jobs")
    assert [job.turns for job in jobs] == [50] * 3 and not any(job.disturbed for job in jobs)


@pytest.mark.parametrize("n_jobs", [1, 2])  # with two, the caller does the half itself
def test_what_a_half_raises_reaches_the_caller(n_jobs, make_engine, begin):
    engine = make_engine(2)
    begin(engine, n_jobs)
    for _ in range(5):  # and no worker is lost
        with pytest.raises(ZeroDivisionError):
            engine.beside(lambda: 1 / 0).result(PATIENCE)
    assert engine.beside(lambda: 3).result(PATIENCE) == 3


def test_a_half_is_worked_on_with_one_torch_thread(make_engine, begin):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)  # what a new thread would have
    try:
        engine = make_engine(2)
        begin(engine, 1)
        assert engine.beside(torch.get_num_threads).result(PATIENCE) == 1
    finally:
        torch.set_num_threads(n_threads)


def test_an_engine_that_closes_leaves_both_halves_to_the_caller(make_engine):
    engine = make_engine(2)
    assert engine.close(PATIENCE)
    assert engine.beside(threading.current_thread).result(PATIENCE) is threading.current_thread()


def test_a_half_is_finished_before_the_engine_has_closed(make_engine):
    engine, go_on = make_engine(2), threading.Event()
    half = engine.beside(lambda: go_on.wait(PATIENCE))
    assert not engine.close(A_MOMENT)
    go_on.set()
    assert engine.close(PATIENCE) and half.result(0) is True


def test_no_moment_to_close_is_a_bad_one():
    random = Random(0)
    for i in range(100):
        engine = Engine(1 + i % 3, slice_seconds=0.001)
        jobs = [Halving(engine) for _ in range(1 + i % 4)]
        for job in jobs:
            engine.add(job)
        time.sleep(random.uniform(0.0, 0.004))
        assert engine.close(PATIENCE)
        assert [job.n_left for job in jobs] == [1] * len(jobs) and not any(job.disturbed for job in jobs)


# --- The end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_closing_has_every_job_put_away_what_it_has(n_workers, make_engine):
    engine, jobs = make_engine(n_workers, slice_seconds=0.002), [Job() for _ in range(6)]
    gone = Job(n_turns=1)
    for job in [gone, *jobs]:
        engine.add(job)
    wait_until(lambda: all(job.turns for job in jobs) and engine.n_jobs == 6, "a turn of every job")
    assert engine.close(PATIENCE)
    assert [job.n_left for job in jobs] == [1] * 6 and gone.n_left == 0
    assert not any(job.disturbed or job.working for job in jobs)
    assert engine.n_jobs == 0
    turns = [job.turns for job in jobs]
    assert engine.close(PATIENCE)  # a second time there is nothing left to do
    assert [job.turns for job in jobs] == turns and [job.n_left for job in jobs] == [1] * 6


def test_jobs_that_never_had_a_turn_are_put_away_too(make_engine):
    engine, first, later = make_engine(1), Held(n_turns=1), [Job(), Job()]
    engine.add(first)
    assert first.begun.wait(PATIENCE)
    for job in later:
        engine.add(job)
    assert not engine.close(0.0)  # the one that goes on does not look whether it is over
    first.let_go.set()
    assert engine.close(PATIENCE)
    assert [job.n_left for job in later] == [1, 1] and [job.turns for job in later] == [0, 0]
    assert first.n_left == 0  # it had come to its end by itself


def test_closing_says_whether_all_was_put_away_in_time(make_engine):
    engine, job = make_engine(1), Held()
    engine.add(job)
    assert job.begun.wait(PATIENCE)
    assert engine.close(A_MOMENT) is False and job.n_left == 0
    job.let_go.set()
    assert engine.close(PATIENCE) is True and job.n_left == 1 and not job.disturbed


def test_an_engine_without_jobs_closes_at_once(make_engine):
    assert make_engine(3).close(PATIENCE)


# --- What must not stop an engine -------------------------------------------------------------------------------------


class Broken(Job):
    def turn(self, over: Callable[[], bool]) -> None:
        raise ZeroDivisionError("a defect")

    def leave(self) -> None:
        raise ZeroDivisionError("a defect")


def test_a_job_that_fails_leaves_and_the_worker_goes_on(make_engine, caplog):
    engine, sound = make_engine(1, slice_seconds=0.01), Job(n_turns=3)
    engine.add(Broken())
    engine.add(sound)
    wait_until(lambda: sound.turns == 3 and engine.n_jobs == 0, "the end of both")
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


def test_a_worker_inside_something_long_keeps_no_other_job_from_leaving(caplog):
    engine, held, broken, waiting = Engine(1), Held(n_turns=1), Broken(), Job()
    engine.add(held)
    assert held.begun.wait(PATIENCE)
    engine.add(broken)
    engine.add(waiting)
    assert not engine.close(A_MOMENT)  # the worker has not ended
    wait_until(lambda: engine.n_jobs == 1, "the others to leave")
    assert waiting.n_left == 1 and held.n_left == 0
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]
    held.let_go.set()
    assert engine.close(PATIENCE)
