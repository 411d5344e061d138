"""The words of the course: ten sections, and every term in the glossary."""

import pytest

from playground.course import GLOSSARY, SECTIONS, pieces
from playground.experiments import EXPERIMENTS
from playground.tries import TRIES


def test_the_ten_ideas_each_have_paragraphs_and_a_question_that_something_answers():
    assert len(SECTIONS) == len({section.slug for section in SECTIONS}) == 10
    for section in SECTIONS:
        assert 2 <= len(section.paragraphs) <= 3
        assert section.question.endswith("?")
        assert section.experiments


def test_everything_that_answers_a_question_is_asked_for_once():
    names = [name for section in SECTIONS for name in section.experiments]
    assert sorted(names) == sorted([*EXPERIMENTS, *TRIES])


def test_every_term_is_explained_and_every_explanation_is_used():
    terms = {
        piece.term
        for section in SECTIONS
        for paragraph in (*section.paragraphs, section.on_the_page)
        for piece in pieces(paragraph)
        if piece.kind == "term"
    }
    assert terms == set(GLOSSARY)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.slug)
def test_no_markup_is_left_over(section):
    words = "".join(piece.text for words in (*section.paragraphs, section.on_the_page) for piece in pieces(words))
    assert not set("[]`|") & set(words)
