"""What the buttons of the course answer: files of the visitor's own model, or a sentence."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from handmade import random_checkpoint

from playground.checkpoint import Checkpoint
from playground.corpus import Text
from playground.tokenizer import CharTokenizer
from playground.ui import takehome
from playground.ui.site import ANOTHER, Site
from playground.ui.takehome import NOTHING_TO_TAKE, to_take

KEY = "a visitor's key"


class Visits:
    """A site with one visitor and one model, which counts how often trainings made room."""

    def __init__(self, checkpoint: Checkpoint, text: Text | None):
        self.n, self.text = 0, text
        workspace = SimpleNamespace(in_use=(checkpoint, 3), text_of=lambda of: text if of is checkpoint else None)
        engine = SimpleNamespace(visit=self.visit)
        self.site = Site(SimpleNamespace(get=lambda key: workspace, host=SimpleNamespace(engine=engine)), None)

    @contextmanager
    def visit(self) -> Iterator[None]:
        self.n += 1
        yield

    def ask(self, *sent: object) -> dict:
        return takehome._file(self.site)(list(sent))


def opened(answer: dict) -> str:
    return base64.b64decode(answer["data"]).decode()


def test_the_notebook_is_of_the_model_in_use_with_its_text_and_the_visitors_sentence(tiny_checkpoint, small_text):
    visits = Visits(replace(tiny_checkpoint, name="My: verses"), small_text)
    answer = visits.ask(to_take(KEY, 3, "the goose"), "notebook")
    assert answer["name"] == "My-verses.ipynb" and visits.n == 1
    code = "\n".join(cell["source"] for cell in json.loads(opened(answer))["cells"])
    assert "PROMPT = 'the goose'" in code and "NAME = 'My: verses'" in code
    assert small_text.text.splitlines()[0] in code


def test_a_sentence_of_which_something_is_known_stays_as_the_page_looks_at_it(tiny_checkpoint, small_text):
    visits = Visits(tiny_checkpoint, small_text)
    for sentence, kept in (("the Ω goose", True), ("Ω", False), ("", False)):
        code = opened(visits.ask(to_take(KEY, 3, sentence), "notebook"))
        assert (json.dumps(f"PROMPT = {sentence!r}")[1:-1] in code) == kept


def test_the_lesson_is_drawn_in_several_visits(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(takehome, "SLICE", 0)
    visits = Visits(tiny_checkpoint, None)
    answer = visits.ask(to_take(KEY, 3, "the goose"), "lesson")
    assert answer["name"] == "Verses.html" and visits.n > 10
    assert "<q>the goose</q>" in opened(answer)


@pytest.mark.parametrize("sentence", ["", "Ω", "a \ud800 b"])
def test_a_sentence_that_the_model_does_not_know_makes_way_for_one_that_it_does(sentence, tiny_checkpoint, small_text):
    answer = Visits(tiny_checkpoint, small_text).ask(to_take(KEY, 3, sentence), "notebook")
    assert "Ω" not in opened(answer) and "PROMPT = ''" not in opened(answer)


def test_there_is_a_sentence_for_a_model_that_no_run_has_made():
    visits = Visits(random_checkpoint(CharTokenizer.train("abc")), None)
    assert "no run that a notebook could repeat" in visits.ask(to_take(KEY, 3, "abc"), "notebook")["error"]


@pytest.mark.parametrize(
    ("look", "kind"),
    [
        ({}, "notebook"),
        (to_take(KEY, 3, "the goose"), "png"),
        (to_take(KEY, 3, "the goose") | {"version": "3"}, "notebook"),
        (to_take(KEY, 3, "the goose") | {"sentence": ["the"]}, "lesson"),
        (to_take(KEY, 3, "the goose") | {"visitor": None}, "lesson"),
    ],
)
def test_what_no_page_asks_for_is_refused(look, kind, tiny_checkpoint):
    assert Visits(tiny_checkpoint, None).ask(look, kind) == {"error": NOTHING_TO_TAKE}


def test_another_model_than_the_page_shows_is_not_taken_for_it(tiny_checkpoint):
    assert Visits(tiny_checkpoint, None).ask(to_take(KEY, 2, "the goose"), "notebook") == {"error": ANOTHER}
