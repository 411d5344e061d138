"""What it costs a run that it is watched: what its heads do and what it foresees. The losses are the very same, as the
tests show.
"""

from collections.abc import Iterator
from statistics import median
from time import perf_counter

from benchmarks import yardstick
from benchmarks.row import Row, less_is_better
from playground.config import PRESETS
from playground.corpus import Text
from playground.parallel import second_thread
from playground.training import make_trainer, train

PAIRS = 5  # of runs, one watched and one not, in turn


def rows() -> Iterator[Row]:
    text = Text("tinyshakespeare", yardstick.read_text())
    for preset in ("tiny", "small"):
        seconds = {True: [], False: []}  # of the runs that are watched, and of the others
        for _ in range(PAIRS):
            for watched in seconds:
                seconds[watched].append(_seconds(text, preset, watched))
        n = len(make_trainer(text, PRESETS[preset]).snapshot_steps)
        yield less_is_better(f"a {preset} run with {n} snapshots, without", "s", *map(median, seconds.values()), 0.97)


def _seconds(text: Text, preset: str, watched: bool) -> float:
    with second_thread() as beside:
        trainer = make_trainer(text, PRESETS[preset], beside=beside)
        trainer.life = trainer.life if watched else None
        started = perf_counter()
        for _ in train(trainer):
            pass
        return perf_counter() - started
