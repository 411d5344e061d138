"""What of the source some code needs: no more than that, as it stands there, and one meaning for every name."""

from pathlib import Path

import pytest

from playground import excerpt
from playground.excerpt import Excerpt

SHAPES = '''"""A module."""

import math
import sys
from dataclasses import dataclass, field

# --- Round ------------------------------------------------------------------------------------------------------------

# Above a constant,
# in two lines.
HALF, TWO = 0.5, 2  # beside it


def area(r):  # of a circle
    return math.pi * r**TWO


def nobody_asks(r):
    return sys.maxsize


# --- Square -----------------------------------------------------------------------------------------------------------


@dataclass
class Square:
    """Four sides."""

    side: float

    def __post_init__(self):
        self.corners = corners_of(self)

    @property
    def area(self):
        return self.side**2

    # Twice around.
    def around(self):
        return 8 * self.side

    def again(self):
        return self.around()


def corners_of(square):
    area = 4  # its own, not the one above
    return area
'''

USER = '''"""Another."""

from torch import nn

from playground.shapes import Square, area


class Net(nn.Module):
    def forward(self, x):
        return x


def both(r):
    return area(r) + Square(r).area
'''


@pytest.fixture
def taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What some code needs of modules that a test has written."""

    def take(code: str, *whole: str, **files: str) -> Excerpt:
        for name, source in files.items():
            (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setattr(excerpt, "FOLDER", tmp_path)
        return excerpt.excerpt(code, tuple(files), whole)

    return take


def test_only_what_is_needed_is_taken_as_it_stands(taken):
    found = taken("print(area(1))", shapes=SHAPES)
    assert found.imports == ["import math"]
    (passage,) = found.passages
    assert (passage.module, passage.heading) == ("shapes", "Round")
    assert passage.text == (
        "# Above a constant,\n# in two lines.\nHALF, TWO = 0.5, 2  # beside it\n\n\n"
        "def area(r):  # of a circle\n    return math.pi * r**TWO"
    )


def test_what_others_need_is_taken_from_where_they_import_it(taken):
    found = taken("both(1)", shapes=SHAPES, user=USER)
    assert [(passage.module, passage.heading) for passage in found.passages] == [
        ("shapes", "Round"),
        ("shapes", "Square"),
        ("user", ""),
    ]
    assert "import" not in "".join(passage.text for passage in found.passages)
    assert found.imports == ["import math", "from dataclasses import dataclass"]


def test_methods_that_nobody_calls_are_left_out(taken):
    (square,) = taken("Square(1)", shapes=SHAPES).passages
    assert "__post_init__" in square.text and "corners_of" in square.text
    assert "area(self)" not in square.text and "around" not in square.text and "@property" not in square.text
    (square,) = taken("Square(1).again()", shapes=SHAPES).passages
    assert "    # Twice around.\n    def around(self):\n" in square.text and "area(self)" not in square.text


def test_a_class_with_a_base_from_elsewhere_keeps_its_methods(taken):
    assert "def forward" in taken("Net()", shapes=SHAPES, user=USER).passages[-1].text


def test_a_local_name_is_not_one_of_the_module(taken):
    assert [passage.heading for passage in taken("corners_of(1)", shapes=SHAPES).passages] == ["Square"]


def test_a_whole_module_is_taken_with_what_it_needs(taken):
    found = taken("", "user", shapes=SHAPES, user=USER)
    assert {passage.module for passage in found.passages} == {"shapes", "user"}
    assert "class Net" in found.passages[-1].text and "nobody_asks" not in found.passages[0].text


def test_it_runs_as_one_module(taken):
    found = taken(
        "area = both(3)",
        shapes=SHAPES.replace("def area(r)", "def disc(r)"),
        user=USER.replace("area(r)", "disc(r)").replace("Square, area", "Square, disc"),
    )
    names: dict = {}
    exec("\n".join([*found.imports, *(passage.text for passage in found.passages), "result = both(3)"]), names)
    assert names["result"] == pytest.approx(3.141592653589793 * 9 + 9)


@pytest.mark.parametrize(
    ("code", "files", "name"),
    [
        (
            "one(), two()",
            {"a": '"""A."""\nX = 1\ndef one(): return X', "b": '"""B."""\nX = 2\ndef two(): return X'},
            "X",
        ),
        (
            "one()",
            {"a": '"""A."""\nimport re\ndef one(): return re', "b": '"""B."""\ndef re(): pass\ndef two(): re()'},
            "",
        ),
        (
            "one(), two()",
            {"a": '"""A."""\nimport re\ndef one(): return re', "b": '"""B."""\ndef re(): pass\ndef two(): re()'},
            "re",
        ),
        (
            "one(), two()",
            {"a": '"""A."""\nfrom x import f\ndef one(): f', "b": '"""B."""\nfrom y import f\ndef two(): f'},
            "f",
        ),
        ("one = one()", {"a": '"""A."""\ndef one(): pass'}, "one"),
    ],
    ids=["two definitions", "not both needed", "an import and a definition", "two imports", "the notebook's own"],
)
def test_a_name_with_two_meanings_is_refused(taken, code, files, name):
    if name:
        with pytest.raises(ValueError, match=f"^{name} has two meanings"):
            taken(code, **files)
    else:
        assert taken(code, **files).passages


@pytest.mark.parametrize("imported", ["from playground.a import one as first", "from playground import a as first"])
def test_a_name_that_only_an_import_gives_is_refused(taken, imported):
    with pytest.raises(ValueError, match=r"^b\.py takes first from where a notebook cannot"):
        taken("two()", a='"""A."""\ndef one(): pass', b=f'"""B."""\n{imported}\ndef two(): first')


def test_a_statement_that_binds_nothing_is_refused(taken):
    with pytest.raises(ValueError, match="Line 2 binds no name"):
        taken("one()", a='"""A."""\nprint(1)')
