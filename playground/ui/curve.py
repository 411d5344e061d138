"""A loss curve for the page: however long the run, few points, and among them all that one would miss."""

from collections.abc import Sequence
from typing import TypeVar

Point = TypeVar("Point")

MOST_STEPS = 2_000  # points of the training loss that are sent at once; loss_chart.js thins at the same numbers
MOST_EVALUATIONS = 1_000
SMALLEST_SHARE = 0.02  # of a new loss in the smoothed one
REACH = 500  # steps after which a loss has no say any more in the smoothed one: 0.98 ** 500 is 0.00004


def thin(points: Sequence[Point], heights: Sequence[float], most: int) -> list[Point]:
    """At most `most` of the points: the first, the last, and the lowest and the highest of each stretch between.

    >>> thin("abcdefghij", [5, 4, 9, 4, 3, 3, 2, 8, 1, 1], most=6)
    ['a', 'c', 'e', 'h', 'i', 'j']
    """
    if len(points) <= most:
        return list(points)
    n = len(points)
    n_stretches = (most - 2) // 2
    kept = {0, n - 1}
    for i in range(n_stretches):
        stretch = range(i * n // n_stretches, (i + 1) * n // n_stretches)
        kept |= {min(stretch, key=heights.__getitem__), max(stretch, key=heights.__getitem__)}
    return [points[i] for i in sorted(kept)]


def smooth(losses: Sequence[float], first: int) -> list[float]:
    """A running average of the losses from index `first` of the run on. Its memory grows with the run: it keeps up with
    the steep beginning and is calm later.
    """
    average, averages = losses[0] if losses else 0.0, []
    for i, loss in enumerate(losses, first):
        average += max(SMALLEST_SHARE, 1 / (1 + i / 20)) * (loss - average)
        averages.append(average)
    return averages
