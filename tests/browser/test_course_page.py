"""The course in the Learn tab: ten sections of four parts each, progress, links, and what a class is shown."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from time import sleep
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, expect
from surroundings import free_port, wait_until

from playground.course import GLOSSARY, SECTIONS, pieces
from playground.inspection import inspect
from playground.tokenizer import visible
from playground.tries import TRIES
from playground.ui.shown import Shown

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SENTENCE = "the goose sat on the"


def step(visitor, number: int) -> Locator:
    return visitor.own("course-words").locator(".co-way li button").nth(number - 1)


def box(visitor) -> Locator:
    """Where the sentence stands."""
    return visitor.at("sentence").get_by_role("textbox")


def query(visitor) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(visitor.page.url).query).items()}


def picture(visitor) -> Locator:
    """The picture of the section that is shown."""
    return visitor.page.locator("#course .course-part:not([id^=html-])").filter(visible=True).first


def has_drawn(shown: Locator) -> bool:
    """Whether the picture shows anything of a model: rows of a table, tokens, bars, or a canvas with two colours."""
    return shown.evaluate(
        """part => part.querySelectorAll('tbody tr, .row, bdi').length > 2 || [...part.querySelectorAll('canvas')].some(
            canvas => canvas.width && new Set(
              new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)
            ).size > 1)"""
    )


@pytest.fixture
def course(visitor):
    visitor.open("Learn")
    expect(visitor.own("course-words").get_by_role("heading", name="1. Introduction")).to_be_visible()
    visitor.until(lambda: query(visitor).get("tab") == "learn", "the tab is in the address")
    expect(box(visitor)).not_to_have_value("")
    return visitor


def test_each_of_the_ten_sections_has_its_four_parts(course):
    for number, section in enumerate(SECTIONS, 1):
        words = course.own("course-words").locator(".co-section").filter(visible=True)
        expect(words.get_by_role("heading")).to_have_text(f"{number}. {section.title}")
        said = [text for text in (*section.paragraphs, section.on_the_page) if text]
        told = ["".join(piece.text for piece in pieces(paragraph)) for paragraph in said]
        assert words.locator("p").all_inner_texts() == told
        expect(picture(course)).to_have_count(1)
        course.until(lambda: has_drawn(picture(course)), f"a picture of section {number}")
        code = course.own("course-code")
        expect(code).to_have_attribute("data-section", section.slug)
        assert code.locator(".ls-line:visible").count() > 1 and code.locator(".ls-made:visible").count() > 0
        asks = course.own("course-question").locator(".qu-question").filter(visible=True)
        expect(asks.locator(".qu-words")).to_have_text(section.question)
        offered = course.page.locator("#course [data-try], #course .ev-card").filter(visible=True)
        names = offered.evaluate_all("nodes => nodes.map(({ dataset }) => dataset.try ?? dataset.name)")
        assert names == list(section.experiments)
        if number < len(SECTIONS):
            course.own("course-go-on").get_by_role("button", name=f"Next: {SECTIONS[number].title}").click()
    expect(course.own("course-go-on").get_by_role("button")).to_have_count(0)
    expect(course.own("course-words").locator(".co-progress")).to_contain_text("10 of 10 sections seen")


@pytest.mark.parametrize("section", [s for s in SECTIONS if s.experiments[0] in TRIES], ids=lambda s: s.slug)
def test_a_click_answers_the_question(course, shipped, section):
    step(course, SECTIONS.index(section) + 1).click()
    sentence = box(course).input_value()
    ids = [token.id for token in inspect(shipped, sentence).tokens]
    expected = TRIES[section.experiments[0]](shipped, ids)
    part = course.own("course-question")
    part.locator(".qu-question").filter(visible=True).get_by_role("button").click()
    expect(part.locator(".qu-sentence")).to_have_text(expected.sentence)
    for table, column in zip(part.locator("table").all(), expected.columns, strict=True):
        assert table.locator("bdi").all_inner_texts() == [visible(shipped.tokenizer.token_text(i)) for i in column.ids]
    expect(course.own("course-words").locator(".co-progress")).to_contain_text("1 of their questions answered")


def test_progress_stays_in_the_browser_and_the_section_in_the_address(course):
    step(course, 4).click()
    course.own("course-words").get_by_role("button", name="Next", exact=True).click()
    course.until(lambda: query(course).get("section") == "masking", "the section in the address")
    course.reload()
    expect(course.own("course-words").get_by_role("heading", name="5. Masking")).to_be_visible()
    expect(course.own("course-words").locator(".co-progress")).to_contain_text("3 of 10 sections seen")
    expect(step(course, 4)).to_have_attribute("data-progress", "seen")
    expect(step(course, 6)).to_have_attribute("data-progress", "")
    course.own("course-words").get_by_role("button", name="Back").click()
    expect(course.own("course-words").get_by_role("heading", name="4. Positional encoding")).to_be_visible()
    course.page.go_back()
    expect(course.own("course-words").get_by_role("heading", name="5. Masking")).to_be_visible()
    course.page.go_forward()
    expect(course.own("course-words").get_by_role("heading", name="4. Positional encoding")).to_be_visible()


def test_what_the_browser_keeps_may_be_anything(course):
    for kept in ('{"seen": 5}', "[]", "not JSON", '{"seen": ["<b>"], "answered": null}'):
        course.page.evaluate("kept => localStorage.setItem('transformer-playground-course', kept)", kept)
        course.reload()
        expect(course.own("course-words").locator(".co-progress")).to_have_text(
            "1 of 10 sections seen •, 0 of their questions answered ✓"
        )


def test_a_term_is_explained_where_it_is_pointed_at_or_reached_by_keyboard(new_visitor, url):
    visitor = new_visitor(url=f"{url}?tab=learn&section=attention", width=390)
    words = visitor.own("course-words")
    meaning = words.get_by_role("tooltip")
    term = words.locator(".co-section:visible .co-term").nth(4)
    term.hover()
    expect(meaning).to_have_text("".join(piece.text for piece in pieces(GLOSSARY["softmax"])))
    edge = meaning.evaluate("node => node.getBoundingClientRect().right")
    assert edge <= 390
    visitor.page.mouse.move(0, 0)
    expect(meaning).to_be_hidden()
    words.locator(".co-section:visible .co-term").first.focus()
    expect(meaning).to_have_text(GLOSSARY["query"])
    visitor.page.keyboard.press("Escape")
    expect(meaning).to_be_hidden()


def test_another_sentence_changes_picture_code_and_answer(course):
    box(course).fill("Mia had a dog")
    box(course).press("Enter")
    expect(course.page.locator("#course-introduction .prompt")).to_contain_text("Mia·had·a·dog")
    course.until(lambda: query(course).get("sentence") == "Mia had a dog", "the sentence in the address")
    box(course).fill("Ω")
    box(course).press("Enter")
    expect(course.page.locator("#course-introduction .prompt")).to_contain_text("Ω")  # bytes make any text
    box(course).fill("")
    box(course).press("Enter")
    expect(course.own("sentence-note")).to_contain_text("type at least one character")
    expect(course.own("sentence-note")).to_contain_text("still of the sentence before")
    expect(course.page.locator("#course-introduction .prompt")).to_contain_text("Ω")  # nothing is lost


def test_a_long_sentence_leaves_the_page_reachable(course):
    box(course).fill("Mia had a dog. " * 4_000)
    box(course).press("Enter")
    expect(course.own("sentence-note")).to_contain_text("The model sees, and the picture shows, the last 64")
    course.until(lambda: "sentence" not in query(course), "the address to do without the sentence")
    course.reload()
    expect(course.own("course-words").get_by_role("heading", name="1. Introduction")).to_be_visible()


def test_of_heads_picked_in_a_row_the_last_one_is_shown(course, shipped, monkeypatch):
    """Also where the server is slow: the second is picked while it works on the first."""
    check = Shown.check
    monkeypatch.setattr(Shown, "check", lambda *asked: sleep(0.3) or check(*asked))
    step(course, 7).click()
    heads = course.own("course-heads")
    heads.locator(".am-layer").select_option("2")
    heads.locator(".am-head").select_option("1")
    course.until(lambda: heads.get_attribute("data-locked") == "2,1", "the head to be picked")
    step(course, 6).click()
    expect(course.own("course-attention").locator(".hs-title")).to_have_text("Layer 3, Head 2")
    weights = inspect(shipped, box(course).input_value()).attention[2, 1]
    middle = (len(weights) - 1) // 2  # the query that is shown at first
    row = course.own("course-attention").locator("tbody tr").nth(middle)
    expect(row.locator("td.look-bar")).to_have_text(f"{weights[middle, middle]:.4f}")


def test_the_notebook_has_code_of_this_project_in_each_of_the_ten_sections(course):
    name, data = course.download("take-home", "Download as notebook")
    assert name.endswith(".ipynb")
    of: dict[str, list[str]] = {}
    title = ""
    for cell in json.loads(data)["cells"]:
        if found := re.match(r"## (.+)", cell["source"]):
            title = found[1]
        if cell["cell_type"] == "code":
            of.setdefault(title, []).append(cell["source"])
    for number, section in enumerate(SECTIONS, 1):
        cells = of[f"{number}. {section.title}"]
        sources = [cell for cell in cells if cell.startswith("# playground/")]
        assert sources and len(cells) > len(sources)  # and something is done with it
        for source in sources:
            file, first, *_ = source.removeprefix("# ").splitlines()
            assert first in (ROOT / file).read_text().splitlines()


# ---- The code ----


def test_the_code_on_the_page_is_that_of_the_files(new_visitor, tmp_path):
    """A copy of the project in which one line of the attention reads otherwise, served by itself."""
    for name in ("playground", "checkpoints"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", tmp_path)
    model = tmp_path / "playground/model.py"
    line = "    weights = F.softmax(scores, dim=-1)  # each row is a distribution over the past\n"
    source = model.read_text()
    assert source.count(line) == 1
    model.write_text(
        source.replace(
            line, "    powers = scores.exp()  # in a copy\n    weights = powers / powers.sum(-1, keepdim=True)\n"
        )
    )
    port = free_port()
    surroundings = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "PLAYGROUND_DATA": str(tmp_path / "data"),
    }
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "app.py"], cwd=tmp_path, env=surroundings, stdout=log, stderr=log)
    try:
        wait_until(lambda: "Running on" in (tmp_path / "log").read_text() or server.poll() is not None, "the server")
        visitor = new_visitor(url=f"http://127.0.0.1:{port}/?tab=learn&section=attention")
        code = visitor.own("course-code")
        expect(code.get_by_text("powers = scores.exp()", exact=True)).to_be_visible()
        expect(code.get_by_text("weights = powers / powers.sum(-1, keepdim=True)", exact=True)).to_be_visible()
        expect(code.get_by_text("F.softmax")).to_have_count(0)
        expect(code.locator(".ls-made", has_text="powers (")).to_be_visible()
        visitor.page.close()  # which would miss its server
    finally:
        server.terminate()
        server.wait(timeout=30)


# ---- For a class ----


def visible_tabs(visitor) -> list[str]:
    return visitor.page.get_by_role("tab").filter(visible=True).all_inner_texts()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_address_chooses_the_tabs(new_visitor, url, width):
    visitor = new_visitor(url=f"{url}?show=learn,generate,nonsense,%3Cb%3E", width=width)
    expect(visitor.page.get_by_role("tab", name="Generate")).to_have_attribute("aria-selected", "true")
    assert visible_tabs(visitor) == ["Generate", "Learn"]
    visitor.open("Learn")
    expect(visitor.own("course-words").get_by_role("heading", name="1. Introduction")).to_be_visible()


def test_a_caption_reads_as_in_the_figure_that_is_downloaded(new_visitor, url):
    visitor = new_visitor(url=f"{url}?show=captions,large,learn&tab=learn&section=masking&sentence=Mia%20had%20a%20dog")
    part = visitor.own("course-masking")
    caption = part.locator(".figure-caption")
    expect(caption).to_contain_text("“Mia had a dog”")
    name, data = visitor.download("course-masking", "Download this figure as SVG")
    assert name.endswith(".svg")
    drawn = data.decode()
    for line in caption.inner_text().splitlines():
        assert line in drawn or line in json.loads(f'"{drawn}"')


def test_pictures_stand_without_their_controls(new_visitor, url):
    visitor = new_visitor(url=f"{url}?show=attention,pictures&tab=attention")
    expect(visitor.own("heads").locator("canvas").first).to_be_visible()
    for hidden in ("#page-title", "#attention-prompt", "#figure button", "#model-in-use"):
        expect(visitor.page.locator(hidden).first).to_be_hidden()


def test_the_link_for_a_class_opens_what_was_chosen(course, new_visitor):
    step(course, 6).click()
    course.until(lambda: query(course).get("section") == "attention", "the section in the address")
    part = course.own("for-class")
    part.locator("summary").click()
    for label in ("Learn", "Attention", "larger type, for a projector"):
        part.get_by_label(label).check()
    link = part.get_by_label("The link").input_value()
    assert link.endswith("show=attention,learn,large")
    guest = new_visitor(url=link)
    assert visible_tabs(guest) == ["Attention", "Learn"]
    expect(guest.own("course-words").get_by_role("heading", name="6. Attention")).to_be_visible()
