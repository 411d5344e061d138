"""Sixteen visitors at once: eight train, four write, four click through attention maps; and one who trains alone.

Prints what each of them got, and fails if somebody met an error or was left behind.

    python -m benchmarks.visitors [--minutes 10] [--port 7999]
"""

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.page_client import App, Visitor

N_TRAINING, N_WRITING, N_CLICKING = 8, 4, 4
WINDOW = 30.0  # seconds in which every run has to get on
MINUTES_TO_SETTLE = 2  # after which memory should stay what it is, in a test that lasts long enough
LIMITS = {"fairness": 0.7, "p95": 0.5, "memory": 1.1, "beside": 0.9}


@dataclass
class Seen:
    """What the visitors met."""

    steps: dict[str, list[tuple[float, int]]] = field(default_factory=dict)  # by run: (when, step)
    clicks: list[float] = field(default_factory=list)  # seconds
    first_words: list[float] = field(default_factory=list)
    tokens: int = 0
    errors: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # (when, MB)


async def start_training(visitor: Visitor, max_iters: int = 100_000) -> str:
    visitor.set("max_iters", max_iters)
    await visitor.click("start")
    return visitor.value("chart")["run"]


async def train(visitor: Visitor, seen: Seen, end: float) -> None:
    """Starts the Small preset and looks on, twice a second, as the page does."""
    run, cursor = await start_training(visitor), 0
    seen.steps[run] = []
    while time.monotonic() < end:
        answer = await visitor.ask("chart", "poll", [visitor.key, run, cursor])
        if answer["state"] not in ("starting", "running"):
            raise RuntimeError(f"the run is {answer['state']}: {answer['message']}")
        cursor = answer["step"]
        seen.steps[run].append((time.monotonic(), cursor))
        await asyncio.sleep(0.5)


async def write(visitor: Visitor, seen: Seen, end: float) -> None:
    visitor.set("prompt", "Once")
    while time.monotonic() < end:
        started, n, length = time.monotonic(), 0, visitor.value("length")
        await visitor.click("generate")
        begun = visitor.value("generated")
        while n < length:
            asked = [begun["id"], 0, 0, n, length - n, begun["settings"][0]]
            answer = await visitor.ask("generated", "more", asked)
            if "error" in answer:
                raise RuntimeError(answer["error"])
            if n == 0:
                seen.first_words.append(time.monotonic() - started)
            n += len(answer["tokens"])
        seen.tokens += n
        await asyncio.sleep(1)


async def look(visitor: Visitor, seen: Seen, end: float) -> None:
    """Asks for the attention on a new prompt and one head of it, every second or so."""
    n = 0
    while time.monotonic() < end:
        n += 1
        visitor.set("attention-prompt", f"Once upon a time there were {n} little foxes who lived by the river.")
        started = time.monotonic()
        await visitor.click("attention-prompt", "submit")
        answer = await visitor.ask("heads", "grid", [visitor.value("heads")["id"], 0, 0])
        if "error" in answer:
            raise RuntimeError(answer["error"])
        seen.clicks.append(time.monotonic() - started)
        await asyncio.sleep(1)


async def watch_memory(app: App, seen: Seen, end: float) -> None:
    while time.monotonic() < end:
        seen.memory.append((time.monotonic(), app.resident_mb))
        await asyncio.sleep(5)


async def sixteen(app: App, minutes: float) -> Seen:
    seen = Seen()
    visitors = [await Visitor(app.url).open() for _ in range(N_TRAINING + N_WRITING + N_CLICKING)]
    end = time.monotonic() + 60 * minutes
    acts = [train] * N_TRAINING + [write] * N_WRITING + [look] * N_CLICKING
    jobs = [act(visitor, seen, end) for act, visitor in zip(acts, visitors, strict=True)]
    results = await asyncio.gather(*jobs, watch_memory(app, seen, end), return_exceptions=True)
    seen.errors += [repr(result) for result in results if result]
    for visitor in visitors:
        await visitor.close()
    return seen


def report(seen: Seen) -> list[str]:
    """Prints the figures; returns what is not as it should be."""
    print(f"{len(seen.errors)} errors", *seen.errors[:5], sep="\n  ")
    if not (seen.steps and all(seen.steps.values()) and seen.clicks and seen.first_words):
        return ["everybody gets something"]
    total = np.array([steps[-1][1] for steps in seen.steps.values()])
    fairness, slowest = total.min() / total.mean(), min(map(fewest_steps, seen.steps.values()))
    started, (_, last) = seen.memory[0][0], seen.memory[-1]
    settled = [mb for when, mb in seen.memory if when - started <= 60 * MINUTES_TO_SETTLE][-1]
    minutes = (seen.memory[-1][0] - started) / 60
    print(f"{len(total)} runs made {total.sum():,} steps; the slowest {fairness:.2f} of the mean")
    print(f"fewest steps of a run in {WINDOW:.0f} seconds: {slowest}")
    print(f"{len(seen.clicks)} clicks: {quantiles(seen.clicks)}")
    print(f"{seen.tokens:,} tokens written, {seen.tokens / minutes / 60:.0f} a second")
    print(f"first words: {quantiles(seen.first_words)}")
    print(f"memory: {settled:.0f} MB after {min(MINUTES_TO_SETTLE, minutes):.0f} minutes, {last:.0f} MB at the end")
    held = {
        "no error": not seen.errors,
        "every run gets on in every window": slowest > 0,
        f"slowest run at least {LIMITS['fairness']} of the mean": fairness >= LIMITS["fairness"],
        f"p95 of a click below {LIMITS['p95']} s": np.quantile(seen.clicks, 0.95) < LIMITS["p95"],
        f"memory within {LIMITS['memory']} of what it was": last <= LIMITS["memory"] * settled,
    }
    return [promise for promise, kept in held.items() if not kept]


def quantiles(seconds: list[float]) -> str:
    p50, p95 = 1000 * np.quantile(seconds, (0.5, 0.95))
    return f"{p50:.0f} ms median, {p95:.0f} ms p95, {1000 * max(seconds):.0f} ms at most"


def fewest_steps(steps: list[tuple[float, int]]) -> int:
    """The least that a run made in any window, from the moment of its first look on."""
    when, step = np.array(steps).T
    earlier = np.searchsorted(when, when - WINDOW)
    whole = when - when[0] >= WINDOW
    return int((step - step[earlier])[whole].min()) if whole.any() else int(step[-1])


async def beside(app: App, seconds: float) -> float:
    """How fast a run is with its page open and a visitor clicking, as a share of how fast it is alone.

    Alone and beside are measured in turns, since the machine itself is not always equally fast.
    """
    trainee, clicker = await Visitor(app.url).open(), await Visitor(app.url).open()
    run = await start_training(trainee)

    async def step() -> int:
        return (await trainee.ask("chart", "poll", [trainee.key, run, 10**9]))["step"]

    async def rate(*company) -> float:
        before, started = await step(), time.monotonic()
        await asyncio.gather(asyncio.sleep(seconds), *company)
        return (await step() - before) / (time.monotonic() - started)

    async def page(end: float) -> None:
        cursor = 0
        while time.monotonic() < end:
            cursor = (await trainee.ask("chart", "poll", [trainee.key, run, cursor]))["step"]
            await asyncio.sleep(0.5)

    await asyncio.sleep(5)
    alone, accompanied = [], []
    for _ in range(4):
        alone.append(await rate())
        end = time.monotonic() + seconds
        accompanied.append(await rate(page(end), look(clicker, Seen(), end)))
    await trainee.click("stop")
    print(f"steps a second alone {np.round(alone, 1)}, with its page and a clicking visitor {np.round(accompanied, 1)}")
    return float(np.median(accompanied) / np.median(alone))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--port", type=int, default=7999)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with App(Path(folder) / "alone", arguments.port) as app:
            share = asyncio.run(beside(app, seconds=10))
            print(f"a run beside its page and a clicking visitor: {share:.2f} of its speed alone")
        with App(Path(folder) / "sixteen", arguments.port) as app:
            broken = report(asyncio.run(sixteen(app, arguments.minutes)))
            if "Traceback" in app.log:
                broken.append(f"no traceback in the log:\n{app.log[-2000:]}")
    if share < LIMITS["beside"]:
        broken.append(f"a run keeps {LIMITS['beside']} of its speed beside a visitor")
    print("\n".join(f"NOT KEPT: {promise}" for promise in broken) or "all kept")
    return len(broken)


if __name__ == "__main__":
    sys.exit(main())
