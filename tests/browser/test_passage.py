"""One passage before training, on its way and after it in the page: the numbers are those kept with the model."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, expect

from playground.checkpoint import Checkpoint

pytestmark = pytest.mark.browser

BACKGROUNDS = "nodes => nodes.map(node => node.style.background)"


@pytest.fixture
def passage(visitor, tiny_checkpoint: Checkpoint) -> Locator:
    """The part of the page, unfolded."""
    visitor.use(tiny_checkpoint)
    visitor.open("Evaluate")
    visitor.at("passage").locator("summary").click()
    expect(visitor.own("passage")).to_have_attribute("data-snapshots", str(len(tiny_checkpoint.life.steps)))
    return visitor.own("passage")


def expect_told(column: Locator, checkpoint: Checkpoint, at: int, token: int) -> None:
    """A column says of a token what snapshot `at` has of it."""
    life, text = checkpoint.life, checkpoint.tokenizer.token_text
    lines, i = column.locator(".pv-told tr"), token - 1
    signs = [text(id).replace(" ", "·").replace("\n", "↵") for id in (life.passage[token], int(life.guesses[at, i]))]
    expect(lines.nth(0).locator("th")).to_have_text(signs[0])
    expect(lines.nth(1).locator("th")).to_have_text(f"{signs[1]} best guess")
    p = 100 * math.exp(-life.losses[at, i])
    expect(lines.nth(0).locator("td")).to_have_text(f"{p:.3f} %" if p < 1 else f"{p:.1f} %")
    expect(lines.nth(1).locator("td")).to_have_text(f"{100 * life.guess_probs[at, i]:.1f} %")


def test_the_three_columns_show_what_was_kept(visitor, passage, tiny_checkpoint):
    life, columns = tiny_checkpoint.life, passage.locator(".pv-column").all()
    expect(passage.locator(".look-body > p").first).to_contain_text("differ from the validation loss")
    expect(passage.get_by_label("Step of the text in the middle")).to_have_value(str(life.moments[1]))
    assert life.moments[0] == 0 and life.steps[life.moments[1]] in (14, 17) and life.steps[life.moments[2]] == 30
    for column, at in zip(columns, life.moments, strict=True):
        about = f"step {life.steps[at]} of {life.steps[-1]}: {life.losses[at].mean():.3f} nats a token"
        expect(column.locator(".pv-about")).to_have_text(about)
        tokens = column.locator(".surprise-token")
        expect(tokens).to_have_count(len(life.passage))
        assert "".join(tokens.all_text_contents()).replace("↵", "\n") == tiny_checkpoint.tokenizer.decode(life.passage)
        first, *colours = tokens.evaluate_all(BACKGROUNDS)
        assert first == ""
        levels = np.round(255 * np.minimum(life.losses[at].numpy() / 8, 1)).tolist()
        assert len(set(zip(levels, colours, strict=True))) == len(set(levels))  # the same colour for the same level

    columns[2].locator(".surprise-token").nth(9).hover()
    for column, at in zip(columns, life.moments, strict=True):
        expect(column.locator("[aria-selected=true]")).to_have_attribute("data-i", "9")
        expect_told(column, tiny_checkpoint, at, 9)
    columns[1].locator(".surprise-token").first.hover()
    expect(columns[0].locator(".pv-told")).to_contain_text("is the first: nothing predicts it")


def test_a_keyboard_reads_the_tokens_and_moves_the_slider(visitor, passage, tiny_checkpoint):
    life, columns = tiny_checkpoint.life, passage.locator(".pv-column").all()
    columns[0].locator(".surprise-token").first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowLeft"):
        visitor.page.keyboard.press(key)
    for column, at in zip(columns, life.moments, strict=True):
        expect_told(column, tiny_checkpoint, at, 2)
    slider = passage.get_by_label("Step of the text in the middle")
    slider.focus()
    for _ in range(3):
        visitor.page.keyboard.press("ArrowLeft")
    at = life.moments[1] - 3
    expect(passage).to_have_attribute("data-places", f"0,{at},{life.moments[2]}")
    expect(slider).to_have_attribute("aria-valuetext", f"step {life.steps[at]}")
    expect(columns[1].locator(".pv-about")).to_contain_text(f"{life.losses[at].mean():.3f} nats a token")
    columns[1].locator(".surprise-token").nth(5).hover()
    expect_told(columns[1], tiny_checkpoint, at, 5)
    name, svg = visitor.download("passage", "Download this figure as SVG")
    assert name == "passage.svg" and ElementTree.fromstring(svg).tag.endswith("svg")


def test_it_follows_the_model_in_use(visitor, passage, tiny_checkpoint):
    short = replace(tiny_checkpoint, name="Short", life=tiny_checkpoint.life.until(1))  # two snapshots
    visitor.use(short)
    visitor.open("Evaluate")
    expect(passage).to_have_attribute("data-places", "0,,1")
    expect(passage.locator(".pv-column").nth(1)).to_be_hidden()
    expect(passage.locator(".pv-about").nth(2)).to_contain_text("step 1 of 1: ")
    visitor.download("passage", "Download this figure as PNG")
    life = tiny_checkpoint.life
    n = (len(life.steps), 0)
    none = {"losses": torch.empty(n), "guesses": torch.empty(n, dtype=torch.int32), "guess_probs": torch.empty(n)}
    for without in (replace(life, passage=(), **none), None):
        visitor.use(replace(tiny_checkpoint, name=f"Without {without is None}", life=without))
        visitor.open("Evaluate")
        expect(passage.locator(".look-note")).to_contain_text("brings no passage from its training")
        expect(passage.locator(".look-body")).to_be_hidden()
