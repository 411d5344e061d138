"""The code that ran: the lines are those of the file, and what stands beside them is what they made."""

import doctest
import importlib.util
import sys

import pytest
import torch

from playground import listing
from playground.listing import watch

SOURCE = '''
import torch


def outer(x, times):
    """Adds x up."""
    total = torch.zeros(2)
    for i in range(times):
        total = inner(total, x)
        half = total.sum() / 2
    if times > 9:
        half = None
    return total, half.item()


def inner(total, x):
    total = total + x
    return total
'''


@pytest.fixture
def module(tmp_path):
    """A file of its own that is a module for the time of a test."""
    path = tmp_path / "made_for_a_test.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def made_beside(seen) -> dict[str, tuple[str, ...]]:
    return {line.text.strip(): line.made for line in seen.lines if line.made}


def test_documentation_holds():
    assert doctest.testmod(listing).failed == 0


def test_the_lines_are_those_of_the_file(module):
    _, seen = watch(module.outer, torch.ones(2), 2)
    lines = SOURCE.splitlines()
    assert seen.file == "made_for_a_test.py"
    assert [line.text for line in seen.lines] == lines[seen.first - 1 : seen.first + 8]
    assert seen.lines[0].text == "def outer(x, times):"


def test_each_line_has_what_it_made_and_no_other(module):
    result, seen = watch(module.outer, torch.ones(2), 2)
    assert result[1] == 2.0
    assert made_beside(seen) == {
        "def outer(x, times):": ("x (2,): 1 1", "times 2"),
        "total = torch.zeros(2)": ("total (2,): 0 0",),
        "for i in range(times):": ("i 1",),
        "total = inner(total, x)": ("total (2,): 2 2",),
        "half = total.sum() / 2": ("half 2",),
        "return total, half.item()": ("→ ((2,), 2)",),
    }


def test_a_line_tells_how_often_it_ran(module):
    _, seen = watch(module.outer, torch.ones(2), 3)
    times = {line.text.strip(): line.n_times for line in seen.lines}
    assert times["def outer(x, times):"] == times["total = torch.zeros(2)"] == 1
    assert times["total = inner(total, x)"] == 3
    assert times["half = None"] == 0


def test_another_text_in_the_file_is_another_listing(module, tmp_path):
    path = tmp_path / "made_for_a_test.py"
    path.write_text(SOURCE.replace("half = total.sum() / 2", "half = total.sum() * 0.25"))
    sys.modules.pop("made_for_a_test")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    changed = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = changed
    spec.loader.exec_module(changed)
    _, seen = watch(changed.outer, torch.ones(2), 2)
    assert made_beside(seen)["half = total.sum() * 0.25"] == ("half 1",)


def test_whoever_traced_before_traces_on(module):
    calls = []
    before = sys.gettrace()

    def other(frame, event, value):
        calls.append(frame.f_code.co_name)

    sys.settrace(other)
    try:
        watch(module.inner, torch.ones(1), 1.0)
        with pytest.raises(TypeError):
            watch(module.outer, None, "no number")
        assert sys.gettrace() is other
    finally:
        sys.settrace(before)
