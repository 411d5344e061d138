"""Merges replayed in the page: after any merge it shows what a tokenizer of only those merges makes of the text."""

import re
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Locator, expect

from playground.corpus import built_in, split
from playground.merging import replay
from playground.tokenizer import BPETokenizer, visible

pytestmark = pytest.mark.browser

# What each token of the passage says, and which of the eight hues it has.
DRAWN = """(nodes) => nodes.map((node) => [node.textContent, Number(node.className.match(/hue(\\d)/)[1])])"""
MARKUP = "<img src=x onerror='window.pwned = 1'>"
STRANGE = f"{MARKUP} 😀😀 café\t東京\r\nשלום, שלום! \ud800 {{{{value}}}}\n\n" * 12


@pytest.fixture
def film(visitor) -> Locator:
    visitor.open("Tokenizer")
    expect(visitor.own("film")).to_have_attribute("data-at", "0")
    return visitor.own("film")


def first_merges(tokenizer: BPETokenizer, k: int) -> BPETokenizer:
    return BPETokenizer(tokenizer.merges[:k])


def scrub(film: Locator, at: int) -> None:
    film.get_by_label("Merges so far").fill(str(at))
    expect(film).to_have_attribute("data-at", str(at))


def expect_passage(film: Locator, tokenizer: BPETokenizer, passage: str, at: int) -> None:
    tokens = first_merges(tokenizer, at).tokens(passage)
    drawn = film.locator(".mf-text .token").evaluate_all(DRAWN)
    texts = [token.text if token.kind == "bytes" else visible(token.text) for token in tokens]
    assert [text.replace("\n", "") for text, _ in drawn] == texts
    assert [hue for _, hue in drawn] == [token.id % 8 for token in tokens]
    expect(film.locator(".mf-text .lit")).to_have_count(sum(at and token.id == 255 + at for token in tokens))


def test_after_each_merge_the_page_shows_the_tokens_of_so_many(film, shipped):
    tokenizer, text = shipped.tokenizer, split(built_in("stories").text)[0]
    seen = replay(tokenizer, text, 1_000)
    last = len(tokenizer.merges)
    expect(film).to_have_attribute("data-merges", str(last))
    expect(film.locator(".mf-about")).to_contain_text("training part of Small stories: 900,168 characters")
    for at in (last, 0, 1, 2, 17, 200):
        scrub(film, at)
        expect_passage(film, tokenizer, text[:1_000], at)
        n = len(first_merges(tokenizer, at).encode(text)) if at in (2, 200) else seen.n_tokens[at]
        expect(film).to_have_attribute("data-tokens", str(n))
        figures = f"{n:,} tokens in all · {n / len(text):.3f} tokens per character · {len(text) / n:.2f} characters"
        expect(film.locator(".mf-figures")).to_contain_text(figures)
    scrub(film, 17)
    left, right, new = (visible(tokenizer.token_text(id)) for id in (*tokenizer.merges[16], 272))
    here = (seen.borders == 17).sum() or "none"
    told = f"Merge 17: “{left}” + “{right}” → “{new}”, joined {seen.times[16]:,} times, {here} of them in the passage"
    expect(film.locator(".mf-told")).to_contain_text(told)


def test_the_film_plays_pauses_and_ends(visitor, film, shipped):
    last, at = len(shipped.tokenizer.merges), lambda: int(film.get_attribute("data-at"))
    told = film.locator(".mf-told")
    film.get_by_role("button", name="Play").click()
    visitor.until(lambda: at() >= 4, "some merges were shown")
    expect(told).to_have_attribute("aria-live", "off")  # a screen reader would never end
    film.get_by_role("button", name="Pause").click()
    expect(told).to_have_attribute("aria-live", "polite")
    paused = at()
    visitor.page.wait_for_timeout(500)
    assert at() == paused
    expect(told).to_contain_text(f"Merge {paused}: ")
    scrub(film, last - 20)
    film.get_by_role("button", name="Play").click()
    expect(film).to_have_attribute("data-at", str(last))
    expect(told).to_have_attribute("aria-live", "polite")
    film.get_by_role("button", name="Play").click()  # once more from the beginning
    visitor.until(lambda: 0 < at() < 100, "the film began anew")


def test_it_has_its_height_whatever_it_shows_and_showed(visitor, film, shipped):
    height = film.bounding_box()["height"]
    for width in (390, 1280):
        visitor.page.set_viewport_size({"width": width, "height": 900})
        for at in (5, len(shipped.tokenizer.merges), 0):
            scrub(film, at)
    assert film.bounding_box()["height"] == height


def test_it_is_stepped_through_with_buttons_and_keys(visitor, film, shipped):
    back, on = (film.get_by_role("button", name=f"One merge {way}") for way in ("back", "on"))
    expect(back).to_be_disabled()
    on.click()
    on.press("Enter")
    back.press("Enter")
    expect(film).to_have_attribute("data-at", "1")
    film.get_by_label("Merges so far").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        visitor.page.keyboard.press(key)
    expect(film).to_have_attribute("data-at", "2")
    expect(film.get_by_label("Merges so far")).to_have_attribute("aria-valuetext", "merge 2 of 768")
    visitor.page.keyboard.press("End")
    expect(film).to_have_attribute("data-at", str(len(shipped.tokenizer.merges)))
    expect(on).to_be_disabled()
    curve = film.locator(".mf-curve")
    curve.click(position={"x": 44, "y": 60})  # where the curve begins
    expect(film).to_have_attribute("data-at", "0")
    expect(curve).to_have_attribute("aria-label", re.compile("fall from 1.000 to 0.3"))
    for kind in ("PNG", "SVG"):
        name, data = visitor.download("film", f"Download this figure as {kind}")
        assert name == f"merges.{kind.lower()}"
    assert ElementTree.fromstring(data).tag.endswith("svg")


def test_a_strange_text_of_a_visitors_is_replayed_as_it_is(visitor, film):
    visitor.open("Train")
    visitor.choose("tokenizer", "Byte-pair subwords")
    visitor.train(STRANGE, max_iters=2, eval_interval=2)
    _, checkpoint = visitor.download_checkpoint()
    visitor.open("Tokenizer")
    expect(film.locator(".mf-about")).to_contain_text("The pasted text")
    merges = checkpoint.tokenizer.merges
    expect(film).to_have_attribute("data-merges", str(len(merges)))
    text = STRANGE.replace("\r\n", "\n").replace("\ud800", "\ufffd")  # as a text box gives it
    passage = text[: int(0.9 * len(text))][:1_000]
    for at in (0, 3, len(merges) // 2, len(merges)):
        scrub(film, at)
        expect_passage(film, checkpoint.tokenizer, passage, at)
    visitor.expect_nothing_run()


def test_without_the_text_there_is_a_sentence(visitor, film, bpe_checkpoint):
    visitor.use(bpe_checkpoint)
    visitor.open("Tokenizer")
    expect(film.locator(".look-note")).to_contain_text("choose “Byte-pair subwords” on the Train tab")
    expect(film.locator(".look-body")).to_be_hidden()
