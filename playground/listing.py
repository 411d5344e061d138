"""The code that ran: a function's lines as they stand in its file, and what each of them made in one call of it."""

import inspect
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

RETURNED = "→"  # stands for a name where a line returns
MOST_VALUES = 6  # of a tuple that are told one by one
MOST_NUMBERS = 3  # of an array
MOST_TEXT = 40  # characters

Result = TypeVar("Result")


@dataclass(frozen=True)
class Line:
    """A line of a file, and what it made: names with their values, of an array its shape and how it begins."""

    text: str
    made: tuple[str, ...]
    n_times: int = 1  # that it ran; of a loop's lines `made` is of the last


@dataclass(frozen=True)
class Listing:
    """One function as it stands in its file, from line number `first` on."""

    file: str
    first: int
    lines: tuple[Line, ...]


def watch(function: Callable[..., Result], *args: object) -> tuple[Result, Listing]:
    """Calls a function; returns what it returned, and its lines with what each of them made in this very call.

    Python itself tells which names are bound after each line, so nothing stands beside a line but what it computed. A
    line of a loop has what it made the last time. What a tensor becomes in place is not seen.

    >>> def double(x):
    ...     y = 2 * x
    ...     return y
    >>> result, listing = watch(double, 2.5)
    >>> [(line.text.strip(), *line.made) for line in listing.lines]
    [('def double(x):', 'x 2.5'), ('y = 2 * x', 'y 5'), ('return y', '→ 5')]
    """
    code = inspect.unwrap(function).__code__
    made: dict[int, dict[str, str]] = defaultdict(dict)  # by the line's number, then by name
    n_times: Counter[int] = Counter()
    known: dict[str, object] = {}
    texts, first = inspect.getsourcelines(function)
    at = next(number for number, text in enumerate(texts, first) if text.lstrip().startswith("def "))

    def follow(frame, event, value):
        nonlocal at, known
        now = dict(frame.f_locals) | ({RETURNED: value} if event == "return" else {})
        new = (name for name in now if name not in known or known[name] is not now[name])
        n_times[at] += event != "call"
        made[at] |= {name: told for name in new if (told := tell(now[name]))}
        at, known = frame.f_lineno, now
        return follow

    before = sys.gettrace()
    sys.settrace(lambda frame, event, value: follow(frame, event, value) if frame.f_code is code else None)
    try:
        result = function(*args)
    finally:
        sys.settrace(before)
    lines = (Line(text.rstrip("\n"), _made(made[number]), n_times[number]) for number, text in enumerate(texts, first))
    return result, Listing(f"{function.__module__.replace('.', '/')}.py", first, tuple(lines))


def tell(value: object) -> str:
    """A value as it stands beside a line: a number, a shape with the first numbers, some of either; "" for all else.

    >>> tell(0.1 + 0.2), tell("lm_head.weight"), tell((3, 0)), tell(object())
    ('0.3', "'lm_head.weight'", '(3, 0)', '')
    >>> tell(torch.tensor([[0.5, -1.0], [2.0, 3.0]])), tell(list(range(40))), tell((torch.ones(2), 7))
    ('(2, 2): 0.5 -1 2 …', '40: 0 1 2 …', '((2,), 7)')
    """
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim:
        return f"{tuple(value.shape)}: {_first(value.flatten()[:MOST_NUMBERS].tolist(), math.prod(value.shape))}"
    if isinstance(value, torch.Tensor | np.generic):
        return f"{value.item():.7g}"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, str):
        return repr(value if len(value) <= MOST_TEXT else f"{value[:MOST_TEXT]}…")
    if isinstance(value, int):
        return repr(value)
    if isinstance(value, tuple | list) and len(value) <= MOST_VALUES:
        return f"({', '.join(filter(None, map(_briefly, value)))})"
    if isinstance(value, tuple | list) and all(isinstance(number, int) for number in value):
        return f"{len(value)}: {_first(value[:MOST_NUMBERS], len(value))}"
    return ""


def _briefly(value: object) -> str:
    """One of several: of an array the shape alone."""
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor | np.ndarray) and value.ndim else tell(value)


def _first(numbers: Sequence[float], n: int) -> str:
    return " ".join([f"{number:.4g}" for number in numbers] + ["…"] * (n > len(numbers)))


def _made(values: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name} {value}" for name, value in values.items())
