"""What each tab does, with models so small that a run takes a moment."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import torch
from playwright.sync_api import expect

from playground.ablation import switch_off, unmask
from playground.checkpoint import to_bytes
from playground.config import PRESETS
from playground.corpus import Corpus, built_in, reference_losses, split
from playground.evaluation import evaluate
from playground.generation import Sampling, next_logits, stream_generate
from playground.heads import head_scores
from playground.inspection import head_stages, inspect, logit_lens
from playground.model import GPT
from playground.tokenizer import train_tokenizer

pytestmark = pytest.mark.browser

TAIL = 'said "Come in," and slept'  # a prompt that the verses' model knows; longer than its context of 16
MARKUP = '<img src=x onerror="window.pwned=1"><b>bold'

# Notes what is written on canvases, where no test could read it otherwise.
WATCH_CANVAS = """() => {
  window.drawn = [];
  const fillText = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
    window.drawn.push(text);
    return fillText.call(this, text, ...place);
  };
}"""


# --- The first second


def test_every_tab_shows_the_shipped_model_before_anything_is_done(visitor, shipped):
    visitor.expect_model(shipped.name)
    assert int(visitor.fact("chart", "points")) == len(shipped.history)
    expect(visitor.own("chart").locator(".sample-text")).to_have_text(shipped.history[-1].sample)

    visitor.open("Tokenizer")
    expect(visitor.at("tokens").locator(".view.current")).to_be_visible()
    text = visitor.at("tokenizer-text").locator("textarea").input_value()
    assert text
    assert visitor.tokens() == shipped.tokenizer.encode(text)

    visitor.open("Attention")
    prompt = visitor.at("attention-prompt").locator("textarea").input_value()
    expect(visitor.own("heads")).to_have_attribute("data-tokens", str(len(shipped.tokenizer.encode(prompt))))
    expect(visitor.own("heads").locator(".am-thumb")).to_have_count(shipped.config.n_layer * shipped.config.n_head)
    expect(visitor.own("heads")).to_have_attribute("data-painted", re.compile("[1-9]"))

    visitor.open("Generate")
    visitor.expect_bars(shipped, visitor.at("prompt").locator("textarea").input_value(), Sampling(0.8))

    visitor.open("Checkpoints")
    expect(visitor.at("checkpoint-facts")).to_contain_text(shipped.name)
    expect(visitor.at("checkpoint-facts")).to_contain_text(f"{shipped.config.n_params:,}")


# --- Train


@pytest.mark.parametrize("name", ["tiny", "classic", "modern"])
def test_a_preset_fills_the_controls(visitor, name):
    recipe = PRESETS[name]
    visitor.unfold("model-settings")
    visitor.unfold("training-settings")
    visitor.choose("preset", recipe.title)
    numbers = {"n_layer", "n_head", "n_embd", "block_size", "dropout"} & set(vars(recipe.model))
    for setting in numbers:
        field = visitor.at(setting).locator("input[type=number]")
        expect(field).to_have_value(f"{getattr(recipe.model, setting):g}")
    for setting in ("max_iters", "batch_size", "learning_rate", "min_lr", "warmup_iters", "eval_interval"):
        field = visitor.at(setting).locator("input[type=number]")
        expect(field).to_have_value(f"{getattr(recipe.train, setting):g}")
    for setting, value in {
        "tokenizer": recipe.tokenizer,
        "position": recipe.model.position,
        "norm": recipe.model.norm,
        "activation": recipe.model.activation,
        "optimizer": recipe.train.optimizer,
    }.items():
        expect(visitor.at(setting).locator("input:checked")).to_have_value(value)
    for setting in ("bias", "qk_norm"):
        expect(visitor.at(setting).get_by_role("checkbox")).to_be_checked(checked=getattr(recipe.model, setting))

    expect(visitor.at("preset").get_by_role("radio", name="Custom")).not_to_be_checked()
    visitor.fill("max_iters", 123)
    expect(visitor.at("preset").get_by_role("radio", name="Custom")).to_be_checked()


def test_an_impossible_setting_is_told_at_its_control(visitor):
    visitor.unfold("model-settings")
    expect(visitor.at("plan-facts")).to_contain_text("parameters")
    visitor.fill("n_head", 5)
    expect(visitor.at("n_head")).to_contain_text("an embedding of 128 cannot be cut into 5 equal heads: choose 2 or 4")
    expect(visitor.at("n_head")).to_have_class(re.compile(r"\bproblem\b"))
    expect(visitor.at("plan-facts").locator(".facts")).to_be_hidden()
    visitor.start()
    visitor.expect_message("an embedding of 128 cannot be cut into 5 equal heads")
    visitor.expect_state("finished")

    visitor.fill("n_head", 4)
    expect(visitor.at("n_head")).not_to_have_class(re.compile(r"\bproblem\b"))
    expect(visitor.at("plan-facts")).to_contain_text("parameters")


def test_cost_is_told_before_the_start(visitor):
    vocab_size = len(set(split(built_in("stories").text)[0])) + 1
    model = GPT(replace(PRESETS["small"].model, vocab_size=vocab_size))
    n_params = sum(p.numel() for p in model.parameters())
    plan = visitor.at("plan-facts")
    expect(plan).to_contain_text(f"parameters{n_params:,}")
    expect(plan).to_contain_text(re.compile(r"memoryabout [\d,]+ MB"))
    expect(plan).to_contain_text(re.compile(r"timeabout .*\d+ (s|min)"))
    visitor.choose("preset", "Tiny, 5 seconds")
    expect(plan).not_to_contain_text(f"{n_params:,}")
    expect(plan).to_contain_text("tokens to see230,400")  # 400 steps of 12 rows of 48


def test_built_in_text_and_what_a_run_shows(visitor):
    visitor.at("built-in").get_by_role("combobox").click()
    visitor.page.get_by_role("option", name=re.compile("[Bb]racket")).click()
    expect(visitor.at("text-facts").locator(".note")).not_to_be_empty()
    visitor.set_up(**visitor.TINY)
    visitor.start()
    chart = visitor.own("chart")
    expect(chart.locator(".name")).to_have_text(re.compile("[Bb]racket"))
    visitor.expect_state("finished")
    expect(chart.locator(".step")).to_have_text("40 / 40")
    for tile in ("train", "val", "perplexity", "speed", "norm", "rate", "time"):
        expect(chart.locator(f"dd.{tile}")).to_have_text(re.compile(r"\d"))
    expect(chart.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "40")
    expect(chart.locator(".sample-step")).to_have_text("step 40")
    expect(chart.locator(".sample-text")).to_have_text(re.compile(r"[()\[\]{}<>]"))

    chart.locator(".sample-head input").focus()
    visitor.page.keyboard.press("Home")
    expect(chart.locator(".sample-step")).to_have_text("step 1")
    canvas = chart.locator("canvas")
    canvas.hover(position={"x": 200, "y": 100})
    expect(chart.locator(".readout")).to_contain_text(re.compile(r"step \d+.*training \d\.\d{3}.*validation \d\.\d{3}"))
    chart.get_by_role("button", name="log x").click()
    expect(chart.get_by_role("button", name="log x")).to_have_attribute("aria-pressed", "true")


def test_reference_lines_are_those_of_the_text(visitor, small_text):
    visitor.page.evaluate(WATCH_CANVAS)
    visitor.train(small_text.text)
    tokenizer = train_tokenizer("char", small_text.text[: int(0.9 * len(small_text.text))], 0)
    references = reference_losses(Corpus.build(small_text, tokenizer, 16), tokenizer.vocab_size)
    drawn = visitor.page.evaluate("window.drawn")
    assert f"uniform: ln V = {references.uniform:.2f}" in drawn
    assert f"unigram {references.unigram:.2f}" in drawn


def test_logarithmic_axes(visitor):
    visitor.page.evaluate(WATCH_CANVAS)
    chart = visitor.own("chart")
    chart.get_by_role("button", name="log x").click()
    visitor.until(lambda: {"1", "10", "100"} <= set(visitor.page.evaluate("window.drawn")), "the steps stand at powers")
    chart.get_by_role("button", name="log y").click()
    expect(chart.get_by_role("button", name="log y")).to_have_attribute("aria-pressed", "true")


def test_a_page_keeps_few_points_of_a_long_run(visitor, small_text):
    """Whether it was open all the time, or comes when the run is over."""
    visitor.paste_text(small_text.text)
    visitor.set_up(**(visitor.TINY | {"max_iters": 4_500, "eval_interval": 500}))
    visitor.start()
    visitor.until(lambda: int(visitor.fact("chart", "step") or 0) == 4_500, "the last step", timeout=120_000)
    visitor.expect_state("finished", timeout=120_000)
    assert 1_000 < int(visitor.fact("chart", "points")) < 4_000
    losses = [visitor.own("chart").locator(f"dd.{tile}").inner_text() for tile in ("train", "val")]
    expect(visitor.own("chart").locator(".sample-head input")).to_have_attribute("max", "9")  # all evaluations

    visitor.reload()
    visitor.expect_state("finished")
    expect(visitor.own("chart").locator(".step")).to_have_text("4,500 / 4,500")
    assert 1_000 < int(visitor.fact("chart", "points")) <= 2_000
    assert losses == [visitor.own("chart").locator(f"dd.{tile}").inner_text() for tile in ("train", "val")]
    expect(visitor.own("chart").locator(".sample-head input")).to_have_attribute("max", "9")


def test_earlier_runs_stand_on_the_same_plot(visitor, small_text):
    visitor.train(small_text.text)
    visitor.train(small_text.text, learning_rate=0.01)
    visitor.expect_model("The pasted text (2)")
    earlier = visitor.own("chart").locator(".others").get_by_role("button", name="The pasted text", exact=True)
    expect(earlier).to_have_attribute("aria-pressed", "true")
    earlier.click()
    expect(earlier).to_have_attribute("aria-pressed", "false")


def test_the_learning_rate_changes_while_it_runs_and_stop_hands_over(visitor, small_text):
    visitor.open("Train")
    visitor.paste_text(small_text.text)
    visitor.set_up(**visitor.TINY | {"max_iters": 100_000, "warmup_iters": 0, "learning_rate": 0.01})
    visitor.start()
    visitor.expect_state("running")
    visitor.until(lambda: int(visitor.fact("chart", "points")) > 20, "twenty steps were done")
    visitor.fill("rate", -3)
    visitor.page.get_by_role("button", name="Change").click()
    visitor.expect_message("The learning rate must be a number from 0.000001 to 10")
    visitor.fill("rate", 0.002)
    visitor.page.get_by_role("button", name="Change").click()
    visitor.expect_message("The next step is taken with a learning rate of 0.002.")
    expect(visitor.own("chart").locator(".rate")).to_have_text(re.compile(r"0\.0019|0\.002"))
    visitor.page.get_by_role("button", name="Stop", exact=True).click()
    visitor.expect_state("stopped")
    visitor.expect_model("The pasted text")

    _, checkpoint = visitor.download_checkpoint()
    rates = [step.learning_rate for step in checkpoint.history]
    assert rates[10] == pytest.approx(0.01, rel=0.01)
    assert rates[-1] == pytest.approx(0.002, rel=0.1)
    assert 20 < checkpoint.step < 100_000


def test_fine_tuning_goes_on_from_the_model_in_use(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Train")
    visitor.paste_text("The geese hissed at the miller, and the cat slept on the shelf.\n" * 20)
    visitor.fine_tune()
    visitor.set_up(eval_interval=10, max_iters=20, batch_size=4, learning_rate=0.001)
    expect(visitor.at("n_layer")).not_to_be_visible()  # the shape stays
    expect(visitor.at("plan-facts")).to_contain_text("goes on fromVerses")
    expect(visitor.at("plan-facts")).to_contain_text(f"parameters{tiny_checkpoint.config.n_params:,}")
    visitor.start()
    visitor.expect_model("Verses → The pasted text")

    _, tuned = visitor.download_checkpoint()
    assert tuned.tokenizer.to_dict() == tiny_checkpoint.tokenizer.to_dict()
    assert tuned.config.n_layer == tiny_checkpoint.config.n_layer
    assert [text.name for text in tuned.provenance] == ["verses.txt", "The pasted text"]
    # 20 small steps away from where it began, not anywhere else
    for name, weight in tiny_checkpoint.weights.items():
        assert 0 < (tuned.weights[name] - weight).norm() < 0.2 * weight.norm(), name


# --- Tokenizer


def test_pointing_at_a_token_lights_its_id(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Tokenizer")
    visitor.fill("tokenizer-text", "a goose")
    view = visitor.at("tokens").locator(".view.current")
    texts, ids = view.locator(".text .token"), view.locator(".ids .token")
    expect(texts).to_have_text(["a", "·", "g", "o", "o", "s", "e"])
    texts.nth(3).hover()
    expect(texts.nth(3)).to_have_class(re.compile(r"\blit\b"))
    expect(ids.nth(3)).to_have_class(re.compile(r"\blit\b"))
    expect(ids.nth(4)).to_have_class(re.compile(r"\bsame\b"))
    expect(view.locator(".lit")).to_have_count(2)
    o = tiny_checkpoint.tokenizer.encode("o")[0]
    expect(view.locator(".readout")).to_contain_text(f"token 4 of 7 · id {o}")
    ids.nth(0).hover()
    expect(texts.nth(0)).to_have_class(re.compile(r"\blit\b"))


def test_unknown_characters_are_shown_and_markup_is_text(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Tokenizer")
    text = f"geese☃{MARKUP}"
    visitor.fill("tokenizer-text", text)
    own, words, pairs = visitor.at("tokens").locator(".view").all()
    expect(own.locator(".text .token").nth(5)).to_have_text("☃")
    expect(own.locator(".text .token").nth(5)).to_have_class(re.compile(r"\bunknown\b"))
    unknown = tiny_checkpoint.tokenizer.unk_id
    assert visitor.tokens() == tiny_checkpoint.tokenizer.encode(text)
    expect(own.locator(".counts")).to_contain_text(f"{visitor.tokens().count(unknown)} unknown")
    assert "".join(own.locator(".text .token").all_text_contents()).replace("·", " ") == text
    assert words.locator(".unknown").count() > 0
    assert pairs.locator(".unknown").count() == 0  # byte-pair knows every byte
    assert pairs.locator(".bytes").count() > 0
    visitor.expect_nothing_run()


def test_vocabulary_can_be_searched(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Tokenizer")
    visitor.unfold("vocabulary-section")
    tokenizer = tiny_checkpoint.tokenizer
    rows = table_rows(visitor, "vocabulary")
    expect(rows.first.get_by_role("gridcell")).to_have_text(["0", "↵"])
    visitor.at("vocabulary").get_by_placeholder("Search...").fill("m")
    expect(rows).to_have_count(1)
    expect(rows.get_by_role("gridcell")).to_have_text([str(tokenizer.encode("m")[0]), "m"])


def test_merges_stand_in_the_order_they_were_learned(visitor, bpe_checkpoint):
    visitor.use(bpe_checkpoint)
    visitor.open("Tokenizer")
    visitor.unfold("merges-section")
    tokenizer = bpe_checkpoint.tokenizer
    rows = table_rows(visitor, "merges")
    for order, (left, right) in enumerate(tokenizer.merges[:3]):
        texts = [tokenizer.token_text(i).replace(" ", "·") for i in (left, right, 256 + order)]
        expect(rows.nth(order).get_by_role("gridcell")).to_have_text([str(order + 1), *texts, str(256 + order)])


def table_rows(visitor, elem_id: str):
    """The rows of a table in view, without its head."""
    return visitor.at(elem_id).get_by_role("row").filter(has=visitor.page.get_by_role("gridcell"))


# --- Attention


def show_attention(visitor, prompt: str) -> None:
    visitor.open("Attention")
    visitor.fill("attention-prompt", prompt)
    visitor.page.get_by_role("button", name="Show attention").click()


def test_keyboard_moves_through_cells_and_heads(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    heads, readout = visitor.own("heads"), visitor.own("heads").locator(".am-readout")
    expect(heads).to_have_attribute("data-tokens", "9")
    weights = inspect(tiny_checkpoint, "the goose").attention  # (2, 2, 9, 9)

    def expect_cell(query: int, key: int) -> None:
        expect(readout).to_have_attribute("data-query", str(query))
        expect(readout).to_have_attribute("data-key", str(key))
        assert float(readout.get_attribute("data-weight")) == pytest.approx(weights[0, 0, query, key], abs=1e-5)

    heads.locator(".am-light").focus()
    expect_cell(8, 8)
    visitor.page.keyboard.press("ArrowLeft")
    visitor.page.keyboard.press("ArrowLeft")
    expect_cell(8, 6)
    visitor.page.keyboard.press("ArrowUp")
    expect_cell(7, 6)

    heads.get_by_role("button", name="Layer 1, Head 1", exact=True).focus()
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.keyboard.press("ArrowDown")
    expect(heads.get_by_role("button", name="Layer 2, Head 2", exact=True)).to_be_focused()
    expect(heads).to_have_attribute("data-shown", "1,1")
    expect(heads).to_have_attribute("data-locked", "0,0")
    visitor.page.keyboard.press("Enter")
    expect(heads).to_have_attribute("data-locked", "1,1")


def test_hover_previews_a_head_and_leaves_the_locked_one(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    heads = visitor.own("heads")
    expect(heads).to_have_attribute("data-tokens", "9")
    heads.get_by_role("button", name="Layer 2, Head 1", exact=True).hover()
    expect(heads).to_have_attribute("data-shown", "1,0")
    expect(heads.locator(".am-preview")).to_have_text("preview: Layer 2, Head 1")
    visitor.page.mouse.move(0, 0)
    expect(heads).to_have_attribute("data-shown", "0,0")
    expect(heads).to_have_attribute("data-locked", "0,0")


def test_pointing_at_a_token_colours_those_it_attends_to(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    strip, readout = visitor.own("heads").locator(".am-token"), visitor.own("heads").locator(".am-readout")
    expect(strip).to_have_text(["t", "h", "e", "·", "g", "o", "o", "s", "e"])
    strip.nth(4).hover()
    expect(readout).to_have_attribute("data-query", "4")
    weights = inspect(tiny_checkpoint, "the goose").attention[0, 0, 4]  # (9,)
    for key in range(5):
        expect(strip.nth(key)).to_have_attribute("title", re.compile(f"weight {weights[key]:.3f}"))
    colours = [token.evaluate("token => token.style.background") for token in strip.all()]
    assert all(colours[:5])
    assert len(set(colours[:5])) > 1
    assert not any(colours[5:])
    expect(strip.nth(5)).to_have_class(re.compile(r"\bam-future\b"))


def test_selectors_choose_a_head_or_an_average(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    heads = visitor.own("heads")
    expect(heads).to_have_attribute("data-tokens", "9")
    weights = inspect(tiny_checkpoint, "the goose").attention  # (2, 2, 9, 9)
    choices = [
        ("Layer 2", "Head 2", "1,1", weights[1, 1]),
        ("Layer 2", "Average of heads", "1,-1", weights[1].mean(0)),
        ("Average of layers", None, "-1,-1", weights.mean((0, 1))),
    ]
    for layer, head, locked, expected in choices:
        heads.get_by_label("Layer", exact=True).select_option(layer)
        if head:
            heads.get_by_label("Head", exact=True).select_option(head)
        expect(heads).to_have_attribute("data-locked", locked)
        expect(heads).to_have_attribute("data-shown", locked)
        query, key, weight = visitor.hover_cell(0.5, 0.9)
        assert weight == pytest.approx(expected[query, key], abs=1e-5)


def unfold_part(visitor, part: str):
    section = visitor.own(part)
    section.locator("summary").click()
    return section


def test_a_head_is_shown_step_by_step(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    steps = unfold_part(visitor, "stages")
    expect(steps).to_have_attribute("data-query", "8")
    expect(steps).to_contain_text("(9 × 8) · (8 × 9) = 9 × 9")

    visitor.own("heads").get_by_role("button", name="Layer 2, Head 1", exact=True).click()
    expect(steps.locator(".hs-title")).to_have_text("Layer 2, Head 1")
    steps.get_by_label("Query token").select_option("5 g")
    expect(steps).to_have_attribute("data-query", "4")
    stages = head_stages(tiny_checkpoint, tiny_checkpoint.tokenizer.encode("the goose"), 1, 0)
    rows = steps.locator("tbody tr")
    for key in range(9):
        cells = rows.nth(key).locator("td").all_text_contents()
        _, score, scaled, masked, weight, _ = (text.replace("−", "-") for text in cells)
        assert float(score) == pytest.approx(stages.scores[4, key], abs=1e-3)
        assert float(scaled) == pytest.approx(stages.scaled[4, key], abs=1e-3)
        assert masked == (scaled if key <= 4 else "-∞")
        assert float(weight) == pytest.approx(stages.weights[4, key], abs=1e-4)

    rows.nth(2).get_by_role("button").click()
    told = steps.locator(".hs-numbers span").all_text_contents()
    for line, vector in zip(told, (stages.query[4], stages.key[2], stages.value[2]), strict=True):
        numbers = [float(number.replace("−", "-")) for number in line.split()[-8:]]
        assert numbers == pytest.approx(list(vector), abs=1e-3)

    visitor.own("heads").get_by_label("Head", exact=True).select_option("Average of heads")
    expect(steps.locator(".look-note")).to_have_text("An average has no steps of its own: choose one head.")


def lens_after_third_token(visitor, checkpoint):
    """The residual stream's part of the page, on the third token of "the goose"."""
    visitor.use(checkpoint)
    show_attention(visitor, "the goose")
    lens = unfold_part(visitor, "lens")
    expect(lens).to_have_attribute("data-position", "8")
    lens.get_by_label("After token").select_option("3 e")
    expect(lens).to_have_attribute("data-position", "2")
    return lens


def test_the_stream_is_read_after_each_layer(visitor, tiny_checkpoint):
    lens = lens_after_third_token(visitor, tiny_checkpoint)
    ids = tiny_checkpoint.tokenizer.encode("the goose")
    expected = logit_lens(tiny_checkpoint, ids, 2)
    expect(lens.locator(".ll-places th")).to_have_text(
        ["Embedding", "Layer 1 attention", "Layer 1 MLP", "Layer 2 attention", "Layer 2 MLP"]
    )
    for place, words in enumerate(lens.locator(".ll-places tr").all()):
        percents = [f"{100 * p:.1f} %" for p in expected.top_probs[place]]
        assert [text.split(maxsplit=1)[1] for text in words.locator(".ll-word").all_text_contents()] == percents


def test_heads_are_sorted_by_what_they_are_for(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    table, scores = unfold_part(visitor, "scores"), head_scores(tiny_checkpoint.model)
    names = table.locator("tbody th")
    expect(names).to_have_text([f"Layer {i}, Head {j}" for i in (1, 2) for j in (1, 2)])
    table.get_by_role("button", name="reach, tokens").click()
    order = np.argsort(-scores.reach.ravel())
    expect(names).to_have_text([f"Layer {i // 2 + 1}, Head {i % 2 + 1}" for i in order])
    expect(table.locator("tbody tr").first.locator("td").last).to_have_text(f"{scores.reach.max():.1f}")
    badges = [scores.badge(layer, head) for layer in range(2) for head in range(2)]
    assert set(badges) - {""}
    for badge in set(badges) - {""}:
        table.get_by_label("Show").select_option(f"{badge} heads")
        expect(table.locator("tbody .ht-badge")).to_have_text([badge] * badges.count(badge))

    second = table.get_by_role("button", name="Layer 2, Head 1", exact=True)
    table.get_by_label("Show").select_option("all heads")
    second.click()
    expect(visitor.own("heads")).to_have_attribute("data-locked", "1,0")
    expect(visitor.own("heads")).to_have_attribute("data-shown", "1,0")


def test_the_grid_of_heads_is_sorted_and_filtered_by_badge(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    heads, scores = visitor.own("heads"), head_scores(tiny_checkpoint.model)
    badges = {(layer, head): scores.badge(layer, head) for layer in range(2) for head in range(2)}
    expect(heads.locator(".am-badge")).to_have_text(list(badges.values()))
    chosen = next(filter(None, badges.values()))
    heads.get_by_label("Which heads").select_option("all, by badge")
    in_order = sorted(badges, key=lambda place: (badges[place] or "z", place))
    expect(heads.locator(".am-badge")).to_have_text(
        [re.compile(rf"^{layer + 1}\.{head + 1} {badges[layer, head]}\s*$") for layer, head in in_order]
    )
    heads.get_by_label("Which heads").select_option(
        f"{chosen} heads ({sum(badge == chosen for badge in badges.values())})"
    )
    alike = [place for place in badges if badges[place] == chosen]
    names = [f"Layer {layer + 1}, Head {head + 1}" for layer, head in alike]
    assert [thumb.get_attribute("aria-label") for thumb in heads.locator(".am-thumb").all()] == names
    heads.locator(".am-thumb").last.click()
    expect(heads).to_have_attribute("data-locked", "{},{}".format(*alike[-1]))
    show_attention(visitor, "a goose")  # and so it stays with another prompt
    expect(heads).to_have_attribute("data-tokens", "7")
    expect(heads.locator(".am-thumb")).to_have_count(len(alike))


def test_heads_and_mlps_are_switched_off(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    switches = unfold_part(visitor, "switches")
    loss, before = switches.locator(".sw-loss"), evaluate(tiny_checkpoint, "the goose").loss
    expect(loss).to_have_text(f"{before:.3f}")
    expect(switches.locator(".sw-where")).to_have_text(
        "nats a token, over 8 tokens of the prompt, since the text it has learned from is not here"
    )
    expect(switches.get_by_role("button", name="Write with and without")).to_be_disabled()

    parts = switches.locator(".sw-part")
    for name, i in (("Head 2", 1), ("MLP", 2)):  # of the first layer
        expect(parts.nth(i)).to_contain_text(name)
        parts.nth(i).click()
    expect(switches).to_have_attribute("data-off", "0,-1 0,1")
    changed = switch_off(tiny_checkpoint, [(0, 1)], [0])
    rise = evaluate(changed, "the goose").loss - before
    sign = "+" if rise > 0 else "−"
    expect(loss).to_have_text(f"{before:.3f} → {before + rise:.3f} ({sign}{abs(rise):.3f})")
    ids = tiny_checkpoint.tokenizer.encode("the goose")
    probs = [next_logits(checkpoint.model, ids).softmax(-1) for checkpoint in (tiny_checkpoint, changed)]
    likeliest = switches.locator(".sw-next tbody tr").first.locator("td")
    best = probs[0].argmax()
    expect(likeliest).to_have_text([f"{100 * p[best]:.1f} %" for p in probs])

    switches.get_by_role("button", name="Write with and without").click()
    written = [
        "".join(step.text for step in stream_generate(checkpoint, "the goose", 120, Sampling(0.8), 0))
        for checkpoint in (tiny_checkpoint, changed)
    ]
    expect(switches.locator(".sw-text").first).to_be_visible()
    assert switches.locator(".sw-text").all_text_contents() == written

    switches.get_by_role("button", name="Measure each alone").click()
    expect(switches.locator(".sw-told")).to_contain_text("Most is lost without")
    expected = [switch_off(tiny_checkpoint, [(layer, head)]) for layer in (0, 1) for head in (0, 1)]
    expected[2:2], expected[5:] = [switch_off(tiny_checkpoint, [], [0])], [switch_off(tiny_checkpoint, [], [1])]
    for part, checkpoint in zip(parts.all(), expected, strict=True):
        shown = float(part.locator("small").inner_text().replace("−", "-"))
        assert shown == pytest.approx(evaluate(checkpoint, "the goose").loss - before, abs=6e-4)
    name, svg = visitor.download("switches", "Download this figure as SVG")
    assert name == "switched-off.svg" and ElementTree.fromstring(svg).tag.endswith("svg")
    switches.get_by_role("button", name="Switch all on").click()
    expect(switches).to_have_attribute("data-off", "")
    expect(loss).to_have_text(f"{before:.3f}")


@pytest.fixture
def mask(visitor, tiny_checkpoint):
    """The mask's part of the page, on "the goose" and the first head of the second layer."""
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the goose")
    part = unfold_part(visitor, "mask")
    visitor.own("heads").get_by_role("button", name="Layer 2, Head 1", exact=True).click()
    expect(part.locator(".mv-head")).to_have_text(["Layer 2, Head 1"] * 2)
    return part


def test_the_mask_is_taken_away(mask, tiny_checkpoint):
    free = unmask(tiny_checkpoint)
    before, after = (evaluate(checkpoint, "the goose").loss for checkpoint in (tiny_checkpoint, free))
    expect(mask.locator(".mv-loss")).to_contain_text(f"Loss {before:.3f} → {after:.3f} nats a token")
    weights = inspect(free, "the goose").attention[1, 0]  # (9, 9)
    mask.get_by_label("Query token").select_option("3 e")
    most = np.argsort(-weights[2], kind="stable")[:3]
    told = ", ".join(f"{key + 1} {'the·goose'[key]} {weights[2, key]:.3f}" for key in most)
    expect(mask.locator(".mv-row")).to_contain_text(f"Without it it attends most to {told}.")
    share = np.triu(weights, 1).sum() / 9
    expect(mask.locator(".mv-loss")).to_contain_text(f"{100 * share:.1f} % goes to what comes later")


def test_every_cell_of_the_mask_can_be_read_with_the_keyboard(visitor, mask, tiny_checkpoint):
    before, after = (inspect(c, "the goose").attention[1, 0] for c in (tiny_checkpoint, unmask(tiny_checkpoint)))
    frames = mask.locator(".look-cell")
    expect(frames.filter(visible=True)).to_have_count(0)
    mask.locator(".mv-before").focus()
    for key, (query, seen), place in (
        ("Shift", (8, 8), "query 9 e → key 9 e may be seen."),
        ("ArrowLeft", (8, 7), "query 9 e → key 8 s may be seen."),
        ("ArrowUp", (7, 7), "query 8 s → key 8 s may be seen."),
        ("ArrowRight", (7, 8), "query 8 s → key 9 e is hidden by the mask."),
    ):
        visitor.page.keyboard.press(key)
        numbers = f"Weight {before[query, seen]:.3f} with the mask, {after[query, seen]:.3f} without."
        expect(mask.locator(".mv-cell")).to_have_text(f"{place} {numbers}")
        expect(frames.filter(visible=True)).to_have_count(3)  # one in each map
    mask.locator(".mv-after").hover(position={"x": 2, "y": 2})
    expect(mask.locator(".mv-cell")).to_contain_text("query 1 t → key 1 t may be seen. Weight 1.000 with the mask")


@pytest.mark.parametrize("part", ["mask", "embeddings", "stages", "lens"])
def test_figures_of_the_parts_can_be_downloaded(visitor, tiny_checkpoint, part):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the $goose$ & <cat>")
    expect(visitor.own("heads")).to_have_attribute("data-tokens", "16")
    unfold_part(visitor, part)
    name, png = visitor.download(part, "Download this figure as PNG")
    assert name.endswith(".png") and png.startswith(b"\x89PNG")
    name, svg = visitor.download(part, "Download this figure as SVG")
    assert name.endswith(".svg") and ElementTree.fromstring(svg).tag.endswith("svg")


def test_figures_can_be_downloaded(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, "the $goose$ & <cat>")
    expect(visitor.own("heads")).to_have_attribute("data-tokens", "16")
    visitor.own("heads").get_by_role("button", name="Layer 2, Head 1", exact=True).click()
    expect(visitor.own("heads")).to_have_attribute("data-locked", "1,0")
    name, png = visitor.download("figure", "Download as PNG")
    assert name == "attention-layer2-head1.png"
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    assert min(width, height) > 600  # pixels
    name, svg = visitor.download("figure", "Download as SVG")
    assert name == "attention-layer2-head1.svg"
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"


def test_markup_in_a_prompt_is_text(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    show_attention(visitor, f"the cat {MARKUP}"[:16])
    expect(visitor.own("heads").locator(".am-token")).to_have_text(list("the·cat·<img·src"))
    visitor.open("Generate")
    visitor.fill("prompt", f"the cat {MARKUP}")
    expect(visitor.own("next-token").locator(".prompt")).to_contain_text('<img·src=x·onerror="window.pwned=1">')
    visitor.fill("length", 20)
    visitor.at("generate").click()
    visitor.until(lambda: len(visitor.generated()) == len(f"the cat {MARKUP}") + 20, "the text is whole")
    assert visitor.generated().startswith(f"the cat {MARKUP}")
    visitor.expect_nothing_run()


# --- Generate


def test_bars_follow_the_settings_without_the_server(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Generate")
    visitor.fill("prompt", "the goose ")
    visitor.expect_bars(tiny_checkpoint, "the goose ", Sampling(0.8))
    requests = []
    visitor.page.on("request", lambda request: requests.append(request.url))
    visitor.fill("temperature", 1.5)
    visitor.expect_bars(tiny_checkpoint, "the goose ", Sampling(1.5))
    visitor.fill("top-k", 4)
    visitor.expect_bars(tiny_checkpoint, "the goose ", Sampling(1.5, top_k=4))
    visitor.fill("top-k", 0)
    visitor.fill("top-p", 0.5)
    visitor.expect_bars(tiny_checkpoint, "the goose ", Sampling(1.5, top_p=0.5))
    visitor.fill("temperature", 0)
    visitor.expect_bars(tiny_checkpoint, "the goose ", Sampling(0))
    assert requests == []


def test_stop_stops(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Generate")
    visitor.fill("prompt", "the goose ")
    visitor.fill("length", 5000)
    visitor.at("generate").click()
    visitor.until(lambda: len(visitor.generated()) > 60, "it writes")
    visitor.own("generated").get_by_role("button", name="Stop").click()
    lengths = []

    def still() -> bool:
        lengths.append(len(visitor.generated()))
        return len(lengths) > 10 and len(set(lengths[-10:])) == 1  # for half a second

    visitor.until(still, "the text stands still")
    assert lengths[-1] < 5000


def test_generation_goes_on_past_the_context(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Generate")
    visitor.fill("prompt", TAIL)
    visitor.fill("length", 100)
    visitor.fill("sampling-seed", 3)
    visitor.at("generate").click()
    expected = TAIL + "".join(step.text for step in stream_generate(tiny_checkpoint, TAIL, 100, Sampling(0.8), 3))
    visitor.until(lambda: visitor.generated() == expected, "it wrote what Python writes")


# --- Checkpoints


def test_save_list_use_download_upload(visitor, tiny_checkpoint, shipped):
    visitor.use(tiny_checkpoint)
    name = visitor.at("name").locator("textarea, input")
    name.fill(MARKUP)
    visitor.at("name").get_by_role("button", name="Save").click()
    visitor.expect_model(MARKUP)
    expect(name).to_have_value("")
    listed = visitor.at("checkpoints").locator("label")
    expect(listed).to_have_text([shipped.name, "Verses", f"{MARKUP} (in use)"])
    expect(visitor.at("checkpoint-facts").locator(".title")).to_have_text(MARKUP)
    expect(visitor.at("checkpoint-facts")).to_contain_text("verses.txt")

    visitor.choose("checkpoints", shipped.name)
    expect(visitor.at("checkpoint-facts").locator(".title")).to_have_text(shipped.name)
    visitor.expect_model(MARKUP)  # until it is asked for
    visitor.page.get_by_role("button", name="Use this checkpoint").click()
    visitor.expect_model(shipped.name)

    visitor.choose("checkpoints", MARKUP)
    expect(visitor.at("checkpoint-facts").locator(".title")).to_have_text(MARKUP)
    file_name, data = visitor.download("download", "Download this checkpoint")
    assert re.fullmatch(r"[\w.-]+\.safetensors", file_name)
    visitor.upload_checkpoint(data, "<b>name<b>.safetensors")
    visitor.expect_model(f"{MARKUP} (2)")
    visitor.page.get_by_role("tab", name="Train").click()
    expect(visitor.own("chart").locator(".name")).to_have_text(f"{MARKUP} (2)")
    visitor.expect_nothing_run()


def test_a_checkpoint_comes_back_bit_for_bit(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    data, back = visitor.download_checkpoint()
    assert data == to_bytes(tiny_checkpoint)
    assert back.history == tiny_checkpoint.history
    assert all(torch.equal(back.weights[name], weight) for name, weight in tiny_checkpoint.weights.items())
