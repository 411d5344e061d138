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

DIGITS = "0123456789\n"  # known from the first text
SECOND = "0123 4567 89\n" * 80
TUNED = "The pasted text → The pasted text"


@pytest.fixture
def tuned(visitor, small_text):
    """A visitor who has trained a model and fine-tuned it on another text; and the model before and after."""
    visitor.train(DIGITS + small_text.text)
    _, first = visitor.download_checkpoint()
    visitor.open("Train")
    visitor.paste_text(SECOND)
    visitor.fine_tune()
    visitor.fill("learning_rate", 0.035)  # so that these few steps are enough to forget
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
    ids = torch.tensor(first.tokenizer.encode(split(DIGITS + small_text.text)[1]))
    losses = first_losses(visitor)
    assert len(losses) == 6  # before the first step, and after 1, 10, 20, 30 and 40
    assert losses[0] == pytest.approx(full_loss(first.model, ids), rel=0.01)  # estimated in what the run trains in
    assert losses[-1] == pytest.approx(full_loss(last.model, ids), rel=0.01) and losses[-1] > losses[0] + 0.1
    assert last.history[-1].val_loss < last.beginning.val_loss - 0.1
    assert losses == [last.beginning.first_val_loss] + [
        step.first_val_loss for step in last.history if step.val_loss is not None
    ]
    expect(chart.locator(".val-key")).to_have_text("validation, new text: The pasted text")
    expect(chart.locator(".first-key")).to_have_text("validation, earlier text: The pasted text")
    expect(chart.locator(".final")).to_contain_text("Loss over the whole validation part of The pasted text (")
    expect(chart.locator(".final")).to_contain_text(f"over that of The pasted text: {last.first_val_loss:.3f}.")
    learned = f"fell from {last.beginning.val_loss:.2f} to {last.history[-1].val_loss:.2f}"
    expect(chart.locator(".forgetting")).to_have_text(
        "Dashed: the loss on the earlier text; where it rises, the model forgets. It rose from "
        f"{losses[0]:.2f} to {losses[-1]:.2f}. Solid: the loss on the new text. It {learned}."
    )

    chart.locator("canvas").focus()
    visitor.page.keyboard.press("ArrowLeft")
    expect(chart.locator(".readout")).to_contain_text(f"earlier text {losses[-1]:.3f}")
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
    expect(points).to_have_value("40")  # the latest, which is in use
    expect(chart.locator(".in-use")).to_be_hidden()
    losses = first_losses(visitor)
    expect(points.locator("option").first).to_have_text(
        f"the beginning · new text {last.beginning.val_loss:.3f} · earlier text {losses[0]:.3f}"
    )
    seen = {10: last.history[9], 0: last.beginning}
    for step, place in ((10, "after step 10"), (0, "before the first step")):
        points.select_option(str(step))
        chart.get_by_role("button", name="Use the model of this step").click()
        visitor.expect_message(f"In use now: {TUNED}, step {step}.")
        visitor.expect_model(f"{TUNED}, step {step}")
        expect(chart.locator(".name")).to_have_text(TUNED)  # from where one can go on to another point
        expect(points).to_have_value(str(step))
        expect(chart).to_have_attribute("data-in-use", str(step))
        expect(chart.locator(".in-use")).to_contain_text(f"In use is the model as it was {place}; the figures above")
        expect(chart.locator("dd.step")).to_have_text(f"{step} / 40")
        expect(chart.locator("dd.val")).to_have_text(f"{seen[step].val_loss:.3f}")
        expect(chart.locator("dd.train")).to_have_text(f"{seen[step].train_loss:.3f}" if step else "–")
        expect(chart.locator(".sample-text")).to_have_text(seen[step].sample, use_inner_text=True)
        expect(chart.locator(".final")).to_contain_text("At the end, after step 40: loss over")
        expect(visitor.at("plan-facts")).to_contain_text(f"goes on from{TUNED}, step {step}")
    _, point = visitor.download_checkpoint()
    assert all(torch.equal(weight, first.weights[name]) for name, weight in point.weights.items())

    visitor.reload()
    visitor.expect_model(f"{TUNED}, step 0")
    expect(visitor.own("chart").locator(".points option")).to_have_count(6)
    assert first_losses(visitor) == losses
    expect(points).to_have_value("0")
    expect(chart.locator("dd.step")).to_have_text("0 / 40")


def drawn(visitor) -> str:
    """The chart's own picture, without a crosshair."""
    visitor.page.mouse.move(0, 0)
    return visitor.own("chart").locator("canvas").evaluate("canvas => canvas.toDataURL()")


def test_the_point_in_use_is_marked_and_a_choice_in_the_list_stays(tuned):
    visitor, _, _ = tuned
    chart, points = visitor.own("chart"), visitor.own("chart").locator(".points select")
    without = drawn(visitor)
    points.select_option("20")
    visitor.page.wait_for_timeout(700)  # some polls
    expect(points).to_have_value("20")
    assert drawn(visitor) == without
    chart.get_by_role("button", name="Use the model of this step").click()
    visitor.expect_message("In use now:")
    visitor.until(lambda: drawn(visitor) != without, "the chart has a mark")
    slider = chart.get_by_label("Samples of the evaluations so far")
    expect(slider).to_have_attribute("aria-valuetext", "step 20")
    slider.press("End")  # the sample of the end can be looked at all the same
    expect(slider).to_have_attribute("aria-valuetext", "step 40")


def numbers(visitor) -> list[str]:
    names = ("learning_rate", "min_lr", "eval_interval")
    return [visitor.at(name).locator("input[type=number]").input_value() for name in names]


def expect_numbers(visitor, *wanted: str) -> None:
    visitor.until(lambda: numbers(visitor) == list(wanted), f"the settings are {wanted}, not {numbers(visitor)}")


def test_fine_tuning_presets_what_is_usual_for_it_and_puts_it_back(visitor):
    tune = visitor.page.get_by_label("Fine-tune the model in use")
    visitor.unfold("training-settings")
    expect_numbers(visitor, "0.035", "0", "30")
    tune.check()
    expect_numbers(visitor, "0.0035", "0", "27")
    visitor.fill("max_iters", 60)
    expect_numbers(visitor, "0.0035", "0", "6")
    tune.uncheck()
    expect_numbers(visitor, "0.035", "0", "30")
    visitor.choose("preset", "Classic GPT-2 style")
    expect_numbers(visitor, "0.001", "0.0001", "100")
    tune.check()
    expect_numbers(visitor, "0.0001", "0.00001", "100")
    visitor.choose("preset", "Small, 10 seconds")
    expect_numbers(visitor, "0.0035", "0", "27")


def test_what_a_visitor_has_typed_stays(visitor):
    tune = visitor.page.get_by_label("Fine-tune the model in use")
    visitor.set_up(learning_rate=0.02)
    tune.check()
    expect_numbers(visitor, "0.02", "0", "27")
    visitor.fill("eval_interval", 20)
    visitor.fill("max_iters", 60)
    tune.uncheck()
    visitor.choose("tokenizer", "Words")  # what comes after the answer to that
    expect(visitor.at("plan-facts")).not_to_contain_text("goes on from")
    expect_numbers(visitor, "0.02", "0", "20")


def test_a_text_that_the_tokenizer_does_not_know_is_warned_of_and_its_loss_marked(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Train")
    text = "Größe, süße Äpfel\n" * 80
    visitor.paste_text(text)
    visitor.fine_tune()
    strange = sum(c not in tiny_checkpoint.tokenizer.ids for c in text) / len(text)
    warning = visitor.at("plan-facts").locator(".note.warning")
    expect(warning).to_contain_text(f"does not know {100 * strange:.0f} % of this text’s characters (such as “ß”, ")
    visitor.set_up(eval_interval=10, max_iters=20, batch_size=4)
    visitor.start()
    visitor.expect_model("Verses → The pasted text")
    visitor.expect_state("finished")
    _, tuned = visitor.download_checkpoint()
    visitor.open("Train")
    chart, n = visitor.own("chart"), tuned.references.n_unknown
    assert n == sum(c not in tiny_checkpoint.tokenizer.ids for c in split(text)[1])
    expect(chart.locator("dd.val")).to_have_text(f"≥ {tuned.val_loss:.3f}")
    expect(chart.locator(".final")).to_contain_text(f"≥ {tuned.val_loss:.3f} nats per token")
    expect(chart.locator(".unknown")).to_contain_text(f"≥: {n} of {tuned.references.n_tokens} tokens of the validation")


def test_the_same_text_again_has_nothing_to_forget(visitor):
    visitor.fine_tune()
    expect(visitor.at("plan-facts")).to_contain_text("there is nothing to forget")  # the shipped model's own text
    expect(visitor.own("chart").locator(".unknown")).to_be_hidden()
    visitor.paste_text(SECOND)
    expect(visitor.at("plan-facts")).not_to_contain_text("there is nothing to forget")


def test_each_point_has_its_losses_where_only_some_evaluations_are_sent(tuned, monkeypatch):
    visitor, _, last = tuned
    monkeypatch.setattr(train, "MOST_EVALUATIONS", 4)
    visitor.reload()
    options = visitor.own("chart").locator(".points option")
    expect(options).to_have_count(6)
    evaluated = [step for step in last.history if step.val_loss is not None]
    assert len(first_losses(visitor)) < len(evaluated)
    assert options.all_text_contents()[1:] == [
        f"step {s.step} · new text {s.val_loss:.3f} · earlier text {s.first_val_loss:.3f}" for s in evaluated
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
    visitor.set_up(eval_interval=10, max_iters=20, batch_size=4)
    visitor.fine_tune()
    visitor.start()
    visitor.expect_model("Verses → The pasted text")
    visitor.expect_state("finished")
    chart = visitor.own("chart")
    expect(chart.locator(".message")).to_contain_text("is not at hand, so what it forgets of that is not measured")
    expect(chart.locator(".first-key")).to_be_hidden()
    assert first_losses(visitor) == []
    expect(chart.locator(".before-text")).not_to_be_empty()
    expect(chart.locator(".points option")).to_have_count(4)
