"""The map of the tokens, what tells positions apart, and the way from logits to probabilities, on the real page."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade import random_checkpoint
from playwright.sync_api import Locator, expect
from test_tabs import WATCH_CANVAS, lens_after_third_token, show_attention, unfold_part

from playground.embeddings import neighbours, positions, token_map
from playground.generation import Sampling, next_token_probs
from playground.inspection import inspect
from playground.tokenizer import CharTokenizer, WordTokenizer, visible

pytestmark = pytest.mark.browser

NUMBER = r"(−?[\d.]+)"


def shown_number(text: str) -> float:
    return float(text.replace("−", "-"))


def expect_neighbours(visitor, part: Locator, checkpoint, id: int) -> None:
    """The list has what the core computes for this token."""
    expect(part).to_have_attribute("data-chosen", str(id))
    found = neighbours(checkpoint, id)
    rows = part.locator(".em-beside tbody tr")
    expect(rows).to_have_count(len(found.ids))
    for row, other, cosine in zip(rows.all(), found.ids, found.cosines, strict=True):
        expect(row.locator("th")).to_have_text(visible(checkpoint.tokenizer.token_text(other)))
        shown_id, shown_cosine = row.locator("td").all_text_contents()
        assert int(shown_id) == other
        assert shown_number(shown_cosine) == pytest.approx(cosine, abs=6e-4)


def expect_cell(heat: Locator, row: int, column: int, value: float) -> None:
    """What a heat map's readout tells, rows and columns counted from 0."""
    readout = heat.locator(".hm-readout")
    expect(readout).to_have_attribute("data-row", str(row))
    expect(readout).to_have_attribute("data-column", str(column))
    assert float(readout.get_attribute("data-value")) == pytest.approx(value, abs=1e-5)


# --- Tokens -----------------------------------------------------------------------------------------------------------


def test_the_last_tokens_neighbours_are_listed_at_first(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    part = unfold_part(visitor, "embeddings")
    expect(part).to_have_attribute("data-drawn", str(tiny_checkpoint.config.vocab_size))
    (e,) = tiny_checkpoint.tokenizer.encode("e")
    expect_neighbours(visitor, part, tiny_checkpoint, e)
    seen = token_map(tiny_checkpoint)
    expect(part.locator(".em-about")).to_contain_text(f"with {100 * seen.explained.sum():.1f} % of their variance")
    told = re.search(rf"Nearest to e, id {e}, at {NUMBER}, {NUMBER}:", part.locator(".em-chosen").inner_text())
    assert [shown_number(x) for x in told.groups()] == pytest.approx(list(seen.points[e]), abs=6e-4)


def test_a_token_is_found_by_its_text_and_a_neighbour_by_a_press(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    part, tokenizer = unfold_part(visitor, "embeddings"), tiny_checkpoint.tokenizer
    for text in ("w", " "):
        part.get_by_label("Find a token").fill(text)
        expect_neighbours(visitor, part, tiny_checkpoint, tokenizer.encode(text)[0])
    part.get_by_label("Find a token").fill("no such")
    expect(part.locator(".em-chosen")).to_have_text("No token in the picture reads like that.")
    part.locator(".em-token").nth(3).click()
    expect_neighbours(visitor, part, tiny_checkpoint, neighbours(tiny_checkpoint, tokenizer.encode(" ")[0]).ids[3])


def test_what_reads_exactly_so_is_found_first(visitor):
    words = WordTokenizer.train("geese goosegirl, goose, goosegirl, geese", 20)
    goose = words.vocab.index(b" goose")
    assert words.vocab.index(b" goosegirl") < goose  # which begins so, too
    checkpoint = random_checkpoint(words)
    visitor.use(checkpoint)
    show_attention(visitor, "geese")
    part = unfold_part(visitor, "embeddings")
    expect(part).to_have_attribute("data-drawn", str(words.vocab_size))
    for typed in (" goose", "goose"):
        part.get_by_label("Find a token").fill(typed)
        expect_neighbours(visitor, part, checkpoint, goose)


@pytest.fixture
def goose(visitor, tiny_checkpoint):
    """The map of the embeddings for "the goose", the id of the token that it has chosen, and all tokens' places."""
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    part = unfold_part(visitor, "embeddings")
    (e,) = tiny_checkpoint.tokenizer.encode("e")
    expect(part).to_have_attribute("data-chosen", str(e))
    points = token_map(tiny_checkpoint).points
    return part, e, points


def test_arrow_keys_go_to_the_next_token_in_their_direction(visitor, tiny_checkpoint, goose):
    part, e, points = goose
    part.get_by_label("Download this figure as PNG").first.focus()
    visitor.page.keyboard.press("Shift+Tab")
    expect(part.locator(".em-light")).to_be_focused()
    at = e
    for key, direction in [("ArrowRight", (1, 0)), ("ArrowUp", (0, 1)), ("ArrowLeft", (-1, 0)), ("ArrowDown", (0, -1))]:
        away = points - points[at]
        ahead, aside = away @ direction, np.abs(away @ direction[::-1])
        cost = np.where(ahead > 1e-3, ahead + 3 * aside, np.inf)
        if np.isfinite(cost).any():
            at = int(cost.argmin())
        visitor.page.keyboard.press(key)
        expect_neighbours(visitor, part, tiny_checkpoint, at)


def test_pointing_shows_a_token_and_a_click_keeps_it(visitor, tiny_checkpoint, goose):
    part, e, points = goose
    far = int(np.square(points - points.mean(0)).sum(1).argmax())  # at the edge nothing else is near
    assert far != e
    light = part.locator(".em-light")
    light.scroll_into_view_if_needed()
    box = light.bounding_box()
    low, high = points.min(0), points.max(0)
    scale = ((np.array([box["width"], box["height"]]) - 60) / (high - low)).min()
    x, y = (points[far] - (low + high) / 2) * scale
    place = {"x": box["width"] / 2 + float(x), "y": box["height"] / 2 - float(y)}
    light.hover(position=place)
    expect_neighbours(visitor, part, tiny_checkpoint, far)
    visitor.page.mouse.move(0, 0)
    expect_neighbours(visitor, part, tiny_checkpoint, e)
    light.click(position=place)
    visitor.page.mouse.move(0, 0)
    visitor.page.wait_for_timeout(200)
    expect_neighbours(visitor, part, tiny_checkpoint, far)


def test_markup_in_a_token_is_text(visitor):
    words = WordTokenizer.train("<!-- the goose &amp; <b>", 20)  # of markup no token can hold more than its signs
    checkpoint = random_checkpoint(words)
    visitor.use(checkpoint)
    visitor.page.evaluate(WATCH_CANVAS)
    show_attention(visitor, "<!-- the goose")
    part = unfold_part(visitor, "embeddings")
    expect_neighbours(visitor, part, checkpoint, words.vocab.index(b" goose"))
    assert "<!--" in part.locator(".em-beside tbody th").all_text_contents()
    assert "<!--" in visitor.page.evaluate("window.drawn")
    part.get_by_label("Find a token").fill("<!--")
    expect(part.locator(".em-chosen bdi")).to_have_text("<!--")


def test_a_new_prompt_and_a_new_model_are_shown(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    part = unfold_part(visitor, "embeddings")
    expect_neighbours(visitor, part, tiny_checkpoint, tiny_checkpoint.tokenizer.encode("e")[0])
    show_attention(visitor, "the cat")
    expect_neighbours(visitor, part, tiny_checkpoint, tiny_checkpoint.tokenizer.encode("t")[0])
    other = random_checkpoint(tiny_checkpoint.tokenizer)
    visitor.use(other)
    show_attention(visitor, "the goose")
    expect_neighbours(visitor, part, other, tiny_checkpoint.tokenizer.encode("e")[0])


def test_embeddings_too_large_to_show_are_told_of(visitor, tiny_checkpoint):
    weights = tiny_checkpoint.weights | {"wte.weight": tiny_checkpoint.weights["wte.weight"].sign() * 3e38}
    visitor.use(replace(tiny_checkpoint, name="Huge", weights=weights))
    show_attention(visitor, "the goose")
    part = unfold_part(visitor, "embeddings")
    expect(part.locator(".look-note")).to_contain_text("too large to be shown")
    expect(part.locator(".look-body")).to_be_hidden()


# --- Positions --------------------------------------------------------------------------------------------------------

LETTERS = CharTokenizer.train("the goose")


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_a_table_of_positions_is_read_with_the_keyboard(visitor, position):
    checkpoint = random_checkpoint(LETTERS, position=position, block_size=12)
    visitor.use(checkpoint)
    show_attention(visitor, "the goose")
    part, seen = unfold_part(visitor, "embeddings"), positions(checkpoint)
    expect(part.locator(".em-dials")).to_be_hidden()
    expect(part.locator(".em-table .hm-title")).to_have_text("The 12 vectors")
    largest = np.abs(seen.vectors).max()
    expect(part.locator(".em-table .hm-scale span").last).to_have_text(f"{largest:.3f}" if largest % 1 else "1")

    part.locator(".em-table .hm-light").focus()
    for _ in range(3):
        visitor.page.keyboard.press("ArrowDown")
    visitor.page.keyboard.press("ArrowRight")
    expect_cell(part.locator(".em-table"), 3, 1, seen.vectors[3, 1])
    shown = f"{seen.vectors[3, 1]:.3f}".replace("-", "−")
    expect(part.locator(".em-table .hm-readout")).to_have_text(f"position 4, number 2: {shown}")

    part.locator(".em-similarity .hm-light").focus()
    expect_cell(part.locator(".em-similarity"), 0, 0, 1)
    visitor.page.keyboard.press("ArrowDown")
    visitor.page.keyboard.press("ArrowUp")
    visitor.page.keyboard.press("ArrowUp")  # the edge holds
    for _ in range(20):
        visitor.page.keyboard.press("ArrowRight")
    expect_cell(part.locator(".em-similarity"), 0, 11, seen.similarity[0, 11])
    expect(part.locator(".em-table .hm-readout")).to_have_text(re.compile("Point at a cell"))


def test_rotations_are_shown_as_dials_and_as_a_map(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)  # rotary, two heads of 8: four pairs
    show_attention(visitor, "the goose")
    part, seen = unfold_part(visitor, "embeddings"), positions(tiny_checkpoint)
    dials = part.locator(".em-dial i")

    def turns() -> list[float]:
        return [float(dial.evaluate("dial => dial.style.getPropertyValue('--turn')")[:-3]) for dial in dials.all()]

    expect(dials).to_have_count(4)
    assert turns() == pytest.approx(list(seen.angles[8]), abs=1e-5)  # at first the prompt's ninth and last token
    part.get_by_role("slider", name="Position").focus()
    visitor.page.keyboard.press("Home")
    assert turns() == [0, 0, 0, 0]
    for _ in range(2):
        visitor.page.keyboard.press("ArrowRight")
    assert turns() == pytest.approx([2 / 10_000 ** (i / 4) for i in range(4)], abs=1e-5)
    expect(part.locator(".em-dials")).to_have_attribute("aria-label", re.compile("^pair 1 turned by 115°, pair 2"))

    table, box = part.locator(".em-table .hm-light"), part.locator(".em-table .hm-light").bounding_box()
    table.hover(position={"x": box["width"] - 3, "y": box["height"] - 3})
    expect_cell(part.locator(".em-table"), 15, 3, math.cos(15 / 1_000))
    expect(part.locator(".em-table .hm-readout")).to_have_text(
        "position 16, pair 4: turned by 1°, cos 1.000, sin 0.015"
    )
    part.locator(".em-similarity .hm-light").hover(position={"x": box["width"] - 3, "y": 44})
    expect_cell(part.locator(".em-similarity"), 0, 15, seen.similarity[0, 15])
    expect(part.locator(".em-similarity .hm-readout")).to_contain_text("positions 1 and 16, 15 apart")


def test_without_positions_the_mask_is_said_to_tell_order(visitor):
    visitor.use(random_checkpoint(LETTERS, position="none"))
    show_attention(visitor, "the goose")
    part = unfold_part(visitor, "embeddings")
    expect(part.locator(".em-places")).to_contain_text("only the causal mask tells order")
    expect(part.locator(".em-heats")).to_be_hidden()
    expect(part.locator(".em-turn")).to_be_hidden()


def test_of_long_contexts_and_large_vocabularies_a_part_is_shown_and_said_to_be(visitor):
    words = WordTokenizer.train(" ".join(f"w{i}" for i in range(2_500)), 2_500)
    visitor.use(random_checkpoint(words, position="sinusoidal", block_size=600))
    show_attention(visitor, "w1 w2")
    part = unfold_part(visitor, "embeddings")
    expect(part).to_have_attribute("data-drawn", re.compile(r"^200\d$"))  # of the prompt some have later ids
    expect(part.locator(".em-about")).to_contain_text(f"Of {words.vocab_size:,} tokens the picture has 2,0")
    expect(part.locator(".em-places")).to_contain_text("The pictures show 200 of 600 positions, evenly spaced.")
    part.locator(".em-table .hm-light").focus()
    visitor.page.keyboard.press("ArrowDown")
    expect_cell(part.locator(".em-table"), 3, 0, math.sin(3))


def test_on_a_narrow_page_nothing_reaches_out(new_visitor, tiny_checkpoint):
    visitor = new_visitor(width=390, height=800, dark=True)
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    part, lens = unfold_part(visitor, "embeddings"), unfold_part(visitor, "lens")
    expect(part).to_have_attribute("data-chosen", re.compile(r"\d"))
    expect(lens).to_have_attribute("data-position", "8")
    for inside in (".em-tokens", ".em-heats", ".em-dials", ".ll-softmax"):
        box = visitor.page.locator(inside).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, inside
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390


# --- From logits to probabilities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0, 0.05, 0.7, 1, 5])
def test_the_slider_gives_the_probabilities_that_are_drawn_from(visitor, tiny_checkpoint, temperature):
    lens = lens_after_third_token(visitor, tiny_checkpoint)
    lens.get_by_label("Temperature T").fill(str(temperature))
    logits = torch.tensor(inspect(tiny_checkpoint, "the goose").logits[2])  # (V,)
    probs = next_token_probs(logits, Sampling(temperature)).numpy()
    order = np.argsort(-logits.numpy(), kind="stable")[:8]
    rows = lens.locator(".ll-softmax tbody tr")
    expect(rows).to_have_count(8)
    for row, id in zip(rows.all(), order, strict=True):
        assert float(row.get_attribute("data-p")) == pytest.approx(probs[id], rel=1e-6, abs=1e-300)
        x, divided, raised, percent = row.locator("td").all_text_contents()
        assert shown_number(x) == pytest.approx(logits[id].item(), abs=6e-4)
        if 0 < probs[id] < 1e-4:
            assert percent == "< 0.01 %"
        else:
            assert float(percent.split()[0]) == pytest.approx(100 * probs[id], abs=6e-3)
        if temperature:
            assert shown_number(divided) == pytest.approx(logits[id].item() / temperature, abs=6e-4)
            power = math.exp((logits[id] - logits.max()).item() / temperature)
            digits = shown_number(raised.replace(" · 10", "e").replace("−", "-"))
            assert digits == pytest.approx(power, rel=0.05)
        else:
            assert (divided, raised) == ("", "")
    told = lens.locator(".ll-sum").inner_text()
    if temperature:
        total = np.exp((logits.numpy().astype(float) - logits.max().item()) / temperature).sum()
        assert told == f"Σ = {total:.4f} over all {len(logits)} tokens"
    else:
        assert "greedy" in told
