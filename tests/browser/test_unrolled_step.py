"""One training step in the Learn tab: the numbers on the page are those of torch's own loss, gradient and AdamW."""

import json
import re
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from playwright.sync_api import Locator, expect

from playground.checkpoint import Checkpoint
from playground.model import GPT
from playground.tokenizer import visible

pytestmark = pytest.mark.browser

LINES = ("the goose", "the cat sat")
TENSOR, RATE = "h.1.attn.c_attn.weight", 0.005


@dataclass
class Reference:
    """The same step without the code that the page shows."""

    ids: torch.Tensor  # (2, T + 1)
    logits: torch.Tensor  # (2, T, V)
    losses: torch.Tensor  # (2, T)
    loss: float
    gradient: float
    before: float
    after: float
    loss_after: float


def reference(checkpoint: Checkpoint, index: tuple[int, int]) -> Reference:
    model = GPT(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    rows = [checkpoint.tokenizer.encode(line) for line in LINES]
    ids = torch.tensor([row[: min(map(len, rows))] for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)

    def losses() -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(ids[:, :-1])
        return logits, F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")

    logits, terms = losses()
    terms.mean().backward()
    weights = model.get_parameter(TENSOR)
    before, gradient = weights[index].item(), weights.grad[index].item()
    optimizer.step()
    after, loss_after = weights[index].item(), losses()[1].mean().item()
    return Reference(ids, logits.detach(), terms.detach(), terms.mean().item(), gradient, before, after, loss_after)


def field(part: Locator, label: str) -> Locator:
    """What is chosen under this name."""
    return part.locator(".us-choices label", has_text=re.compile(f"^{label}")).locator("input, select")


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def fact(part: Locator, table: str, name: str) -> float:
    """A number of a stage by its name in the code."""
    return number(part.locator(f".us-{table} tr[data-name='{name}'] td").inner_text())


def made(part: Locator, function: str, name: str) -> float:
    """What stands beside the code."""
    told = part.locator(f"[data-of={function}] .ls-made").all_text_contents()
    return float(next(text.split(" ", 1)[1] for text in told if text.startswith(f"{name} ")))


def turn_to(part: Locator, stage: int) -> None:
    part.locator(".us-way li button").nth(stage - 1).click()
    expect(part).to_have_attribute("data-stage", str(stage))


@pytest.fixture
def part(visitor, tiny_checkpoint) -> Locator:
    visitor.use(tiny_checkpoint)
    visitor.open("Learn")
    visitor.own("course-words").get_by_role("button", name="Training and evaluation").click()
    part = visitor.own("unrolled")
    expect(part.locator(".us-stage").first).to_be_visible()
    return part


@pytest.fixture
def chosen(part, tiny_checkpoint) -> tuple[Locator, Reference]:
    """The step that this test takes, on the page and by torch."""
    field(part, "Line 1").fill(LINES[0])
    field(part, "Line 2").fill(LINES[1])
    field(part, "A weight of").select_option(TENSOR)
    field(part, "Row").fill("17")
    field(part, "Column").fill("6")
    field(part, "Learning rate").fill(str(RATE))
    field(part, "Learning rate").press("Enter")
    expected = reference(tiny_checkpoint, (17, 6))
    expect(part).to_have_attribute("data-loss", re.compile(f"^{expected.loss:.4f}"[:-1]))
    expect(part.locator(".us-gradient th").first).to_have_text(f"{TENSOR}[17, 6] w")
    return part, expected


def test_every_number_is_that_of_torch(chosen, tiny_checkpoint):
    part, expected = chosen
    text = tiny_checkpoint.tokenizer.token_text
    expect(part.locator(".us-cut")).to_have_text(
        "The longer line is cut to the shorter: its last 2 tokens are left out."
    )
    rows = part.locator(".us-batch tbody tr")
    expect(rows).to_have_count(8)
    for t, row in enumerate(rows.all()):
        ids = [int(expected.ids[b, t + i]) for b in (0, 1) for i in (0, 1)]
        assert row.locator("td").all_text_contents() == [f"{visible(text(i))} {i}" for i in ids]

    turn_to(part, 2)
    part.locator(".us-place").select_option("1,3")
    logits, target = expected.logits[1, 3], int(expected.ids[1, 4])
    best = logits.topk(8).indices.tolist()
    shown = part.locator(".us-logits tbody tr").all()
    for row, i in zip(shown, best + [target] * (target not in best), strict=True):
        expect(row.locator("th")).to_have_text(f"{visible(text(i))} {i}{' target' * (i == target)}")
        assert number(row.locator("td").inner_text()) == pytest.approx(logits[i].item(), rel=1e-4)

    turn_to(part, 3)
    *terms, mean = part.locator(".us-terms tbody tr").all()
    for row, loss in zip(terms, expected.losses.flatten().tolist(), strict=True):
        log_sum_exp, logit, term = (number(cell) for cell in row.locator("td").all_text_contents())
        assert term == pytest.approx(loss, rel=1e-4, abs=1e-6)
        assert log_sum_exp - logit == pytest.approx(term, abs=1e-5)
    assert number(mean.locator("td").last.inner_text()) == pytest.approx(expected.loss, rel=1e-5)

    turn_to(part, 4)
    gradient, slope = fact(part, "gradient", "gradient"), fact(part, "gradient", "slope")
    assert gradient == pytest.approx(expected.gradient, rel=1e-3) == pytest.approx(slope, rel=0.01)
    assert fact(part, "gradient", "w") == pytest.approx(expected.before, rel=1e-6)
    above, below, h = (fact(part, "gradient", name) for name in ("above", "below", "h"))
    assert (above - below) / (2 * h) == pytest.approx(slope, rel=1e-4)
    expect(part.locator(".us-agree")).to_have_text(re.compile(r"^The two differ by [\d.e−]+ %\.$"))

    turn_to(part, 5)
    g = expected.gradient
    for name, value in {"m": 0.1 * g, "v": 0.01 * g * g, "m_hat": g, "v_hat": g * g}.items():
        assert fact(part, "adam", name) == pytest.approx(value, rel=2e-3)
    assert fact(part, "adam", "update") == pytest.approx(expected.after - expected.before, rel=1e-4)
    assert fact(part, "adam", "w + update") == pytest.approx(expected.after, rel=1e-5)
    expect(part.locator(".us-optimizer")).to_have_text("This model was trained with Muon; the step here is AdamW’s.")

    turn_to(part, 6)
    before, after, change, n = (
        number(cell.replace(",", "")) for cell in part.locator(".us-after td").all_text_contents()
    )
    assert before == pytest.approx(expected.loss, rel=1e-5)
    assert after == pytest.approx(expected.loss_after, rel=1e-3)
    assert change == pytest.approx(after - before, abs=1e-6) and n == tiny_checkpoint.config.n_params


def test_beside_each_stage_stands_the_code_that_ran(chosen):
    part, expected = chosen
    sources = {name: part.locator(f"[data-of={name}] figcaption") for name in ("forward", "cross_entropy", "move")}
    expect(sources["forward"]).to_have_text(re.compile(r"^playground/model\.py, line \d+$"))
    expect(sources["cross_entropy"]).to_have_text(re.compile(r"^playground/unrolled\.py, line \d+$"))
    expect(part.locator("[data-of=forward]")).to_contain_text("return self.lm_head(self.ln_f(x))  # (B, T, V)")
    assert made(part, "cross_entropy", "loss") == pytest.approx(expected.loss, rel=1e-5)
    assert made(part, "gradient_of", "gradient") == pytest.approx(expected.gradient, rel=1e-3)
    assert made(part, "finite_difference", "slope") == pytest.approx(expected.gradient, rel=0.01)
    assert made(part, "first_adamw_step", "update") == pytest.approx(expected.after - expected.before, rel=1e-4)
    assert made(part, "loss_of", "loss") == pytest.approx(expected.loss_after, rel=1e-3)


def test_the_stage_stays_while_the_choices_change(visitor, part, tiny_checkpoint):
    keyboard, status = visitor.page.keyboard, part.locator(".us-title")
    expect(status).to_have_text("1 of 6: two lines become inputs and targets")
    expect(part.get_by_role("button", name="Back")).to_have_attribute("aria-disabled", "true")
    part.get_by_role("button", name="Next").click()
    part.get_by_role("button", name="Next").press("Enter")
    expect(status).to_have_text("3 of 6: cross-entropy, term by term")
    loss = part.get_attribute("data-loss")
    field(part, "Line 2").fill("the geese")
    field(part, "Line 2").press("Enter")
    expect(part).not_to_have_attribute("data-loss", loss)
    expect(part).to_have_attribute("data-stage", "3")
    part.locator(".us-way [aria-current=step]").focus()
    keyboard.press("ArrowRight")
    keyboard.press("ArrowRight")
    keyboard.press("ArrowLeft")
    expect(part.locator(".us-way [aria-current=step]")).to_be_focused()
    expect(part).to_have_attribute("data-stage", "4")
    field(part, "A weight of").select_option("ln_f.weight")
    expect(field(part, "Column")).to_be_hidden()
    expect(part.locator(".us-gradient th").first).to_have_text(re.compile(r"ln_f\.weight\[\d+\] w"))
    expect(part).to_have_attribute("data-stage", "4")


def test_what_cannot_be_used_is_told_and_mended(visitor, part):
    note, body = part.locator(".look-note"), part.locator(".look-body")
    for label, wrong, sentence in (
        ("Line 1", '<img src=x onerror="window.pwned=1">☃', "Line 1: the model does not know “<”"),
        ("Line 1", "", "Line 1 needs at least two tokens"),
        ("Row", "999999", "A weight of lm_head.weight stands at a row from 0 to"),
        ("Row", "", "give whole numbers"),
        ("Learning rate", "0", "The learning rate must be a number from 0.000001 to 10"),
    ):
        box = field(part, label)
        before = box.input_value()
        box.fill(wrong)
        box.blur()
        expect(note).to_contain_text(sentence)
        expect(body).to_be_hidden()
        box.fill(before)
        box.blur()
        expect(body).to_be_visible()
    visitor.expect_nothing_run()


def test_another_model_takes_the_step_of_its_own(visitor, part, bpe_checkpoint):
    field(part, "Line 2").fill("the goose")
    field(part, "Line 2").blur()
    turn_to(part, 4)
    visitor.use(bpe_checkpoint)
    visitor.open("Learn")
    expect(part.locator(".us-shape")).to_contain_text(str(bpe_checkpoint.config.vocab_size))
    expect(part).to_have_attribute("data-stage", "4")
    expect(field(part, "Line 2")).to_have_value("the goose")
    assert json.loads(part.get_attribute("data-loss")) > 0


def test_a_link_opens_the_tab(new_visitor, url):
    visitor = new_visitor(url=f"{url}?tab=learn&section=training", width=390)
    expect(visitor.own("unrolled").locator(".us-stage").first).to_be_visible()
    expect(visitor.page.get_by_role("tab", name="Learn", exact=True)).to_have_attribute("aria-selected", "true")
