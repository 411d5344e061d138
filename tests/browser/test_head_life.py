"""A head's life in the page: what was kept while a run went on is scrubbed through, played, and moves with the rest."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from playwright.sync_api import expect

from playground.checkpoint import Checkpoint
from playground.config import ModelConfig, Recipe, TrainConfig
from playground.corpus import Text
from playground.generation import write_sample
from playground.life import snapshot_steps
from playground.training import make_trainer, train

pytestmark = pytest.mark.browser

STEPS = 240
TOKENS = 4 * 16  # in a step of the smallest run

# The colour of a pixel of a canvas, and which of the 256 levels of weights has it: what the page drew, read back.
DRAWN = """(canvas) => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return {side: canvas.width, pixels: Array.from(pixels)};
}"""


@pytest.fixture(scope="module")
def watched(small_text: Text) -> Checkpoint:
    """A model whose heads were watched while it learned."""
    model = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=16)
    settings = TrainConfig(max_iters=STEPS, batch_size=4, eval_interval=60)
    recipe = Recipe("Test", "char", 300, model, settings, probe="the goose")
    trainer = make_trainer(small_text, recipe, sampler=write_sample, device="cpu")
    for _ in train(trainer):
        pass
    return trainer.checkpoint("Watched", trainer.val_loss())


@pytest.fixture
def life(visitor, watched):
    """The part of the page, and the snapshots of the model that it shows."""
    visitor.use(watched)
    visitor.open("Train")
    expect(visitor.own("life")).to_have_attribute("data-snapshots", str(len(watched.life.steps)))
    return visitor.own("life"), watched.life


def test_a_run_is_watched_while_it_goes_on(visitor, small_text):
    visitor.paste_text(small_text.text)
    visitor.set_up(**(visitor.TINY | {"n_layer": 2, "max_iters": STEPS, "eval_interval": 60}))
    visitor.fill("probe", "the goose")
    visitor.start()
    expect(visitor.own("life").locator(".hl-tokens")).to_have_text("the·goose")
    visitor.expect_state("finished")
    visitor.expect_model("The pasted text")
    steps = snapshot_steps(STEPS, TOKENS)
    expect(visitor.own("life")).to_have_attribute("data-snapshots", str(len(steps)))
    _, checkpoint = visitor.download_checkpoint()
    assert checkpoint.life.steps == steps
    visitor.open("Train")
    visitor.reload()
    expect(visitor.own("life")).to_have_attribute("data-snapshots", str(len(steps)))


def scrub(section, at: int) -> None:
    section.get_by_label("Snapshots of the heads so far").fill(str(at))


def test_the_slider_moves_heads_badges_curve_marker_and_sample(visitor, life):
    section, kept = life
    assert kept.steps == snapshot_steps(STEPS, TOKENS) and len(kept.steps) >= 20
    expect(section.locator(".hl-tokens")).to_have_text("the·goose")
    expect(section).to_have_attribute("data-step", str(STEPS))
    section.locator(".hl-head").nth(3).click()
    expect(section.locator("figcaption")).to_contain_text("Layer 2, Head 2")
    samples = visitor.own("chart").locator(".sample-step")
    for at in range(len(kept.steps) - 1):
        scrub(section, at)
        expect(section).to_have_attribute("data-at", str(at))
        step = kept.steps[at]
        expect(section.locator(".hl-step")).to_have_text(f"step {step:,}")
        assert section.locator(".hl-head span").all_text_contents() == [
            f"{layer + 1}.{head + 1} {kept.head_scores(at).badge(layer, head)}" for layer, head in np.ndindex(2, 2)
        ]
        assert float(section.get_attribute("data-score")) == pytest.approx(kept.head_scores(at).induction[1, 1])
        assert visitor.fact("chart", "marked") == str(step)
        assert samples.inner_text() == f"step {max(1, step // 60 * 60)}"
    scrub(section, len(kept.steps) - 1)
    expect(visitor.own("chart")).to_have_attribute("data-marked", "")
    expect(samples).to_have_text(f"step {STEPS}")


def test_what_is_painted_is_what_was_kept(life):
    section, kept = life
    levels = {}  # which colour each level has on the page
    for at in (0, 12, len(kept.steps) - 1):
        scrub(section, at)
        for i, canvas in enumerate(section.locator(".hl-head canvas").all()):
            drawn = canvas.evaluate(DRAWN)
            assert drawn["side"] == 9
            pixels = np.array(drawn["pixels"]).reshape(9, 9, 4)
            past = np.tri(9, dtype=bool)
            assert (pixels[~past][:, 3] == 0).all()  # nothing stands where the mask is
            for level, colour in zip(kept.attention[at, i // 2, i % 2].tolist(), pixels[past].tolist(), strict=True):
                assert levels.setdefault(level, colour) == colour
    assert len({tuple(colour) for colour in levels.values()}) > 10


def test_the_film_plays_to_its_end(visitor, life):
    section, kept = life
    section.get_by_role("button", name="Play").click()
    visitor.until(lambda: 3 <= int(section.get_attribute("data-at")) < len(kept.steps) - 1, "some frames were shown")
    section.get_by_role("button", name="Stop").click()
    stopped = section.get_attribute("data-at")
    visitor.page.wait_for_timeout(500)
    assert section.get_attribute("data-at") == stopped
    scrub(section, len(kept.steps) - 4)
    section.get_by_role("button", name="Play").click()
    expect(section).to_have_attribute("data-at", str(len(kept.steps) - 1))
    expect(section.locator(".hl-play")).to_have_text("Play")


def test_the_moment_when_a_head_became_what_it_is_can_be_gone_to(life):
    section, kept = life
    last = kept.head_scores(-1)
    moments = []
    for layer, head in np.ndindex(2, 2):
        badge = last.badge(layer, head)
        before = [at for at in range(len(kept.steps)) if kept.head_scores(at).badge(layer, head) != badge]
        at = before[-1] + 1 if before else 0
        moments += [(f"Layer {layer + 1}, Head {head + 1}: {badge} from step {kept.steps[at]:,}", at)] if badge else []
    assert sorted(section.locator(".hl-moments button").all_text_contents()) == sorted(text for text, _ in moments)
    assert moments
    text, at = moments[-1]
    section.get_by_role("button", name=text).click()
    expect(section).to_have_attribute("data-at", str(at))
    expect(section.locator("figcaption")).to_have_text(text.split(" from")[0])


def test_the_curves_and_the_heads_of_a_step_can_be_downloaded(visitor, life):
    section, kept = life
    scrub(section, 7)
    expect(section).to_have_attribute("data-at", "7")
    for part, expected in (("life", f"heads-step{kept.steps[7]}"), ("chart", "loss")):
        name, png = visitor.download(part, "Download this figure as PNG")
        assert name == f"{expected}.png" and png.startswith(b"\x89PNG")
        name, svg = visitor.download(part, "Download this figure as SVG")
        assert name == f"{expected}.svg" and ElementTree.fromstring(svg).tag.endswith("svg")


def test_a_keyboard_reaches_it(visitor, life):
    section, kept = life
    layer, head = np.unravel_index(kept.head_scores(-1).induction.argmax(), (2, 2))  # shown large until one is chosen
    expect(section.locator("figcaption")).to_contain_text(f"Layer {layer + 1}, Head {head + 1}")
    curve = section.locator(".hl-curve")
    curve.focus()
    for _ in range(3):
        visitor.page.keyboard.press("ArrowLeft")
    expect(section).to_have_attribute("data-at", str(len(kept.steps) - 4))
    score = f"{kept.head_scores(-4).induction[layer, head]:.2f}"
    expect(curve).to_have_attribute("aria-label", f"induction of Layer {layer + 1}, Head {head + 1} by step")
    expect(curve).to_have_attribute("aria-valuetext", f"{score} after {kept.steps[-4]} steps")


def test_the_curves_of_a_score_can_be_downloaded(visitor, life):
    section, _ = life
    section.locator(".hl-head").nth(2).click()
    section.get_by_label("Score by step").select_option("previous")
    with visitor.page.expect_download() as download:
        section.locator(".hl-scores-buttons").get_by_role("button", name="SVG").click()
    assert download.value.suggested_filename == "previous-layer2-head1.svg"
    svg = download.value.path().read_text()
    assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_every_cell_of_the_chosen_head_can_be_read_with_the_keyboard(visitor, life):
    section, kept = life
    scrub(section, 12)
    section.locator(".hl-head").nth(3).click()
    drawn, readout = section.locator(".hl-map"), section.locator(".hl-cell")
    texts = "the·goose"
    drawn.focus()
    cells = [(8, 8), (8, 7), (7, 7), (7, 8)]
    for key, (query, looked_at) in zip(["", "ArrowLeft", "ArrowUp", "ArrowRight"], cells, strict=True):
        if key:
            visitor.page.keyboard.press(key)
        level = kept.attention[12, 1, 1][query * (query + 1) // 2 + looked_at] if looked_at <= query else None
        seen = "masked: it comes later" if level is None else f"weight {(int(level) / 255) ** 2:.2f}"
        place = f"query {query + 1} {texts[query]} → key {looked_at + 1} {texts[looked_at]}"
        expect(readout).to_have_text(f"{place} {seen}")
    visitor.page.keyboard.press("ArrowLeft")
    scrub(section, 20)  # the slider has the focus now
    expect(readout).to_contain_text("Point at a cell")
