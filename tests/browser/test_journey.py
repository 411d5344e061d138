"""One whole visit: upload a text, train on it, look inside, generate, take the model home and bring it back."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from playground.config import PRESETS
from playground.generation import Sampling, stream_generate
from playground.inspection import inspect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

SMALL = PRESETS["small"]
TRAINING = 240_000  # ms; "10 seconds" on an idle machine with two cores
PROMPT = "ROMEO:\nI love"
LENGTH = 3_000  # tokens: the page shows what is written in pieces of a twentieth of a second

# Notes every length that the generated text has on its way.
WATCH_TEXT = """() => {
  const length = () => document.querySelector("#generated .wr-text")?.textContent.length ?? 0;
  window.lengths = new Set();
  clearInterval(window.watching);
  window.watching = setInterval(() => window.lengths.add(length()), 10);
}"""


def test_a_whole_visit(visitor, shakespeare: Path):
    train_small(visitor, shakespeare)
    data, checkpoint = visitor.download_checkpoint()
    assert checkpoint.val_loss == pytest.approx(float(visitor.final_loss), abs=1e-12)
    look_inside(visitor, checkpoint)
    see_tokens(visitor)
    text = generate(visitor, checkpoint)
    bring_back(visitor, data, checkpoint, text)


def train_small(visitor, shakespeare: Path) -> None:
    page, chart = visitor.page, visitor.own("chart")
    visitor.give_text(shakespeare)
    expect(visitor.at("text-facts")).to_contain_text("1,115,394")
    visitor.choose("preset", SMALL.title)
    visitor.choose("tokenizer", "Characters")
    visitor.start()
    visitor.expect_state("running")
    expect(chart.locator(".name")).to_have_text("tinyshakespeare.txt")
    watch_plot_grow(visitor)

    page.get_by_role("button", name="Pause").click()
    visitor.expect_state("paused")
    visitor.expect_model("tinyshakespeare.txt")
    step = visitor.fact("chart", "step")
    polls = int(visitor.fact("chart", "polls"))
    visitor.until(lambda: int(visitor.fact("chart", "polls")) >= polls + 3, "the page asked three times more")
    assert visitor.fact("chart", "step") == step
    expect(visitor.at("model-in-use")).to_contain_text(f"steps{int(step):,}")
    visitor.open("Checkpoints")
    expect(visitor.at("checkpoint-facts")).to_contain_text("tinyshakespeare.txt, 1,115,394 characters")
    expect(visitor.at("checkpoint-facts")).to_contain_text(f"{int(step):,} steps")

    visitor.open("Train")
    page.get_by_role("button", name="Resume").click()
    visitor.expect_state("running")
    visitor.expect_state("finished", timeout=TRAINING)
    assert visitor.fact("chart", "step") == visitor.fact("chart", "points") == str(SMALL.train.max_iters)
    visitor.final_loss = visitor.fact("chart", "final-loss")
    assert float(visitor.final_loss) <= 1.9
    expect(chart.locator(".final")).to_contain_text(f"{float(visitor.final_loss):.3f} nats per token")
    expect(visitor.at("model-in-use")).to_contain_text(f"steps{SMALL.train.max_iters:,}")


def watch_plot_grow(visitor) -> None:
    """More than five updates, each of which brought points."""
    points = []

    def grown() -> bool:
        now = int(visitor.fact("chart", "points"))
        if now and now not in points:
            points.append(now)
        return len(points) > 5 and int(visitor.fact("chart", "updates")) > 5

    visitor.until(grown, "the plot grew five times", timeout=120_000)
    assert points == sorted(points)


def look_inside(visitor, checkpoint) -> None:
    page, heads = visitor.page, visitor.own("heads")
    visitor.open("Attention")
    visitor.fill("attention-prompt", PROMPT)
    page.get_by_role("button", name="Show attention").click()
    expect(heads).to_have_attribute("data-tokens", str(len(PROMPT)))
    n_layer, n_head = SMALL.model.n_layer, SMALL.model.n_head
    assert (visitor.fact("heads", "layers"), visitor.fact("heads", "heads")) == (str(n_layer), str(n_head))
    expect(heads.locator(".am-thumb")).to_have_count(n_layer * n_head)

    heads.get_by_role("button", name="Layer 3, Head 2", exact=True).click()
    expect(heads).to_have_attribute("data-locked", "2,1")
    expect(heads).to_have_attribute("data-shown", "2,1")
    weights = inspect(checkpoint, PROMPT).attention[2, 1]  # (T, T)
    for across, down in ((0.35, 0.9), (0.6, 0.7), (0.9, 0.95)):
        query, key, weight = visitor.hover_cell(across, down)
        assert weight == pytest.approx(weights[query, key], abs=1e-5)


def see_tokens(visitor) -> None:
    visitor.open("Tokenizer")
    visitor.fill("tokenizer-text", "ROMEO:")
    view = visitor.at("tokens").locator(".view.current")
    expect(view).to_have_attribute("data-ids", "30,27,25,17,27,10")
    expect(view.locator(".text .token")).to_have_text(list("ROMEO:"))
    expect(view.locator(".ids .token")).to_have_text(["30", "27", "25", "17", "27", "10"])


def generate(visitor, checkpoint) -> str:
    visitor.open("Generate")
    visitor.fill("prompt", PROMPT)
    visitor.fill("length", LENGTH)
    first = write(visitor, seed=7)
    assert first == PROMPT + "".join(
        step.text for step in stream_generate(checkpoint, PROMPT, LENGTH, Sampling(0.8), 7)
    )
    assert write(visitor, seed=8) != first
    assert write(visitor, seed=7) == first
    return first


def write(visitor, seed: int) -> str:
    """Presses Generate, sees the text grow, and returns all of it."""
    visitor.fill("sampling-seed", seed)
    visitor.page.evaluate(WATCH_TEXT)
    visitor.at("generate").click()
    whole = len(PROMPT) + LENGTH

    def lengths() -> list[int]:
        return visitor.page.evaluate("[...window.lengths].filter(Boolean)")

    def streamed() -> bool:
        return len([n for n in lengths() if n < whole]) >= 2 and len(visitor.generated()) == whole

    visitor.until(streamed, "the text had grown at least twice and was whole")
    return visitor.generated()


def bring_back(visitor, data: bytes, checkpoint, text: str) -> None:
    """Reloads the page, uploads the downloaded checkpoint, and finds the same logits and the same text."""
    visitor.expect_bars(checkpoint, PROMPT, Sampling(0.8))
    before = visitor.bars()
    visitor.reload()
    visitor.expect_model("tinyshakespeare.txt")  # the server knows its visitor again
    visitor.upload_checkpoint(data)
    visitor.expect_model("tinyshakespeare.txt (2)")
    visitor.open("Generate")
    visitor.fill("prompt", PROMPT)
    visitor.fill("length", LENGTH)
    visitor.expect_bars(checkpoint, PROMPT, Sampling(0.8))
    assert visitor.bars() == before
    assert write(visitor, seed=7) == text
