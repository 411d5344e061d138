"""Experiments on the real page: two curves grow, and what to notice comes after them and not before."""

import json

import pytest
from playwright.sync_api import Locator, expect
from test_reliability import ASK

from playground.course import SECTIONS
from playground.experiments import EXPERIMENTS, Result, run

pytestmark = pytest.mark.browser

LONG = 120_000  # ms for two twins on a busy machine


def card_of(visitor, name: str) -> Locator:
    visitor.open("Learn")
    section = next(section for section in SECTIONS if name in section.experiments)
    visitor.own("course-words").locator(f".co-way [data-slug={section.slug}]").click()
    return visitor.own("experiments").locator(f".ev-card[data-name={name}]")


def n_points(card: Locator) -> int:
    return int(card.get_attribute("data-points") or 0)


def has_pixels(card: Locator, twin: int) -> bool:
    """Whether the twin's curve is on the canvas, in the colour of its legend."""
    return card.evaluate(
        """(card, twin) => {
          const swatch = getComputedStyle(card.querySelectorAll(".ev-legend .ev-swatch")[twin]).backgroundColor;
          const [r, g, b] = swatch.match(/\\d+/g).map(Number);
          const canvas = card.querySelector(".ev-curves");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          for (let i = 0; i < data.length; i += 4) {
            if (data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] === 255) return true;
          }
          return false;
        }""",
        twin,
    )


def test_curves_grow_and_then_the_page_says_what_to_notice(visitor):
    experiment, card = EXPERIMENTS["no_mask"], card_of(visitor, "no_mask")
    notice, n_all = experiment.notice[:60], 2 * experiment.twins[0].train.max_iters
    expect(card.locator(".ev-question")).to_have_text(experiment.question)
    card.get_by_role("button", name="Run both: No causal mask").click()
    visitor.until(lambda: n_points(card) > 4, "the first steps are there")
    early = n_points(card)
    assert early < n_all and card.get_attribute("data-state") == "running"
    assert notice not in visitor.page.content()
    visitor.until(lambda: n_points(card) > early, "the curves have grown")
    assert has_pixels(card, 0) and has_pixels(card, 1)
    expect(card.locator(".ev-notice")).to_contain_text(notice, timeout=LONG)
    assert n_points(card) == n_all
    results = [event for event in run(experiment, 1) if isinstance(event, Result)]
    assert json.loads(card.get_attribute("data-figures")) == [
        pytest.approx(result.figures, rel=1e-3) for result in results
    ]
    rows = card.locator(".ev-table tbody tr")
    for i, (row, measure) in enumerate(zip(rows.all(), experiment.measures, strict=True)):
        expect(row.locator("th")).to_have_text(measure.title)
        shown = [float(cell) for cell in row.locator("td").all_text_contents()]
        assert shown == pytest.approx([result.figures[i] for result in results], rel=1e-3, abs=1e-3)
    for text, result in zip(card.locator(".ev-sample").all(), results, strict=True):
        assert text.text_content() == experiment.prompt + result.sample
    expect(visitor.own("course-words").locator(".co-progress")).to_contain_text("1 of their questions answered")
    again = card.get_by_role("button", name="Run again with another seed")
    expect(again).to_be_focused()
    again.click()
    expect(card.locator(".ev-outcome")).to_be_hidden()
    card.get_by_role("button", name="Stop").click()
    expect(card).to_have_attribute("data-state", "stopped")


def test_stop_ends_it_without_a_verdict(visitor):
    card = card_of(visitor, "tiny_context")
    card.get_by_role("button", name="Run both").press("Enter")
    visitor.until(lambda: n_points(card) > 4, "the first steps are there")
    expect(card.get_by_role("button", name="Stop")).to_be_focused()
    card.get_by_role("button", name="Stop").press("Enter")
    expect(card.locator(".ev-status")).to_contain_text("too early to tell")
    stopped_at = n_points(card)
    visitor.page.wait_for_timeout(1_000)
    assert n_points(card) == stopped_at
    expect(card.locator(".ev-notice")).to_be_hidden()


def test_a_new_one_replaces_the_old(visitor):
    first, second = card_of(visitor, "no_residual"), card_of(visitor, "no_norm")
    first.get_by_role("button", name="Run both").click()
    visitor.until(lambda: n_points(first) > 0, "the first steps are there")
    second.get_by_role("button", name="Run both").click()
    expect(first.locator(".ev-status")).to_contain_text("made way for another")
    visitor.until(lambda: n_points(second) > 0, "the second is on its way")
    second.get_by_role("button", name="Stop").click()
    expect(second).to_have_attribute("data-state", "stopped")


def test_another_visitors_experiment_cannot_be_had(new_visitor):
    owner, stranger = new_visitor(), new_visitor(width=390)
    cards = {owner: card_of(owner, "no_positions"), stranger: card_of(stranger, "no_norm")}
    key, id = run_and_listen(owner, cards[owner], "more")
    own_key, *_ = run_and_listen(stranger, cards[stranger], "begin")
    assert own_key != key
    assert "made way" in ask_for_more(stranger, own_key, id)["error"]
    assert "error" not in ask_for_more(owner, key, id)
    assert stranger.page.evaluate("document.documentElement.scrollWidth") <= 390
    for card in cards.values():
        card.get_by_role("button", name="Stop").click()
        expect(card).to_have_attribute("data-state", "stopped")


def run_and_listen(visitor, card: Locator, function: str) -> list:
    """Begins an experiment; what the page then sends to this server function."""
    with visitor.page.expect_request(lambda request: f'"{function}"' in (request.post_data or "")) as asked:
        card.get_by_role("button", name="Run both").click()
    return json.loads(asked.value.post_data)["data"]


def ask_for_more(visitor, key: str, id: str) -> dict:
    status, text = visitor.page.evaluate(ASK, ["experiments", "more", [key, id]])
    assert status == 200
    return json.loads(text)
