"""Fine-tuning in the page: what is learned and what is forgotten, the sample before and after, and the way back."""

import pytest
import torch
from playwright.sync_api import expect

from playground import runs
from playground.corpus import split
from playground.generation import write_sample
from playground.training import full_loss
from playground.ui import train

pytestmark = pytest.mark.browser

SECOND = "0123 4567 89\n" * 80
TUNED = "The pasted text → The pasted text"


@pytest.fixture
def tuned(visitor, small_text):
    """A visitor who has trained a model and fine-tuned it on another text; and the model before and after."""
    visitor.train(small_text.text + "0123456789")
    _, first = visitor.download_checkpoint()
    visitor.open("Train")
    visitor.paste_text(SECOND)
    visitor.page.get_by_label("Fine-tune the model in use").check()
    visitor.start()
    visitor.expect_model(TUNED)
    visitor.expect_state("finished")
    _, last = visitor.download_checkpoint()
    visitor.open("Train")
    return visitor, first, last


def first_losses(visitor) -> list[float]:
    return [float(loss) for loss in visitor.fact("chart", "first-losses").split()]


def test_what_is_learned_and_what_is_forgotten_stand_in_one_plot(tuned, small_text):
    visitor, first, last = tuned
    chart = visitor.own("chart")
    ids = torch.tensor(first.tokenizer.encode(split(small_text.text + "0123456789")[1]))
    losses = first_losses(visitor)
    assert len(losses) == 6  # before the first step, and after 1, 10, 20, 30 and 40
    assert losses[0] == pytest.approx(full_loss(first.model, ids), rel=0.01)  # estimated in what the run trains in
    assert losses[-1] == pytest.approx(full_loss(last.model, ids), rel=0.01) and losses[-1] > losses[0] + 0.1
    assert last.history[-1].val_loss < last.beginning.val_loss - 0.1
    assert losses == [last.beginning.first_val_loss] + [
        step.first_val_loss for step in last.history if step.val_loss is not None
    ]
    expect(chart.locator(".first-key")).to_have_text("validation, The pasted text")
    expect(chart.locator(".final")).to_contain_text(f"over that of The pasted text: {last.first_val_loss:.3f}.")

    chart.locator("canvas").focus()
    visitor.page.keyboard.press("ArrowLeft")
    expect(chart.locator(".readout")).to_contain_text(f"The pasted text {losses[-1]:.3f}")
    _, figure = visitor.download("chart", "SVG")
    assert figure.startswith(b"<?xml")


def test_the_samples_from_before_and_after_stand_side_by_side(tuned):
    visitor, first, last = tuned
    before, after = visitor.own("chart").locator(".before-text"), visitor.own("chart").locator(".sample-text")
    expect(before).to_have_text(write_sample(first.model, first.tokenizer), use_inner_text=True)
    expect(after).to_have_text(write_sample(last.model, last.tokenizer), use_inner_text=True)
    left, right = before.bounding_box(), after.bounding_box()
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]

    visitor.page.set_viewport_size({"width": 390, "height": 900})
    visitor.until(lambda: before.bounding_box()["y"] < after.bounding_box()["y"], "one stands above the other")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_one_goes_back_to_an_earlier_point(tuned):
    visitor, first, last = tuned
    chart, points = visitor.own("chart"), visitor.own("chart").locator(".points select")
    expect(points.locator("option")).to_have_count(6)
    losses = first_losses(visitor)
    expect(points.locator("option").first).to_have_text(
        f"the beginning · validation {last.beginning.val_loss:.3f} · The pasted text {losses[0]:.3f}"
    )
    for step in (10, 0):
        points.select_option(str(step))
        chart.get_by_role("button", name="Use the model of this step").click()
        visitor.expect_message(f"In use now: {TUNED}, step {step}.")
        visitor.expect_model(f"{TUNED}, step {step}")
        expect(chart.locator(".name")).to_have_text(TUNED)  # from where one can go on to another point
        expect(points).to_have_value(str(step))
    _, point = visitor.download_checkpoint()
    assert all(torch.equal(weight, first.weights[name]) for name, weight in point.weights.items())

    visitor.reload()
    visitor.expect_model(f"{TUNED}, step 0")
    expect(visitor.own("chart").locator(".points option")).to_have_count(6)
    assert first_losses(visitor) == losses


def test_each_point_has_its_losses_where_only_some_evaluations_are_sent(tuned, monkeypatch):
    visitor, _, last = tuned
    monkeypatch.setattr(train, "MOST_EVALUATIONS", 4)
    visitor.reload()
    options = visitor.own("chart").locator(".points option")
    expect(options).to_have_count(6)
    evaluated = [step for step in last.history if step.val_loss is not None]
    assert len(first_losses(visitor)) < len(evaluated)
    assert options.all_text_contents()[1:] == [
        f"step {s.step} · validation {s.val_loss:.3f} · The pasted text {s.first_val_loss:.3f}" for s in evaluated
    ]


def test_where_no_points_are_kept_the_page_says_why(visitor, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(runs, "MAX_POINTS", 1)  # as if there were no room for two of this model
    visitor.use(tiny_checkpoint)
    visitor.open("Train")
    chart = visitor.own("chart")
    expect(chart.locator(".points-note")).to_be_hidden()
    visitor.paste_text("the goose said: " * 80)
    visitor.set_up(max_iters=2, batch_size=4, eval_interval=1)
    visitor.page.get_by_label("Fine-tune the model in use").check()
    visitor.start()
    visitor.expect_state("finished")
    expect(chart.locator(".points-note")).to_contain_text("No earlier steps are kept of a model this large")
    expect(chart.locator(".points")).to_be_hidden()


def test_a_model_whose_text_is_not_here_is_tuned_all_the_same(visitor, tiny_checkpoint, small_text):
    visitor.use(tiny_checkpoint)
    visitor.open("Train")
    visitor.paste_text("the goose said: " * 80)
    visitor.set_up(max_iters=20, batch_size=4, eval_interval=10)
    visitor.page.get_by_label("Fine-tune the model in use").check()
    visitor.start()
    visitor.expect_model("Verses → The pasted text")
    visitor.expect_state("finished")
    chart = visitor.own("chart")
    expect(chart.locator(".message")).to_contain_text("is not at hand, so what it forgets of that is not measured")
    expect(chart.locator(".first-key")).to_be_hidden()
    assert first_losses(visitor) == []
    expect(chart.locator(".before-text")).not_to_be_empty()
    expect(chart.locator(".points option")).to_have_count(4)
