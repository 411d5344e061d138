"""How long until the loss that people know: ours until 1.88, against the yardstick's whole run, which ends near 1.9.

Both see the first 90 % of the text. The loss is that over all of the rest, in float32, in windows that do not overlap;
what a run spends on looking at its loss counts as its own time.
"""

from collections.abc import Iterator
from time import perf_counter

from benchmarks import yardstick
from benchmarks.row import Row, at_most, less_is_better
from playground.config import PRESETS
from playground.corpus import Text
from playground.parallel import second_thread
from playground.training import make_trainer, train

TARGET, BEST = 1.88, 1.4697
PIECES = 4  # in which the yardstick's run is made, with one of ours between them: both meet the same machine


def rows() -> Iterator[Row]:
    text = Text("tinyshakespeare", yardstick.read_text())
    theirs, ours, losses = yardstick.Training(yardstick.read_data()), [], []
    for step in theirs.run():
        if step % (yardstick.STEPS // PIECES) == 0:
            seconds, loss = _run(text, "small", TARGET)
            ours.append(seconds)
            losses.append(loss)
    what = f"time to {TARGET} (ours {max(losses):.3f}, theirs {theirs.val_loss():.3f} at the end)"
    yield less_is_better(what, "s", sorted(ours)[PIECES // 2], theirs.seconds, 10)

    seconds, loss = _run(text, "best", BEST)
    yield at_most(f"time to {BEST} (reached {loss:.4f})", "min", seconds / 60, 20 if loss <= BEST else 0)


def _run(text: Text, preset: str, target: float) -> tuple[float, float]:
    """Trains until the target: the seconds from the first step on, and the loss that was reached."""
    with second_thread() as beside:
        trainer = make_trainer(text, PRESETS[preset], beside=beside)
        started = perf_counter()
        for _ in train(trainer, target):
            pass
        return perf_counter() - started, trainer.val_loss()
