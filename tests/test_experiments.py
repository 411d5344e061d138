"""Every experiment ends as its page says, by figures measured anew; its twins differ in the one thing and no other."""

import json
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from playground import experiments
from playground.config import ModelConfig
from playground.corpus import built_in, get_batch, reference_losses, split
from playground.errors import BadInput
from playground.experiments import (
    EXPERIMENTS,
    SAMPLE_CHARS,
    TEXT_CHARS,
    Experiment,
    Learner,
    Result,
    Step,
    begin_alike,
    material,
    new_model,
    run,
    setting,
    without_mask,
    without_norms,
    without_residual,
    write,
)
from playground.model import GPT
from playground.settings import Settings
from playground.tokenizer import BPETokenizer, CharTokenizer
from playground.ui.components.experiment_view import pack_events, pack_experiments
from playground.ui.experiments import functions
from playground.ui.site import Site
from playground.workspaces import Workspaces

SEEDS = (1, 2, 3)
SHORT = {"max_iters": 3, "batch_size": 4}


def shortened(experiment: Experiment, **settings) -> Experiment:
    """The same experiment with a few small steps."""
    return replace(
        experiment,
        twins=tuple(replace(twin, train=replace(twin.train, **SHORT | settings)) for twin in experiment.twins),
    )


def learners(experiment: Experiment, seed: int = 1) -> list[Learner]:
    both = [Learner(experiment, twin, seed) for twin in experiment.twins]
    begin_alike(*(learner.model for learner in both))
    return both


def results(events: list[Step | Result]) -> list[Result]:
    return [event for event in events if isinstance(event, Result)]


def losses(events: list[Step | Result], twin: int) -> list[float]:
    return [event.loss for event in events if isinstance(event, Step) and event.twin == twin]


# --- What comes out ---------------------------------------------------------------------------------------------------


@cache
def ran(name: str, seed: int) -> list[Step | Result]:
    return list(run(EXPERIMENTS[name], seed))


# By how many nats, or bits, the broken twin is worse at least; about half of the least that was seen with 3 seeds.
WORSE = {
    "no_mask": 0.4,
    "no_positions": 0.15,
    "one_head": 0.04,
    "high_rate": 0.7,
    "no_residual": 0.5,
    "no_norm": 0.35,
    "tiny_context": 0.07,
    "characters": 0.35,
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_whole_twin_is_better_by_what_decides(name, seed):
    whole, broken = results(ran(name, seed))
    assert (whole.twin, broken.twin) == (0, 1)
    assert broken.figures[-1] - whole.figures[-1] > WORSE[name]
    assert all(math.isfinite(figure) for figure in (*whole.figures, *broken.figures))
    assert len(whole.sample) == len(broken.sample) == SAMPLE_CHARS


@pytest.mark.parametrize("seed", SEEDS)
def test_the_notices_say_what_is_seen(seed):
    """What is said of the curves and tables beyond which of the twins is better."""
    whole, broken = results(ran("no_mask", seed))
    assert broken.figures[0] < 0.1 * whole.figures[0]  # collapses, by the figure that does not decide
    whole, broken = results(ran("characters", seed))
    assert broken.figures[0] < whole.figures[0]  # lower per token
    _, corpus = material("stories", "bpe")
    assert corpus.val_chars > 2 * len(corpus.val)
    first, *curve = losses(ran("high_rate", seed), 1)
    assert max(curve) > 10 * first and curve[-1] < 0.1 * max(curve)
    first, *curve = losses(ran("no_norm", seed), 1)
    assert max(curve) > 3 * first and max(losses(ran("no_norm", seed), 0)) < 1.5 * first
    tokenizer, corpus = material("stories", "char")
    references = reference_losses(corpus, tokenizer.vocab_size)
    assert results(ran("no_residual", seed))[1].figures[0] > references.unigram - 0.1  # little but frequencies
    assert first == pytest.approx(references.uniform, abs=0.2)
    apart = [b - a for a, b in zip(*(losses(ran("tiny_context", seed), twin) for twin in (0, 1)), strict=True)]
    assert sum(apart[:20]) / 20 < 0.25 * sum(apart[-20:]) / 20  # at first they fall alike


def test_a_run_is_the_same_each_time_and_another_with_another_seed():
    experiment = shortened(EXPERIMENTS["no_mask"])
    first, again, other = (list(run(experiment, seed)) for seed in (1, 1, 2))
    assert first == again
    assert losses(first, 0) != losses(other, 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1"])
def test_a_wrong_seed_is_refused_at_once(seed):
    with pytest.raises(BadInput, match="seed must be a whole number"):
        run(EXPERIMENTS["no_mask"], seed)


# --- Twins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_twins_begin_alike_and_nothing_in_them_is_dead(name):
    whole, broken = (learner.model.state_dict() for learner in learners(EXPERIMENTS[name]))
    for part in set(whole) & set(broken):
        if whole[part].shape == broken[part].shape:
            assert torch.equal(whole[part], broken[part]), part
    differ = {
        part for part in set(whole) | set(broken) if part not in broken or whole[part].shape != broken[part].shape
    }
    heads = {f"h.{layer}.attn.{x}_norm.weight" for layer in (0, 1) for x in "qk"}
    norms = {"ln_f.weight"} | {f"h.{layer}.ln_{i}.weight" for layer in (0, 1) for i in (1, 2)}
    expected = {"one_head": heads, "no_norm": heads | norms, "characters": {"wte.weight", "lm_head.weight"}}
    assert differ == expected.get(name, set())
    assert all(weight.any() for weight in whole.values())  # not a zero among what writes to the stream


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_twins_see_the_same_batches(name, monkeypatch):
    """What each model is given, put together again, is what `get_batch` draws with the seed."""
    experiment, seen = shortened(EXPERIMENTS[name]), []
    loss = GPT.loss
    monkeypatch.setattr(GPT, "loss", lambda model, x, y: seen.append((x.clone(), y.clone())) or loss(model, x, y))
    list(run(experiment, 7))
    assert len(seen) == 2 * SHORT["max_iters"]
    for twin, kind in enumerate(twin.tokenizer for twin in experiment.twins):
        ids, rng = material(experiment.corpus, kind)[1].train, torch.Generator().manual_seed(7)
        for x, y in seen[twin::2]:
            expected_x, expected_y = get_batch(ids, 4, 32, rng)
            assert torch.equal(x.reshape(4, 32), expected_x)
            assert torch.equal(y.reshape(4, 32), expected_y)
    assert seen[1][0].shape == ((32, 4) if name == "tiny_context" else (4, 32))


def test_a_step_is_that_of_torch():
    """The first step of the whole twin moves the weights as the trainer's optimizers do, written out here."""
    (learner, _) = learners(shortened(EXPERIMENTS["no_mask"]))
    before = {name: weight.clone() for name, weight in learner.model.named_parameters()}
    rng = torch.Generator().manual_seed(1)
    x, y = get_batch(learner.corpus.train, 4, 32, rng)
    expected = F.cross_entropy(learner.model(x).transpose(1, 2), y)
    gradients = torch.autograd.grad(expected, list(learner.model.parameters()))
    length = torch.stack([gradient.norm() for gradient in gradients]).norm()
    assert learner.step() == pytest.approx(expected.item(), rel=1e-5)
    # Adam's first step of a table is 0.6 of the rate towards where the gradient points, however long; the warm-up
    # takes a sixth of the rate in the first of 5 steps.
    rate = 0.06 / 6 * 0.6
    moved = learner.model.lm_head.weight - before["lm_head.weight"]
    (gradient,) = (g for g, name in zip(gradients, before, strict=True) if name == "lm_head.weight")
    clear = gradient.abs() > 1e-5 * max(1.0, length)
    assert clear.float().mean() > 0.5
    torch.testing.assert_close(moved[clear], -rate * gradient.sign()[clear], rtol=1e-2, atol=0)


def test_the_held_out_tokens_are_the_same_however_a_model_cuts_them():
    whole, tiny = learners(EXPERIMENTS["tiny_context"])
    val = whole.corpus.val
    n = (len(val) - 1) // 32 * 32
    for learner, window in ((whole, 32), (tiny, 4)):
        seen = learner.foresee().losses
        assert seen.shape == (n // window, window)
        # One window by hand, and the loss of each of its tokens.
        at = 5 * window
        log_probs = learner.model(val[None, at : at + window])[0].log_softmax(-1)
        expected = [-log_probs[t, val[at + t + 1]].item() for t in range(window)]
        assert seen[5].tolist() == pytest.approx(expected, rel=1e-4)


def test_bits_per_character_are_those_of_the_text():
    for learner in learners(EXPERIMENTS["characters"]):
        seen = learner.foresee()
        text = split(built_in("stories").text[:TEXT_CHARS])[1]
        first = len(learner.tokenizer.decode(learner.corpus.val[:1].tolist()))
        per_char = seen.losses.mean().item() / math.log(2) * (len(learner.corpus.val) - 1) / (len(text) - first)
        assert experiments.BITS.of(seen) == pytest.approx(per_char, rel=1e-6)
    assert isinstance(learners(EXPERIMENTS["characters"])[0].tokenizer, BPETokenizer)
    assert isinstance(learners(EXPERIMENTS["characters"])[1].tokenizer, CharTokenizer)


# --- What is broken ---------------------------------------------------------------------------------------------------

CONFIG = ModelConfig(vocab_size=20, block_size=8, n_layer=2, n_head=2, n_embd=16)


def model(change=None, **settings) -> GPT:
    made = new_model(replace(CONFIG, **settings), seed=3)
    if change:
        change(made)
    return made.eval()


@torch.no_grad()
def logits(model: GPT, *ids: int) -> Tensor:
    return model(torch.tensor([ids]))[0]  # (T, V)


def test_without_the_mask_the_past_knows_the_future():
    for change, knows in ((None, False), (without_mask, True)):
        one, other = logits(model(change), 1, 2, 3, 4), logits(model(change), 1, 2, 3, 5)
        assert (not torch.allclose(one[:3], other[:3])) == knows


def test_without_positions_only_the_mask_tells_order():
    """In one layer the last token sees the same set whatever its order; with positions it does not."""
    for position, knows in (("rotary", True), ("none", False)):
        one, other = (logits(model(n_layer=1, position=position), *ids, 4)[-1] for ids in ((1, 2, 3), (3, 1, 2)))
        assert (not torch.allclose(one, other, atol=1e-5)) == knows
    deeper = [logits(model(position="none"), *ids, 4)[-1] for ids in ((1, 2, 3), (3, 1, 2))]
    assert not torch.allclose(*deeper, atol=1e-5)  # as the notice says, the mask alone tells a second layer something


@torch.no_grad()
def test_without_the_residual_connection_a_silent_part_silences_all():
    for change, silent in ((None, False), (without_residual, True)):
        made = model(change)
        made.h[1].mlp.c_proj.weight.zero_()
        assert (logits(made, 1, 2, 3).abs().max().item() == 0) == silent


def test_zeros_in_what_writes_would_keep_a_model_without_residual_from_learning():
    """Why the twins do not begin as `GPT` does: then no weight would ever have a gradient."""
    x, y = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]])
    for made, learns in ((GPT(CONFIG), False), (model(), True)):
        without_residual(made)
        made.loss(x, y).backward()
        assert any(weight.grad is not None and weight.grad.any() for weight in made.parameters()) == learns


@torch.no_grad()
def test_without_norms_nothing_undoes_a_scale():
    for change, undone in ((None, True), (without_norms, False)):
        plain, scaled = model(change), model(change)
        for block in plain.h:
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
        scaled.load_state_dict(plain.state_dict())
        scaled.wte.weight *= 100
        assert torch.allclose(logits(plain, 1, 2, 3), logits(scaled, 1, 2, 3), rtol=1e-3, atol=1e-4) == undone
    assert not [name for name, _ in model(without_norms).named_parameters() if "norm" in name or "ln_" in name]


def test_settings_make_the_other_differences():
    def difference(name: str) -> dict:
        whole, broken = EXPERIMENTS[name].twins
        found = {}
        for part in ("model", "train"):
            one, other = vars(getattr(whole, part)), vars(getattr(broken, part))
            found |= {key: (one[key], other[key]) for key in one if one[key] != other[key]}
        return (
            found
            | ({"change": broken.change} if broken.change else {})
            | ({"tokenizer": (whole.tokenizer, broken.tokenizer)} if whole.tokenizer != broken.tokenizer else {})
        )

    assert {name: difference(name) for name in EXPERIMENTS} == {
        "no_mask": {"change": without_mask},
        "no_positions": {"position": ("rotary", "none")},
        "one_head": {"n_head": (4, 1)},
        "high_rate": {"learning_rate": (0.06, 6.0)},
        "no_residual": {"change": without_residual},
        "no_norm": {"change": without_norms},
        "tiny_context": {"block_size": (32, 4)},
        "characters": {"tokenizer": ("bpe", "char")},
    }
    assert all(whole.change is None for whole, _ in (experiment.twins for experiment in EXPERIMENTS.values()))


def test_a_sample_is_written_by_the_broken_model_itself():
    """A model that foresees one token whatever it is given writes that token, as no `Reader` could know."""
    tokenizer = CharTokenizer.train("Once upon a time")
    made = model(without_residual, vocab_size=tokenizer.vocab_size)
    with torch.no_grad():
        made.lm_head.weight.zero_()
        made.ln_f = torch.nn.Flatten(2)  # no norm, and no `weight` for a `Reader`
        made.h[1].mlp.forward = lambda x: torch.ones_like(x)
        made.lm_head.weight[tokenizer.encode("m")[0]] = 1.0
    assert write(made, tokenizer, "Once") == "m" * SAMPLE_CHARS


# --- A twin that is lost ----------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_its_twin_and_not_the_other(monkeypatch):
    experiment = shortened(EXPERIMENTS["high_rate"], learning_rate=1e-3, max_iters=4)
    loss, calls = GPT.loss, []

    def fails_the_fourth_time(model, x, y):  # the second step of the second twin
        calls.append(model)
        return loss(model, x, y) * (math.inf if len(calls) == 4 else 1.0)

    monkeypatch.setattr(GPT, "loss", fails_the_fourth_time)
    events = list(run(experiment, 1))
    assert len(losses(events, 0)) == 4 and losses(events, 1)[1:] == [math.inf]
    whole, broken = results(events)
    assert math.isfinite(whole.figures[0]) and whole.sample
    assert math.isnan(broken.figures[0]) and broken.sample == ""
    sent = json.loads(json.dumps(pack_events(experiment, events), allow_nan=False))
    assert [1, 2, None] in sent["steps"] and sent["results"][1] == {"twin": 1, "figures": [None], "sample": ""}


def test_a_loss_that_is_not_finite_moves_nothing(monkeypatch):
    learner, _ = learners(shortened(EXPERIMENTS["no_mask"]))
    before = {name: weight.clone() for name, weight in learner.model.named_parameters()}
    loss = GPT.loss
    monkeypatch.setattr(GPT, "loss", lambda model, x, y: loss(model, x, y) * math.inf)
    assert learner.step() == math.inf and learner.lost
    assert all(torch.equal(weight, before[name]) for name, weight in learner.model.named_parameters())


# --- For the page -----------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path, monkeypatch, tiny_checkpoint):
    """The server functions, two visitors' keys, and experiments that take a moment."""
    workspaces = Workspaces({tiny_checkpoint.name: tiny_checkpoint}, Settings(data=tmp_path))
    for name in EXPERIMENTS:
        monkeypatch.setitem(EXPERIMENTS, name, shortened(EXPERIMENTS[name]))
    yield functions(Site(workspaces, None)), workspaces.enter(None)[0], workspaces.enter(None)[0]
    workspaces.close(seconds=60)


def test_a_visitor_gets_all_events_and_the_notice_with_the_last(asked):
    server, key, _ = asked
    look = [key, server["begin"]([key, "no_mask", 5])["id"]]
    sent = []
    while not (sent and "notice" in sent[-1]):
        sent.append(server["more"](look))
        assert "error" not in sent[-1]
    expected = pack_events(EXPERIMENTS["no_mask"], list(run(EXPERIMENTS["no_mask"], 5)))
    assert [step for part in sent for step in part["steps"]] == expected["steps"]
    assert [result for part in sent for result in part["results"]] == expected["results"]
    assert sent[-1]["notice"] == EXPERIMENTS["no_mask"].notice
    assert "run it again" in server["more"](look)["error"]


def test_one_visitors_experiment_is_no_business_of_anothers(asked):
    server, key, stranger = asked
    id = server["begin"]([key, "no_mask", 1])["id"]
    for name in ("more", "stop"):
        assert "made way" in server[name]([stranger, id])["error"]
        assert "made way" in server[name]([key, "é"])["error"]
        assert "reload" in server[name](["nobody", id])["error"]
    other = server["begin"]([stranger, "no_norm", 1])["id"]
    assert "error" not in server["more"]([key, id]) and "error" not in server["more"]([stranger, other])


def test_a_new_experiment_replaces_the_one_before_and_stop_ends_it(asked):
    server, key, _ = asked
    first = server["begin"]([key, "no_mask", 1])["id"]
    second = server["begin"]([key, "one_head", 1])["id"]
    assert "made way" in server["more"]([key, first])["error"]
    assert "made way" in server["stop"]([key, first])["error"]
    assert server["stop"]([key, second]) == {}
    assert "made way" in server["more"]([key, second])["error"]


def test_bad_requests_are_answered_in_a_sentence(asked):
    server, key, _ = asked
    assert "no experiment of this name" in server["begin"]([key, "__class__", 1])["error"]
    assert "seed must be" in server["begin"]([key, "no_mask", -1])["error"]
    assert "reload" in server["begin"]([key, "no_mask", True])["error"]
    assert "reload" in server["more"]([key])["error"]


def test_no_card_tells_what_will_come_out():
    sent = json.dumps(pack_experiments("key"), ensure_ascii=False)
    for experiment in EXPERIMENTS.values():
        assert experiment.question[:40] in sent and experiment.notice[:40] not in sent
    assert {card["name"] for card in json.loads(sent)["experiments"]} == set(EXPERIMENTS)


def test_the_setting_is_that_of_the_first_twin():
    assert setting(EXPERIMENTS["no_residual"]) == (
        "“Small stories”, 160,000 characters of it. 4 layers, 4 heads, 32 numbers a token, a context of 32 tokens. "
        "100 steps of 16 × 32 tokens, learning rate 0.06."
    )
