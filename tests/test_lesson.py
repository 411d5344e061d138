"""The lesson page: all of it is in the one file, it shows this model and this run, and words stay words."""

import base64
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from handmade import random_checkpoint

from playground.checkpoint import SMALL, Beginning, Checkpoint
from playground.config import ModelConfig
from playground.course import SECTIONS
from playground.errors import BadInput
from playground.tokenizer import CharTokenizer
from playground.tries import TRIES
from playground.ui.lesson import BY_TRAINING, MAX_SAMPLE, MAX_SAMPLES, NO_LIFE, NO_RUN, PRINTED_SAMPLES, lesson_page

EVIL = "</script><script>window.pwned = 1</script><img src=x onerror='pwned = 1'>\"&lt;"
PROMPT = f"the goose {EVIL}"
PICTURED = {
    "embedding": 1,
    "positions": 1,
    "masking": 1,
    "attention": 1,
    "heads": 1,
    "layer": 1,
    "head": 1,
    "training": 1,
}


class Read(HTMLParser):
    """A page as a browser takes it apart: its elements with their attributes, and the text of each."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict, list[str]]] = []
        self.open: list[tuple[str, dict, list[str]]] = []
        self.images: dict[str, list[str]] = {}  # by the section that they stand in
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(element)
        if tag == "img":
            section = next(attrs["id"] for tag, attrs, _ in reversed(self.open) if tag == "section")
            self.images.setdefault(section, []).append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for *_, texts in self.open:
            texts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs, _ in self.elements if name == tag]

    def texts(self, tag: str, **wanted: str) -> list[str]:
        return ["".join(t) for name, attrs, t in self.elements if name == tag and wanted.items() <= attrs.items()]


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Checkpoint) -> Checkpoint:
    """A model with a run, whose every word is hostile."""
    history = tuple(
        step if step.sample is None else replace(step, sample=f"{step.step} {EVIL}") for step in tiny_checkpoint.history
    )
    provenance = (replace(tiny_checkpoint.provenance[-1], name=EVIL),)
    beginning = Beginning(2.0, f"0 {EVIL}", 1.0, EVIL)
    return replace(tiny_checkpoint, name=EVIL, history=history, provenance=provenance, beginning=beginning)


@pytest.fixture(scope="module")
def read(checkpoint: Checkpoint) -> Read:
    return Read("".join(lesson_page(checkpoint, PROMPT)))


def test_it_has_the_ten_sections_with_their_words_pictures_and_questions(read):
    assert read.texts("h2") == [
        *(f"{number}. {section.title}" for number, section in enumerate(SECTIONS, 1)),
        "Glossary",
    ]
    assert read.texts("p", **{"class": "question"}) == [section.question for section in SECTIONS]
    assert {section: len(images) for section, images in read.images.items()} == PICTURED
    assert len(read.texts("ol", **{"class": "tokens"})) == 1
    assert not any("[[" in text or "`" in text for text in read.texts("main"))


def test_what_one_look_answers_stands_below_its_question(read, checkpoint):
    notes, ids = read.texts("p", **{"class": "note"}), checkpoint.tokenizer.encode(PROMPT)
    for answer in TRIES.values():
        assert answer(checkpoint, ids).sentence in notes
    assert notes.count(BY_TRAINING) == len(SECTIONS) - len(TRIES)


@pytest.mark.parametrize("size", [SMALL + 1, 10 * SMALL])
def test_a_model_too_large_to_be_drawn_in_moments_is_refused(checkpoint, monkeypatch, size):
    monkeypatch.setattr(ModelConfig, "n_params", size)
    with pytest.raises(BadInput, match="take a smaller one into use"):
        next(lesson_page(checkpoint, PROMPT))


def test_a_strangers_endless_sample_is_cut(checkpoint):
    history = (replace(checkpoint.history[0], sample="x" * 10**6),)
    page = "".join(lesson_page(replace(checkpoint, history=history, beginning=None), PROMPT))
    assert "x" * MAX_SAMPLE in page and "x" * (MAX_SAMPLE + 1) not in page


def test_every_picture_is_one(read):
    for images in read.images.values():
        for source in images:
            kind, data = source.split(",")
            assert kind == "data:image/svg+xml;base64"
            assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
    assert all(image["alt"] for image in read.all("img"))


def test_nothing_in_it_asks_for_anything_else(read):
    (rules,) = [meta["content"] for meta in read.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in rules and "http" not in rules
    for tag, attrs, _ in read.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert attrs.get("src", "data:").startswith("data:") and attrs.get("href", "#").startswith("#")
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
    (style,) = read.texts("style")
    assert "url(" not in style and "@import" not in style


def test_what_others_have_written_stays_text(read, checkpoint):
    assert len(read.all("script")) == 2 and {"src": "x"} not in [image.items() for image in read.all("img")]
    assert read.texts("h1") == [EVIL] and read.texts("title") == [f"{EVIL}: a transformer in ten sections"]
    assert read.texts("q") == [PROMPT] and read.texts("b") == [PROMPT]
    assert EVIL in "".join(read.texts("dl", **{"class": "facts"}))
    assert f"30 {EVIL}" in read.texts("pre", **{"class": "sample"})


def test_the_terms_lead_to_the_glossary(read):
    known = {attrs["id"] for attrs in read.all("dt") if "id" in attrs}
    links = [attrs["href"].removeprefix("#") for attrs in read.all("a") if attrs.get("class") == "term"]
    assert len(links) > 30 and set(links) <= known
    assert {attrs["href"].removeprefix("#") for attrs in read.all("a")} - known == {s.slug for s in SECTIONS}


def test_the_slider_has_the_models_own_life_and_samples(read, checkpoint):
    data = json.loads(read.texts("script", type="application/json")[0])
    life = checkpoint.life
    assert data["life"]["steps"] == list(life.steps) and data["life"]["due"] is None
    attention = np.frombuffer(base64.b64decode(data["life"]["attention"]), np.uint8)
    assert (attention == life.attention.numpy().ravel()).all()
    written = {0: f"0 {EVIL}"} | {step.step: step.sample for step in checkpoint.history if step.sample}
    assert {sample["step"]: sample["text"] for sample in data["samples"]} == written
    assert read.texts("h4")[1:] == [f"Step {step}" for step in written]


def test_of_many_samples_some_travel_and_fewer_are_printed(tiny_checkpoint, monkeypatch):
    from playground.ui import lesson

    monkeypatch.setattr(lesson, "PICTURES", {section.slug: lambda _: "" for section in SECTIONS})
    monkeypatch.setitem(lesson.PICTURES, "training", lambda of: lesson._written(of.checkpoint))
    history = tuple(replace(tiny_checkpoint.history[0], step=n, sample=str(n)) for n in range(1, 501))
    read = Read("".join(lesson_page(replace(tiny_checkpoint, history=history), "the")))
    samples = json.loads(read.texts("script", type="application/json")[0])["samples"]
    assert len(samples) == MAX_SAMPLES and (samples[0]["step"], samples[-1]["step"]) == (1, 500)
    printed = [int(text) for text in read.texts("pre", **{"class": "sample"})]
    assert len(printed) == PRINTED_SAMPLES and (printed[0], printed[-1]) == (1, 500)


def test_a_model_without_a_run_has_a_page_that_says_so():
    checkpoint = random_checkpoint(CharTokenizer.train("abc"), position="none")
    read = Read("".join(lesson_page(checkpoint, "abca")))
    (training,) = read.texts("section", id="training")
    assert NO_RUN in training and NO_LIFE in training
    assert not read.all("script")
    assert read.images.keys() == PICTURED.keys() - {"positions", "training"}
    assert "only the mask tells it the order" in read.texts("section", id="positions")[0]


def test_a_prompt_of_which_nothing_is_known_is_refused(tiny_checkpoint):
    with pytest.raises(BadInput):
        list(lesson_page(tiny_checkpoint, "§§"))
