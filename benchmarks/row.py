"""One line of the table that `make bench` prints: what we reach, what another reaches beside it, and the goal."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A figure of ours beside theirs, in one unit, measured in one run. With `theirs` None there is only the goal.

    The goal is for `figure`, which is how many times better ours is than theirs, or ours itself where nobody else is.
    """

    what: str
    unit: str
    ours: float
    theirs: float | None
    figure: float
    goal: float
    at_most: bool = False  # whether the goal is the most that the figure may be, not the least

    @property
    def reached(self) -> bool:
        return self.figure <= self.goal if self.at_most else self.figure >= self.goal


def more_is_better(what: str, unit: str, ours: float, theirs: float, goal: float) -> Row:
    return Row(what, unit, ours, theirs, ours / theirs, goal)


def less_is_better(what: str, unit: str, ours: float, theirs: float, goal: float) -> Row:
    """
    >>> less_is_better("time to 1.88", "s", ours=5.0, theirs=100.0, goal=10).figure
    20.0
    """
    return Row(what, unit, ours, theirs, theirs / ours, goal)


def at_most(what: str, unit: str, ours: float, goal: float) -> Row:
    return Row(what, unit, ours, None, ours, goal, at_most=True)
