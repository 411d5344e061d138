"""The lesson page opened from disk: it asks for nothing, its slider moves through the run, and words stay words."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from playground.checkpoint import Checkpoint
from playground.life import SCORES
from playground.ui.lesson import lesson_page

pytestmark = pytest.mark.browser

EVIL = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"
PIXELS = "(canvas) => canvas.toDataURL()"


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Checkpoint) -> Checkpoint:
    history = tuple(replace(step, sample=step.sample and f"{step.step} {EVIL}") for step in tiny_checkpoint.history)
    return replace(tiny_checkpoint, name=EVIL, history=history)


@pytest.fixture(scope="module")
def file(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lesson") / "lesson.html"
    path.write_text("".join(lesson_page(checkpoint, f"the goose {EVIL}")))
    return path


@pytest.fixture(params=["light", "dark"])
def page(request, browser: Browser, file: Path) -> Iterator[Page]:
    """The page as somebody without internet opens it. The test fails if it errs or asks for anything."""
    context, faults = browser.new_context(color_scheme=request.param, locale="en-US"), []
    page = context.new_page()
    page.on("console", lambda message: message.type in ("error", "warning") and faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda sent: sent.url.startswith((file.as_uri(), "data:")) or faults.append(sent.url))
    page.goto(file.as_uri())
    yield page
    assert page.evaluate("window.pwned") is None
    context.close()
    assert not faults, "\n".join(faults)


def test_the_slider_moves_pictures_score_and_sample(page: Page, checkpoint: Checkpoint):
    life, section = checkpoint.life, page.locator("#life")
    slider, last = section.get_by_label("Snapshots of the heads so far"), len(life.steps) - 1
    expect(section).to_have_attribute("data-at", str(last))  # it opens with the model as it is
    section.locator(".hl-head").nth(2).click()
    seen = {}
    for at in (0, 1, last // 2, last):  # the second of them at the step of the first sample
        slider.fill(str(at))
        expect(section).to_have_attribute("data-at", str(at))
        step = life.steps[at]
        expect(section.locator(".hl-step")).to_have_text(f"step {step}")
        score = life.scores[at, SCORES.index("induction"), 1, 0].item()
        assert float(section.get_attribute("data-score")) == pytest.approx(score)
        written = max(
            (s for s in checkpoint.history if s.sample and s.step <= step), key=lambda s: s.step, default=None
        )
        if written:
            expect(page.locator("#then h4")).to_have_text(f"What it wrote at step {written.step}")
            expect(page.locator("#then pre")).to_have_text(written.sample)
        else:
            expect(page.locator("#then")).to_be_hidden()
        seen[at] = page.eval_on_selector(".hl-map", PIXELS), page.eval_on_selector(".hl-curve", PIXELS)
    for a, b in ((0, last // 2), (last // 2, last)):
        assert seen[a][0] != seen[b][0] and seen[a][1] != seen[b][1]
    slider.fill("0")
    assert page.eval_on_selector(".hl-map", PIXELS) == seen[0][0]


def test_it_can_be_played_and_read_by_keyboard(page: Page, checkpoint: Checkpoint):
    section, last = page.locator("#life"), len(checkpoint.life.steps) - 1
    section.get_by_label("Snapshots of the heads so far").fill(str(last - 2))
    section.get_by_role("button", name="Play").click()
    expect(section).to_have_attribute("data-at", str(last))
    section.locator(".hl-map").focus()
    page.keyboard.press("ArrowLeft")
    expect(section.locator(".hl-cell")).to_contain_text("weight")


def test_what_others_have_written_is_read_and_not_run(page: Page):
    expect(page.locator("h1")).to_have_text(EVIL)
    expect(page.locator("#introduction pre b")).to_have_text(f"the goose {EVIL}")
    expect(page.locator("#training > pre").last).to_have_text(f"30 {EVIL}")
    assert page.locator("img[src=x]").count() == 0


def test_all_pictures_are_seen_and_nothing_is_wider_than_a_phone(page: Page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator("#life .hl-head canvas").first).to_be_visible()
    for hidden in page.locator("#life .figure-buttons").all():
        expect(hidden).to_be_hidden()


def test_it_is_as_dark_as_the_reader_wants_it(page: Page):
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    brightness = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + +b, 0)"
    )
    assert (brightness < 150) == dark
    before = page.eval_on_selector(".hl-map", PIXELS)
    page.emulate_media(color_scheme="light" if dark else "dark")
    page.wait_for_function("before => document.querySelector('.hl-map').toDataURL() !== before", arg=before)


def test_the_buttons_of_the_course_make_both_files(visitor, tmp_path: Path):
    visitor.open("Learn")
    visitor.fill("sentence", "Once upon a time")
    visitor.at("sentence").locator("textarea").press("Enter")
    name, notebook = visitor.download("take-home", "Download as notebook")
    assert name == "Small-stories.ipynb" and notebook.startswith(b"{")
    name, lesson = visitor.download("take-home", "Download as lesson page")
    assert name == "Small-stories.html" and lesson.startswith(b"<!doctype html>") and lesson.endswith(b"</html>\n")
