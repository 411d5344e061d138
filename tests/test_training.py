"""Training: each step against plain arithmetic, and runs that can be stopped, resumed and survive bad luck."""

import math
from collections import Counter
from dataclasses import astuple, replace

import pytest
import torch
import torch.nn.functional as F
from surroundings import no_file_beyond

from playground import training
from playground.checkpoint import TrainStep, from_bytes, to_bytes
from playground.config import OPTIMIZERS, Recipe, TrainConfig
from playground.corpus import Text, get_batch
from playground.errors import BadInput
from playground.generation import write_sample
from playground.model import GPT
from playground.training import (
    EMBEDDING_RATE,
    ESTIMATE_TOKENS,
    Diverged,
    Trainer,
    check_learning_rate,
    full_loss,
    get_lr,
    make_trainer,
    saved_history,
    train,
)

SECOND_TEXT = Text("fox.txt", "The quick brown fox jumps over the lazy dog, and the dog says nothing at all.\n" * 20)


def trainer_of(text: Text, recipe: Recipe, dropout: float = 0.0, sampler=None, **settings) -> Trainer:
    """A trainer of the small recipe with some settings changed."""
    model = replace(recipe.model, dropout=dropout)
    return make_trainer(text, replace(recipe, model=model, train=replace(recipe.train, **settings)), sampler=sampler)


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


def test_muons_step_is_the_orthogonal_part_of_the_gradient(small_text, small_recipe):
    """At the first step there is no momentum yet, so the update is U Vᵀ of the gradient's U S Vᵀ, but for rounding.

    Muon's five Newton-Schulz rounds bring the singular values to about 0.7 to 1.2 (Jordan 2024); one that is next to
    nothing in the gradient may lag behind.
    """
    trainer = trainer_of(small_text, small_recipe, grad_clip=0.0)
    weights = weights_of(trainer)
    gradients, _ = gradients_by_hand(weights, trainer, torch.Generator().manual_seed(trainer.train_config.seed))
    learning_rate = trainer.step().learning_rate
    for name, weight in weights_of(trainer).items():
        if not name.startswith("h.") or not gradients[name].any() or weight.dim() < 2:
            continue
        U, S, Vt = torch.linalg.svd(gradients[name], full_matrices=False)
        assert S.max() > 10 * S.min()  # far from orthogonal itself
        update = (weights[name] - weight) / learning_rate  # (16, 16) or (16, 64): not taller than wide, so not scaled
        stretch = (U.T @ update @ Vt.T).diagonal()  # of each of the gradient's directions
        assert stretch.max() < 1.3 and (stretch > 0.6).float().mean() > 0.9
        assert F.cosine_similarity(update.flatten(), (U @ Vt).flatten(), dim=0) > 0.9


def test_muon_moves_every_matrix_of_the_layers_orthogonally(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe)
    trainer.step()  # the first leaves in place whatever stands before a c_proj, which starts at zero
    before = weights_of(trainer)
    learning_rate = trainer.step().learning_rate
    n_matrices = 0
    for name, weight in weights_of(trainer).items():
        if name.startswith("h.") and weight.dim() == 2:
            rows, columns = weight.shape
            update = (before[name] - weight) / learning_rate / math.sqrt(max(1, rows / columns))
            stretch = torch.linalg.svdvals(update)
            assert stretch.max() < 1.3 and (stretch > 0.6).float().mean() > 0.9, name
            n_matrices += 1
    assert n_matrices == 4 * trainer.config.n_layer


def test_beside_muon_adam_moves_the_tables_and_vectors(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, grad_clip=0.0, batch_size=64)
    before = weights_of(trainer)
    gradients, _ = gradients_by_hand(before, trainer, torch.Generator().manual_seed(trainer.train_config.seed))
    learning_rate = trainer.step().learning_rate
    for name in ("wte.weight", "lm_head.weight", "ln_f.weight"):
        gradient = gradients[name]
        clear = gradient.abs() > 1e-5  # beside Adam's epsilon of 1e-8
        update = before[name] - weights_of(trainer)[name]
        by_hand = EMBEDDING_RATE * learning_rate * gradient.sign()  # what Adam's first step is
        torch.testing.assert_close(update[clear], by_hand[clear], rtol=2e-2, atol=1e-6)
        assert clear.any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_weight_is_moved_by_one_optimizer(optimizer, small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, optimizer=optimizer)
    moved = [p for opt in trainer.optimizers for group in opt.param_groups for p in group["params"]]
    assert Counter(map(id, moved)) == Counter(map(id, trainer.model.parameters()))


@pytest.mark.parametrize("grad_clip", [0.0, 0.1])
def test_gradients_are_clipped_after_their_length_is_noted(grad_clip, small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, optimizer="adam", grad_clip=grad_clip)
    seen = []
    trainer.optimizers[0].register_step_pre_hook(lambda *_: seen.append([p.grad for p in trainer.model.parameters()]))
    step = trainer.step()
    length = math.sqrt(sum(gradient.double().square().sum().item() for gradient in seen[0]))
    assert step.grad_norm > 0.5
    assert length == pytest.approx(grad_clip or step.grad_norm, rel=1e-4)


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
    before = trainer.dropout_rng.get_state()
    assert trainer.val_loss() == trainer.val_loss()
    assert torch.equal(trainer.dropout_rng.get_state(), before)
    assert trainer.model.training


def test_evaluations_come_when_they_are_due(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, max_iters=25, sampler=lambda model, tokenizer: "sample")
    steps = list(train(trainer))
    assert [step.step for step in steps] == list(range(1, 26))
    assert [step.step for step in steps if step.val_loss is not None] == [1, 10, 20, 25]
    assert [step.step for step in steps if step.sample == "sample"] == [1, 10, 20, 25]
    assert len(trainer.corpus.val) < ESTIMATE_TOKENS  # so the last estimate is over the whole part
    assert (
        steps[-1].val_loss
        == trainer.val_loss()
        == pytest.approx(loss_by_hand(trainer.model.eval(), trainer.corpus.val))
    )


# --- Stopping early ---------------------------------------------------------------------------------------------------


def test_training_stops_at_the_target(small_text, small_recipe):
    trainer = trainer_of(small_text, small_recipe, max_iters=200)
    steps = list(train(trainer, target_val_loss=2.9))
    assert 1 < len(steps) < 200 and steps[-1].val_loss is not None
    assert trainer.val_loss() <= 2.9
    assert all(step.val_loss > 2.9 for step in steps[:-1] if step.val_loss is not None)


def test_only_the_loss_over_the_whole_part_decides(small_text, small_recipe, monkeypatch):
    """The estimates are below the target from the start, and what they estimate reaches it at the third time."""
    true_losses = iter([3.0, 2.5, 2.0])

    def pretended_loss(model, ids, max_tokens=None):
        return 1.9 if max_tokens else next(true_losses)

    monkeypatch.setattr(training, "full_loss", pretended_loss)
    trainer = trainer_of(small_text, small_recipe, max_iters=100, eval_interval=5)
    assert len(list(train(trainer, target_val_loss=2.0))) == 10  # evaluated at steps 1, 5, 10


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
