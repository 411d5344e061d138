"""Training: each step against plain arithmetic, and runs that can be stopped, resumed and survive bad luck."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace

import pytest
import torch
import torch.nn.functional as F
from surroundings import no_file_beyond

from playground import fused, training
from playground.checkpoint import Beginning, Checkpoint, TrainStep, from_bytes, to_bytes
from playground.config import OPTIMIZERS, Recipe, TrainConfig, quote
from playground.corpus import Text, get_batch
from playground.errors import BadInput
from playground.generation import write_sample
from playground.model import GPT
from playground.optimizers import make_optimizers
from playground.parallel import Beside, here
from playground.training import (
    ESTIMATE_TOKENS,
    Diverged,
    Trainer,
    check_learning_rate,
    full_loss,
    get_lr,
    make_trainer,
    pick_device,
    saved_history,
    train,
    training_dtype,
)

SECOND_TEXT = Text("fox.txt", "The quick brown fox jumps over the lazy dog, and the dog says nothing at all.\n" * 20)


def trainer_of(text: Text, recipe: Recipe, dropout: float = 0.0, sampler=None, beside=here, **settings) -> Trainer:
    """A trainer of the small recipe with some settings changed."""
    model = replace(recipe.model, dropout=dropout)
    return make_trainer(
        text, replace(recipe, model=model, train=replace(recipe.train, **settings)), sampler=sampler, beside=beside
    )


@pytest.fixture
def in_float32(monkeypatch):
    """Training as a processor without bfloat16 does it: for comparisons closer than bfloat16 is exact."""
    monkeypatch.setattr(training, "training_dtype", lambda device: torch.float32)


@pytest.fixture
def second_thread() -> Iterator[Beside]:
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        yield executor.submit


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}


def all_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_clock(history: list[TrainStep]) -> list[tuple]:
    """The history but for the seconds, which no two runs share."""
    return [astuple(replace(step, seconds=0.0)) for step in history]


# --- The learning rate ------------------------------------------------------------------------------------------------


def test_learning_rate_by_hand():
    config = TrainConfig(max_iters=10, learning_rate=1.0, min_lr=0.1, warmup_iters=4)
    # Warm-up factors 1/5, 2/5, 3/5, 4/5, 1, …; the line 1, 0.91, 0.82, …, 0.19, which reaches 0.1 after the last step.
    by_hand = [0.2, 0.4 * 0.91, 0.6 * 0.82, 0.8 * 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19]
    assert [get_lr(step, config) for step in range(1, 11)] == pytest.approx(by_hand)


def test_learning_rate_without_warm_up_starts_at_its_full_height():
    config = TrainConfig(max_iters=4, learning_rate=0.8, min_lr=0.0, warmup_iters=0)
    assert [get_lr(step, config) for step in range(1, 5)] == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_learning_rate_is_never_below_its_minimum():
    config = TrainConfig(max_iters=100, learning_rate=1.0, min_lr=0.5, warmup_iters=99)
    assert [get_lr(step, config) for step in (1, 2, 100)] == pytest.approx([0.5, 0.5, 0.505])


def test_steps_report_the_learning_rate_of_the_schedule(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, max_iters=5, warmup_iters=2)
    rates = [step.learning_rate for step in train(trainer)]
    assert rates == [get_lr(step, trainer.train_config) for step in range(1, 6)]


def test_the_learning_rate_can_be_changed_while_running(small_text, small_recipe):
    trainer = trainer_of(
        small_text, small_recipe, max_iters=10, learning_rate=0.01, min_lr=0.0, warmup_iters=0, optimizer="adam"
    )
    assert trainer.step().learning_rate == pytest.approx(0.01)  # 10/10 of it; then 9/10, 8/10, …
    trainer.set_learning_rate(0.002)
    before = weights_of(trainer)
    assert trainer.step().learning_rate == pytest.approx(0.002)
    moved = max((before[name] - weight).abs().max().item() for name, weight in weights_of(trainer).items())
    assert 0.0005 < moved < 0.004  # Adam's early steps are about as long as the learning rate
    assert trainer.step().learning_rate == pytest.approx(0.002 * 8 / 9)  # and on down as the schedule goes
    trainer.set_learning_rate(1.0)
    assert trainer.step().learning_rate == pytest.approx(1.0)


def test_which_learning_rates_a_run_may_have():
    config = TrainConfig(learning_rate=0.01, min_lr=0.005)
    for rate in (1e-6, 0.001, 10.0):  # also one below `min_lr`
        check_learning_rate(config, rate)
    for rate in (0.0, 10.1, math.nan):
        with pytest.raises(BadInput, match="learning rate"):
            check_learning_rate(config, rate)


@pytest.mark.parametrize("learning_rate", [0.0, -1.0, 11.0, math.nan, math.inf, None])  # None: a field left empty
def test_an_impossible_learning_rate_changes_nothing(learning_rate, small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe)
    with pytest.raises(BadInput, match="learning rate"):
        trainer.set_learning_rate(learning_rate)
    assert trainer.step().learning_rate == get_lr(1, trainer.train_config)


# --- One step after the other, against plain arithmetic ---------------------------------------------------------------


def gradients_by_hand(weights: dict, trainer: Trainer, rng: torch.Generator) -> tuple[dict, float]:
    """The gradient of every weight on the next batch, scaled down to `grad_clip`, and its length before that."""
    model = GPT(trainer.config)
    model.load_state_dict(weights)
    config = trainer.train_config
    x, y = get_batch(trainer.corpus.train, config.batch_size, trainer.config.block_size, rng)
    F.cross_entropy(model(x).view(-1, trainer.config.vocab_size), y.view(-1)).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    length = math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients.values()))
    scale = min(1.0, config.grad_clip / length) if config.grad_clip else 1.0
    return {name: gradient * scale for name, gradient in gradients.items()}, length


def adam_by_hand(weight, gradient, m, v, t, lr, decay, decoupled, betas=(0.9, 0.99)):
    """Kingma & Ba 2015, algorithm 1; weight decay in the gradient, or apart from it (Loshchilov & Hutter 2019)."""
    if decoupled:
        weight = weight - lr * decay * weight
    else:
        gradient = gradient + decay * weight
    m = betas[0] * m + (1 - betas[0]) * gradient
    v = betas[1] * v + (1 - betas[1]) * gradient**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return weight - lr * m_hat / (v_hat.sqrt() + 1e-8), m, v


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("grad_clip", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_and_adamw_by_hand(optimizer, grad_clip, small_text, small_recipe):
    trainer = trainer_of(
        small_text, small_recipe, optimizer=optimizer, weight_decay=0.2, grad_clip=grad_clip, learning_rate=0.01
    )
    weights = weights_of(trainer)
    m, v = ({name: torch.zeros_like(weight) for name, weight in weights.items()} for _ in range(2))
    rng = torch.Generator().manual_seed(trainer.train_config.seed)
    for t in range(1, 5):
        gradients, length = gradients_by_hand(weights, trainer, rng)
        step = trainer.step()
        for name, weight in weights.items():
            decay = 0.2 if weight.dim() >= 2 else 0.0  # at matrices only
            weights[name], m[name], v[name] = adam_by_hand(
                weight, gradients[name], m[name], v[name], t, step.learning_rate, decay, optimizer == "adamw"
            )
        assert step.grad_norm == pytest.approx(length, rel=1e-4)
        for name, weight in weights_of(trainer).items():
            torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert length > 0.3  # so that clipping had something to clip


@pytest.mark.usefixtures("in_float32")
def test_with_muon_a_step_is_what_its_optimizers_make_of_the_gradient(small_text, small_recipe):
    """Of the gradient by hand, with all of Muon in one; test_optimizers.py says what they make of it."""
    trainer = trainer_of(small_text, small_recipe, weight_decay=0.1)
    model, rng = GPT(trainer.config), torch.Generator().manual_seed(trainer.train_config.seed)
    model.load_state_dict(weights_of(trainer))
    optimizers = make_optimizers(model, trainer.train_config)
    for _ in range(3):
        gradients, _ = gradients_by_hand(model.state_dict(), trainer, rng)
        learning_rate = trainer.step().learning_rate
        for name, weight in model.named_parameters():
            weight.grad = gradients[name]
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["scale"]
            optimizer.step()
        for name, weight in weights_of(trainer).items():
            torch.testing.assert_close(
                weight,
                model.get_parameter(name).detach(),
                rtol=0,
                atol=0.1 * learning_rate,
                msg=lambda m, n=name: f"{n}: {m}",
            )


@pytest.mark.parametrize("grad_clip", [0.0, 0.1])
def test_gradients_are_clipped_after_their_length_is_noted(grad_clip, small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, optimizer="adam", grad_clip=grad_clip)
    seen = []
    trainer.optimizers[0].register_step_pre_hook(lambda *_: seen.append([p.grad for p in trainer.model.parameters()]))
    step = trainer.step()
    length = math.sqrt(sum(gradient.double().square().sum().item() for gradient in seen[0]))
    assert step.grad_norm > 0.5
    assert length == pytest.approx(grad_clip or step.grad_norm, rel=1e-4)


# --- A batch in two halves --------------------------------------------------------------------------------------------


def caught_gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    """The gradients of the next step, as the optimizers get them."""
    seen = {}
    for optimizer in trainer.optimizers:
        optimizer.register_step_pre_hook(
            lambda *_: seen.update((name, p.grad.clone()) for name, p in trainer.model.named_parameters())
        )
    trainer.step()
    return seen


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8])
def test_the_halves_have_the_gradient_of_the_whole_batch(batch_size, small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, batch_size=batch_size, grad_clip=0.0, optimizer="adam", max_iters=9)
    for _ in range(3):
        trainer.step()  # from the second on every weight has a gradient
    rng = torch.Generator()
    rng.set_state(trainer.data_rng.get_state())
    expected, length = gradients_by_hand(weights_of(trainer), trainer, rng)
    gradients = caught_gradients(trainer)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    assert trainer.history[-1].grad_norm == pytest.approx(length, rel=1e-4)
    assert all(gradient.any() for gradient in gradients.values())
    assert len(trainer.losses) == min(2, batch_size)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_loss_of_a_step_is_the_mean_over_all_rows(batch_size, small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, batch_size=batch_size)
    trainer.step()
    model, rng = GPT(trainer.config), torch.Generator()
    model.load_state_dict(weights_of(trainer))
    rng.set_state(trainer.data_rng.get_state())
    x, y = get_batch(trainer.corpus.train, batch_size, trainer.config.block_size, rng)
    assert trainer.step().train_loss == pytest.approx(model.loss(x, y).item(), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_second_thread_changes_nothing(optimizer, batch_size, second_thread, small_text, small_recipe):
    """Bit for bit, whoever works on the second half and whichever half is done first."""
    taken = []

    def beside(work):
        taken.append(second_thread(work))
        return taken[-1]

    settings = {"optimizer": optimizer, "batch_size": batch_size, "dropout": 0.2, "max_iters": 15}
    alone = trainer_of(small_text, small_recipe, **settings)
    together = trainer_of(small_text, small_recipe, beside=beside, **settings)
    assert without_clock(list(train(together))) == without_clock(list(train(alone)))
    assert all_equal(weights_of(together), weights_of(alone))
    assert together.val_loss() == alone.val_loss()
    n_evaluations = 4  # at steps 1, 10 and 15, and the one just now
    assert (
        len(taken) == 15 * len(together.losses) + n_evaluations
    )  # half a batch if there are two, one of the optimizers


def test_what_goes_wrong_in_the_second_thread_is_not_lost(second_thread, small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, beside=second_thread)
    trainer.losses[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.step()
    assert trainer.n_steps == 0


def test_each_half_draws_its_own_dropout_for_the_same_weights(small_text, small_recipe):
    x, y = torch.arange(32).view(2, 16) % 20, torch.arange(1, 33).view(2, 16) % 20
    same = trainer_of(small_text, small_recipe)
    different = trainer_of(small_text, small_recipe, dropout=0.5)
    for trainer in (same, different):
        for _ in range(3):
            trainer.step()
    one, other = same.losses
    assert torch.equal(one(x, y), other(x, y))
    assert not torch.equal(one(x, y), one(x.flip(0), y))
    one, other = different.losses
    states = [rng.get_state() for rng in different.dropout_rngs]
    assert not torch.equal(*states)
    drawn = one(x, y)
    assert not torch.equal(drawn, other(x, y))
    different.dropout_rngs[1].set_state(states[0])
    assert torch.equal(drawn, other(x, y))  # nothing but the draws tells them apart


def test_the_halves_keep_the_same_weights_when_weights_are_put_in(small_text, small_recipe, tmp_path):
    trainer, earlier = trainer_of(small_text, small_recipe), trainer_of(small_text, small_recipe, seed=5)
    earlier.step()
    earlier.save_state(tmp_path / "state")
    trainer.load_state(tmp_path / "state")
    trainer.step()
    trainer.back_to_good_weights()
    halves = [dict(loss.model.named_parameters()) for loss in trainer.losses]
    assert all(halves[0][name] is weight for name, weight in halves[1].items())
    x = torch.arange(32).view(2, 16) % 20
    assert trainer.losses[0](x, x).item() == trainer.losses[1](x, x).item()


# --- Where and in what it computes ------------------------------------------------------------------------------------

HERE = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True, "tpu": False}


def test_auto_is_a_device_that_is_here():
    assert HERE[pick_device("auto").type] and HERE[pick_device().type]
    assert pick_device("cpu") == torch.device("cpu")
    assert all(pick_device(name).type == name for name, is_here in HERE.items() if is_here)


@pytest.mark.parametrize("name", [*(name for name, is_here in HERE.items() if not is_here), "", "cpu:7", "a" * 1000])
def test_a_device_that_is_not_here_is_refused_in_one_sentence(name, small_text, small_recipe):
    with pytest.raises(BadInput) as caught:
        pick_device(name)
    sentence = str(caught.value)
    assert sentence.startswith(f"There is no device {quote(name)} here: choose auto, or one of ")
    assert "cpu" in sentence and len(sentence) < 200
    assert sentence.endswith(".") and sentence.count(".") == 1 and "\n" not in sentence
    with pytest.raises(BadInput, match="There is no device"):
        make_trainer(small_text, small_recipe, device=name)


def test_a_processor_trains_in_what_it_multiplies_fastest_and_evaluates_in_float32(
    small_text, small_recipe, monkeypatch
):
    assert training_dtype(torch.device("cpu")) == fused.matmul_dtype()
    assert training_dtype(torch.device("mps")) == torch.float32
    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has})
        trainer = trainer_of(small_text, small_recipe)
        assert [loss.dtype for loss in trainer.losses] == [dtype, dtype]
        trainer.step()
        by_hand = loss_by_hand(trainer.model, trainer.corpus.val)
        assert trainer.val_loss() == pytest.approx(by_hand, rel=1e-6)


# --- The loss ---------------------------------------------------------------------------------------------------------


def test_the_loss_starts_at_ln_v_and_falls(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, max_iters=60)
    losses = [step.train_loss for step in train(trainer)]
    assert losses[0] == pytest.approx(math.log(trainer.config.vocab_size), abs=0.1)
    assert losses[-1] < 0.75 * losses[0]


def loss_by_hand(model: GPT, ids: torch.Tensor) -> float:
    """Each window for itself and each token for itself, in float64."""
    block_size, losses = model.config.block_size, []
    for start in range(0, len(ids) - 1, block_size):
        window = ids[start : start + block_size + 1]
        log_probs = model(window[None, :-1])[0].double().log_softmax(-1)
        losses += [-log_probs[i, token].item() for i, token in enumerate(window[1:])]
    assert len(losses) == len(ids) - 1
    return sum(losses) / len(losses)


@pytest.mark.parametrize("n_tokens", [2, 3, 16, 17, 18, 33, 150])
def test_full_loss_by_hand(n_tokens, tiny_checkpoint):
    """With and without a last window that is not full; the context has 16 tokens."""
    ids = torch.randint(tiny_checkpoint.config.vocab_size, (n_tokens,), generator=torch.Generator().manual_seed(1))
    assert full_loss(tiny_checkpoint.model, ids) == pytest.approx(loss_by_hand(tiny_checkpoint.model, ids), rel=1e-5)


def test_full_loss_is_the_same_in_many_batches(tiny_checkpoint, monkeypatch):
    ids = torch.randint(tiny_checkpoint.config.vocab_size, (1000,), generator=torch.Generator().manual_seed(1))
    at_once = full_loss(tiny_checkpoint.model, ids)
    monkeypatch.setattr(training, "EVAL_BATCH_TOKENS", 40)
    assert full_loss(tiny_checkpoint.model, ids) == pytest.approx(at_once, rel=1e-5)


@pytest.mark.parametrize("max_tokens", [None, 32, 500])
@pytest.mark.parametrize("n_tokens", [2, 17, 100, 1000])
def test_full_loss_is_the_same_with_somebody_beside(n_tokens, max_tokens, second_thread, tiny_checkpoint, monkeypatch):
    """Bit for bit, with one batch only and with many."""
    monkeypatch.setattr(training, "EVAL_BATCH_TOKENS", 40)
    ids = torch.randint(tiny_checkpoint.config.vocab_size, (n_tokens,), generator=torch.Generator().manual_seed(1))
    alone = full_loss(tiny_checkpoint.model, ids, max_tokens)
    assert full_loss(tiny_checkpoint.model, ids, max_tokens, second_thread) == alone


def test_an_estimate_is_over_windows_from_the_whole_text(tiny_checkpoint):
    ids = torch.randint(tiny_checkpoint.config.vocab_size, (16 * 100 + 9,), generator=torch.Generator().manual_seed(1))
    first, last = ids[:17], ids[16 * 99 : 16 * 100 + 1]
    by_hand = (loss_by_hand(tiny_checkpoint.model, first) + loss_by_hand(tiny_checkpoint.model, last)) / 2
    assert full_loss(tiny_checkpoint.model, ids, max_tokens=2 * 16) == pytest.approx(by_hand, rel=1e-5)
    assert full_loss(tiny_checkpoint.model, ids, max_tokens=10_000) == full_loss(tiny_checkpoint.model, ids)


def test_evaluation_is_without_dropout_and_draws_no_random_numbers(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, dropout=0.5)
    for _ in range(3):
        trainer.step()
    before = [rng.get_state() for rng in trainer.dropout_rngs]
    assert trainer.val_loss() == trainer.val_loss()
    assert all(torch.equal(rng.get_state(), state) for rng, state in zip(trainer.dropout_rngs, before, strict=True))
    assert trainer.model.training


def test_evaluations_come_when_they_are_due(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, max_iters=25, sampler=lambda model, tokenizer: "sample")
    steps = list(train(trainer))
    assert [step.step for step in steps] == list(range(1, 26))
    assert [step.step for step in steps if step.val_loss is not None] == [1, 10, 20, 25]
    assert [step.step for step in steps if step.sample == "sample"] == [1, 10, 20, 25]
    assert len(trainer.corpus.val) < ESTIMATE_TOKENS  # so the last estimate is over the whole part
    by_hand = loss_by_hand(trainer.model.eval(), trainer.corpus.val)
    assert trainer.val_loss() == pytest.approx(by_hand)  # in float32; the estimate is in what the run trains in
    assert steps[-1].val_loss == pytest.approx(by_hand, rel=1e-5 if trainer.dtype == torch.float32 else 1e-3)


# --- Stopping early ---------------------------------------------------------------------------------------------------


def test_training_stops_at_the_target(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, max_iters=200)
    steps = list(train(trainer, target_val_loss=2.9))
    assert 1 < len(steps) < 200 and steps[-1].val_loss is not None
    assert trainer.val_loss() <= 2.9
    assert all(step.val_loss > 2.9 for step in steps[:-1] if step.val_loss is not None)


def test_only_the_loss_over_the_whole_part_decides(small_text, small_recipe, monkeypatch):
    """It is looked at when the estimate, and what was missing when it was last looked at, reach the target."""
    estimates = iter([2.1, 1.9, 1.8, 1.6])  # at steps 1, 5, 10 and 15
    true_losses = iter([2.25, 1.95])  # at step 5, 0.35 above the estimate, which then has to reach 1.65

    def pretended_loss(model, ids, max_tokens=None, beside=here, dtype=None):
        return next(estimates if max_tokens else true_losses)

    monkeypatch.setattr(training, "full_loss", pretended_loss)
    trainer = trainer_of(small_text, small_recipe, max_iters=100, eval_interval=5)
    assert len(list(train(trainer, target_val_loss=2.0))) == 15
    assert list(true_losses) == []


def test_an_unreachable_target_changes_nothing(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, max_iters=12)
    assert len(list(train(trainer, target_val_loss=0.0))) == 12 and trainer.finished


# --- Resuming bit for bit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resuming_goes_on_bit_for_bit(optimizer, small_text, small_recipe, tmp_path):
    def make(seed: int = 1337) -> Trainer:
        return trainer_of(
            small_text, small_recipe, dropout=0.2, sampler=write_sample, optimizer=optimizer, seed=seed, eval_interval=7
        )

    straight = make()
    for _ in range(14):
        straight.step()

    first, neighbour = make(), make(seed=7)
    for _ in range(6):
        first.step()
        neighbour.step()
        torch.manual_seed(0)
        torch.rand(100)
    first.save_state(tmp_path / "state")
    for _ in range(3):
        first.step()  # saving has not disturbed it

    torch.manual_seed(99)
    resumed = make()
    resumed.load_state(tmp_path / "state")
    for _ in range(8):
        neighbour.step()
        resumed.step()
        torch.rand(5)

    assert without_clock(resumed.history) == without_clock(straight.history)
    assert all_equal(weights_of(resumed), weights_of(straight))
    assert resumed.val_loss() == straight.val_loss()
    assert without_clock(first.history) == without_clock(straight.history)[:9]
    assert without_clock(neighbour.history) != without_clock(straight.history)
    assert resumed.history[:6] == first.history[:6]  # the clock of the first part included
    assert resumed.history[6].seconds > resumed.history[5].seconds  # and it goes on from there


def test_a_state_can_be_used_twice(small_text, small_recipe, tmp_path):
    trainer = trainer_of(small_text, small_recipe, dropout=0.2)
    for _ in range(3):
        trainer.step()
    trainer.save_state(tmp_path / "state")
    ends = []
    for _ in range(2):
        trainer.load_state(tmp_path / "state")
        for _ in range(4):
            trainer.step()
        ends.append((without_clock(trainer.history), weights_of(trainer)))
    assert ends[0][0] == ends[1][0] and all_equal(ends[0][1], ends[1][1])


def test_a_trainer_can_go_back_to_a_state_before_its_first_step(small_text, small_recipe, tmp_path):
    """What its optimizers remember of steps that are no more must be gone, too."""
    trainer = trainer_of(small_text, small_recipe, dropout=0.2)
    trainer.save_state(tmp_path / "state")
    ends = []
    for _ in range(2):
        for _ in range(4):
            trainer.step()
        ends.append((without_clock(trainer.history), weights_of(trainer)))
        trainer.load_state(tmp_path / "state")
    assert ends[0][0] == ends[1][0] and all_equal(ends[0][1], ends[1][1])


def test_a_state_goes_on_with_somebody_beside(second_thread, small_text, small_recipe, tmp_path):
    """And back again: a run of the page can be taken up by the command line, which has a thread more."""
    straight, first, second, third = (
        trainer_of(small_text, small_recipe, dropout=0.2, beside=beside)
        for beside in (here, second_thread, here, second_thread)
    )
    for _ in range(12):
        straight.step()
    for n, (trainer, following) in enumerate(((first, second), (second, third), (third, None))):
        for _ in range(4):
            trainer.step()
        if following:
            trainer.save_state(tmp_path / f"state {n}")
            following.load_state(tmp_path / f"state {n}")
    assert without_clock(third.history) == without_clock(straight.history)
    assert all_equal(weights_of(third), weights_of(straight))


def moments_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    return {
        f"{kind} of {names[id(p)]}": moment.clone()
        for optimizer in trainer.optimizers
        for p, moments in optimizer.state.items()
        for kind, moment in moments.items()
    }


@pytest.mark.parametrize(("before", "after"), [(8, 1), (1, 8)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_moments_go_to_their_weights_however_many_parts_there_are(
    optimizer, before, after, small_text, small_recipe, tmp_path
):
    """A batch of one row has no halves, and Muon then no two parts; so have processes that share a batch."""
    trainer, other = (
        trainer_of(small_text, small_recipe, optimizer=optimizer, batch_size=batch_size)
        for batch_size in (before, after)
    )
    assert len(trainer.losses) != len(other.losses)
    for _ in range(5):
        trainer.step()
    trainer.save_state(tmp_path / "state")
    other.load_state(tmp_path / "state")
    assert all_equal(moments_of(other), moments_of(trainer))
    kinds = ["momentum"] if optimizer == "muon" else ["exp_avg", "exp_avg_sq"]
    for name, weight in other.model.named_parameters():
        hidden = name.startswith("h.") and weight.dim() == 2
        for kind in kinds if hidden else ["exp_avg", "exp_avg_sq"]:
            assert moments_of(other)[f"{kind} of {name}"].shape == weight.shape
    assert math.isfinite(other.step().train_loss)


@pytest.mark.parametrize("other", ["text", "shape", "dropout"])
def test_a_state_of_another_text_or_model_is_refused(other, small_text, small_recipe, tmp_path):
    text = Text(small_text.name, small_text.text.replace("goose", "geese")) if other == "text" else small_text
    recipe = replace(small_recipe, model=replace(small_recipe.model, n_head=4)) if other == "shape" else small_recipe
    stranger = trainer_of(text, recipe, dropout=0.3 if other == "dropout" else 0.0)
    stranger.step()
    stranger.save_state(tmp_path / "state")
    trainer, untouched = (trainer_of(small_text, small_recipe) for _ in range(2))
    with pytest.raises(BadInput, match="another text or another model: give the same text and settings"):
        trainer.load_state(tmp_path / "state")
    assert without_clock(list(train(trainer))) == without_clock(list(train(untouched)))


def test_a_state_remembers_the_changed_learning_rate(small_text, small_recipe, tmp_path):
    trainer = trainer_of(small_text, small_recipe)
    trainer.set_learning_rate(0.005)
    trainer.save_state(tmp_path / "state")
    resumed = trainer_of(small_text, small_recipe)
    resumed.load_state(tmp_path / "state")
    assert resumed.step().learning_rate == trainer.step().learning_rate == pytest.approx(0.005)


def test_a_state_before_the_first_step_is_one_too(small_text, small_recipe, tmp_path):
    trainer_of(small_text, small_recipe, dropout=0.2).save_state(tmp_path / "state")
    straight, resumed = (trainer_of(small_text, small_recipe, dropout=0.2) for _ in range(2))
    resumed.load_state(tmp_path / "state")
    assert resumed.history == [] and saved_history(tmp_path / "state") == []
    assert without_clock(list(train(resumed))) == without_clock(list(train(straight)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_state_remembers_the_last_good_weights(optimizer, small_text, small_recipe, tmp_path):
    trainer = trainer_of(small_text, small_recipe, dropout=0.2, optimizer=optimizer)
    for _ in range(10):
        trainer.step()
    good = weights_of(trainer)
    for _ in range(3):
        trainer.step()
    trainer.save_state(tmp_path / "state")
    resumed = trainer_of(small_text, small_recipe, dropout=0.2, optimizer=optimizer)
    resumed.load_state(tmp_path / "state")
    assert all_equal(weights_of(resumed), weights_of(trainer)) and not all_equal(weights_of(resumed), good)
    resumed.back_to_good_weights()
    assert_back_at(resumed, 10, good)


def test_the_history_of_a_state_can_be_read_by_itself(small_text, small_recipe, tmp_path):
    trainer = trainer_of(small_text, small_recipe, sampler=write_sample)
    for _ in range(11):
        trainer.step()
    trainer.save_state(tmp_path / "state")
    assert saved_history(tmp_path / "state") == trainer.history
    assert trainer.history[0].sample and trainer.history[1].sample is None


def test_a_state_that_cannot_be_written_is_an_error_of_the_system(small_text, small_recipe, tmp_path):
    """As of a full disk: here the system takes no more than 20 kB into a file."""
    trainer = trainer_of(small_text, small_recipe)
    trainer.step()
    with pytest.raises(OSError):
        trainer.save_state(tmp_path / "no such folder" / "state")
    with no_file_beyond(20_000), pytest.raises(OSError, match="File too large"):
        trainer.save_state(tmp_path / "state")
    assert list(tmp_path.iterdir()) == []
    trainer.save_state(tmp_path / "state")  # the trainer itself has taken no harm
    assert saved_history(tmp_path / "state") == trainer.history


def test_the_seed_decides_everything(small_text, small_recipe):
    runs = [trainer_of(small_text, small_recipe, dropout=0.2, seed=seed, max_iters=5) for seed in (3, 3, 4)]
    for run in runs:
        torch.rand(7)  # nobody's business
        list(train(run))
    same, again, other = ([step.train_loss for step in run.history] for run in runs)
    assert same == again != other


# --- A loss that is not finite ----------------------------------------------------------------------------------------


def assert_back_at(trainer: Trainer, n_steps: int, weights: dict) -> None:
    """The trainer has the weights and the history of that step, and what it publishes is sound."""
    assert trainer.n_steps == n_steps and [step.step for step in trainer.history] == list(range(1, n_steps + 1))
    assert all_equal(weights_of(trainer), weights)
    assert math.isfinite(trainer.val_loss())
    assert from_bytes(to_bytes(trainer.checkpoint("kept"))).step == n_steps


def test_a_run_that_diverges_keeps_its_last_good_weights(small_text, small_recipe):
    """With a decay of 1 and a learning rate of 10 each step multiplies the matrices by -9: no float holds that long."""
    trainer = trainer_of(
        small_text,
        small_recipe,
        optimizer="adamw",
        learning_rate=10.0,
        weight_decay=1.0,
        warmup_iters=0,
        max_iters=1000,
        eval_interval=5,
    )
    evaluated = {0: weights_of(trainer)}
    with pytest.raises(Diverged) as caught:
        for step in train(trainer):
            if step.val_loss is not None:
                evaluated[step.step] = weights_of(trainer)
    assert 0 < max(evaluated) < 1000
    assert_back_at(trainer, max(evaluated), evaluated[max(evaluated)])
    message = str(caught.value)
    assert f"the weights of step {max(evaluated)} are kept" in message
    assert "learning rate of 2.5" in message and "warm-up" in message


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_poisoned_weight_stops_the_run(poison, small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe)
    for _ in range(10):
        trainer.step()
    good = weights_of(trainer)
    for _ in range(3):
        trainer.step()
    trainer.model.lm_head.weight.data[0, 0] = poison
    with pytest.raises(Diverged, match=r"at step 14, so training stopped; the weights of step 10 are kept\. Try"):
        trainer.step()
    assert_back_at(trainer, 10, good)


def test_diverging_before_the_first_step_is_over_keeps_the_first_weights(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe)
    good = weights_of(trainer)
    trainer.model.lm_head.weight.data[0, 0] = math.nan
    with pytest.raises(Diverged, match="weights of step 0"):
        trainer.step()
    assert_back_at(trainer, 0, good)


def test_a_gradient_that_is_not_finite_stops_the_run(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe)
    good = weights_of(trainer)
    trainer.model.ln_f.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(Diverged):
        trainer.step()
    assert_back_at(trainer, 0, good)


def test_diverging_in_the_very_last_step_is_noticed(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, max_iters=11)
    for _ in range(10):
        trainer.step()
    good = weights_of(trainer)
    trainer.optimizers[0].register_step_post_hook(lambda *_: trainer.model.lm_head.weight.data.fill_(math.nan))
    with pytest.raises(Diverged):
        trainer.step()
    assert_back_at(trainer, 10, good)


def test_weights_that_are_not_finite_never_count_as_good(small_text, small_recipe):
    """The step after which the weights broke was itself in order, and an evaluation came due just then."""
    trainer = trainer_of(small_text, small_recipe)
    for _ in range(10):
        trainer.step()
    good = weights_of(trainer)
    for _ in range(9):
        trainer.step()
    trainer.optimizers[0].register_step_post_hook(lambda *_: trainer.model.lm_head.weight.data.fill_(math.nan))
    with pytest.raises(Diverged):
        trainer.step()
        trainer.step()
    assert_back_at(trainer, 10, good)


# --- Fine-tuning and published checkpoints ----------------------------------------------------------------------------


def test_fine_tuning_goes_on_from_the_checkpoint(tiny_checkpoint, small_recipe):
    start = {name: weight.clone() for name, weight in tiny_checkpoint.weights.items()}
    other_shape = replace(small_recipe, tokenizer="bpe", model=replace(small_recipe.model, n_layer=5, dropout=0.1))
    trainer = make_trainer(SECOND_TEXT, other_shape, start=tiny_checkpoint)

    assert all_equal(trainer.model.state_dict(), start)
    assert trainer.tokenizer is tiny_checkpoint.tokenizer
    assert trainer.config == replace(tiny_checkpoint.config, dropout=0.1)
    assert trainer.corpus.train.tolist() == trainer.tokenizer.encode(
        SECOND_TEXT.text[: int(0.9 * len(SECOND_TEXT.text))]
    )

    before = trainer.val_loss()
    assert before == full_loss(tiny_checkpoint.model, trainer.corpus.val)
    list(train(trainer))
    assert trainer.val_loss() < before - 0.1
    assert all_equal(tiny_checkpoint.weights, start)  # the checkpoint it started from is as it was


def test_fine_tuning_adds_to_the_provenance_and_starts_a_new_history(tiny_checkpoint, small_recipe):
    trainer = make_trainer(SECOND_TEXT, small_recipe, start=tiny_checkpoint)
    trainer.step()
    tuned = trainer.checkpoint("Fox")
    assert [text.name for text in tuned.provenance] == ["verses.txt", "fox.txt"]
    assert tuned.provenance[0] == tiny_checkpoint.provenance[0]
    assert tuned.step == 1


@pytest.fixture
def tuning(tiny_checkpoint, small_text, small_recipe) -> Callable[..., Trainer]:
    """Makes trainers that go on from the tiny checkpoint with another text, and see what is forgotten of its own."""

    def make(first: Text | None = small_text) -> Trainer:
        recipe = replace(small_recipe, model=replace(small_recipe.model, dropout=0.2))
        return make_trainer(SECOND_TEXT, recipe, tiny_checkpoint, write_sample, first)

    return make


def loss_on_the_end_of(text: Text, model: GPT, checkpoint: Checkpoint) -> float:
    """On its last tenth, which is shorter than what an evaluation looks at."""
    ids = checkpoint.tokenizer.encode(text.text[int(0.9 * len(text.text)) :])
    assert len(ids) < ESTIMATE_TOKENS
    return full_loss(model, torch.tensor(ids))


@pytest.mark.usefixtures("in_float32")
def test_evaluations_measure_what_is_forgotten_of_the_first_text(tuning, tiny_checkpoint, small_text):
    trainer, evaluated = tuning(), []
    for step in train(trainer):
        if step.val_loss is None:
            assert step.first_val_loss is None
            continue
        evaluated.append(step)
        assert step.first_val_loss == loss_on_the_end_of(small_text, trainer.model, tiny_checkpoint)
        assert step.val_loss == loss_on_the_end_of(SECOND_TEXT, trainer.model, tiny_checkpoint)
    assert [step.step for step in evaluated] == [1, 10, 20, 30]
    assert trainer.first_val_loss() == evaluated[-1].first_val_loss
    assert trainer.beginning == Beginning(
        loss_on_the_end_of(SECOND_TEXT, tiny_checkpoint.model, tiny_checkpoint),
        write_sample(tiny_checkpoint.model, tiny_checkpoint.tokenizer),
        loss_on_the_end_of(small_text, tiny_checkpoint.model, tiny_checkpoint),
        "verses.txt",
    )
    # It learns the one text and forgets the other.
    assert evaluated[-1].val_loss < trainer.beginning.val_loss - 0.3
    assert evaluated[-1].first_val_loss > trainer.beginning.first_val_loss + 0.3

    tuned = trainer.checkpoint("Fox", trainer.val_loss(), trainer.first_val_loss())
    assert from_bytes(to_bytes(tuned)).past == tuned.past
    assert (tuned.beginning, tuned.first_val_loss) == (trainer.beginning, evaluated[-1].first_val_loss)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(("first", "n_texts"), [(None, 1), (Text("first.txt", SECOND_TEXT.text), 2)])
def test_two_texts_share_the_tokens_of_an_evaluation(first, n_texts, tuning, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(training, "ESTIMATE_TOKENS", 96)
    trainer = tuning(first)
    trainer.step()
    own, other = (full_loss(tiny_checkpoint.model, trainer.corpus.val, 96 // n) for n in (n_texts, 3 - n_texts))
    assert trainer.beginning.val_loss == own != other
    assert trainer.beginning.first_val_loss == (own if first else None)


@pytest.mark.parametrize("first", [None, Text("short.txt", "goose")])
def test_fine_tuning_is_the_same_whether_or_not_the_first_text_is_at_hand(first, tuning):
    watched, alone = tuning(), tuning(first)
    list(train(watched)), list(train(alone))
    assert without_clock(alone.history) == [
        astuple(replace(step, seconds=0.0, first_val_loss=None)) for step in watched.history
    ]
    assert all_equal(weights_of(alone), weights_of(watched))
    assert alone.beginning == replace(watched.beginning, first_val_loss=None, first_text=None)
    assert alone.first_val_loss() is None


def test_a_state_of_fine_tuning_remembers_where_it_began(tuning, tmp_path):
    straight, stopped, resumed = tuning(), tuning(), tuning()
    list(train(straight))
    for _ in range(13):
        stopped.step()
    stopped.save_state(tmp_path / "state")
    resumed.load_state(tmp_path / "state")
    assert resumed.beginning == straight.beginning
    list(train(resumed))
    assert without_clock(resumed.history) == without_clock(straight.history)
    assert all_equal(weights_of(resumed), weights_of(straight))


def test_a_run_that_starts_from_nothing_has_no_beginning(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe)
    assert trainer.step().first_val_loss is None and trainer.beginning is None


def test_a_published_checkpoint_never_changes(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe)
    for _ in range(3):
        trainer.step()
    published = trainer.checkpoint("At step 3", val_loss=3.0)
    weights, file = weights_of(trainer), to_bytes(published)
    for _ in range(5):
        trainer.step()
    assert published.step == 3 and all_equal(published.weights, weights)
    assert to_bytes(published) == file
    assert not all_equal(weights_of(trainer), weights)


def test_a_published_model_cannot_be_trained(tiny_checkpoint):
    assert not tiny_checkpoint.model.training
    assert not any(p.requires_grad for p in tiny_checkpoint.model.parameters())


# --- Making a run -----------------------------------------------------------------------------------------------------


def test_the_tokenizer_sees_only_the_training_part(small_recipe):
    text = Text("ends.txt", "abcdefgh " * 100 + "xyz " * 25)
    trainer = make_trainer(text, small_recipe)
    assert trainer.tokenizer.decode(range(trainer.config.vocab_size - 1)) == " abcdefgh"
    assert trainer.corpus.unknown == 75


def test_impossible_settings_are_refused_before_training(small_text, small_recipe):
    with pytest.raises(BadInput, match="n_head: an embedding of 16 cannot be cut into 3 equal heads"):
        make_trainer(small_text, replace(small_recipe, model=replace(small_recipe.model, n_head=3)))
    with pytest.raises(BadInput, match="batch_size"):
        trainer_of(small_text, small_recipe, batch_size=0)
