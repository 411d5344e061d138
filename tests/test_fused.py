"""The model's loss in fewer passes: against the model itself, each part against torch's, bfloat16 against float32."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import test_model
import torch
import torch.nn.functional as F

from playground import fused, training
from playground.config import POSITIONS, ModelConfig, Recipe, TrainConfig
from playground.corpus import Text, built_in
from playground.model import GPT, Dropout, attention, causal_mask, rotary_table, rotate
from playground.training import make_trainer, train

COMBINATIONS = [replace(config, dropout=dropout) for config in test_model.COMBINATIONS for dropout in (0.0, 0.3)]


def name_of(config: ModelConfig) -> str:
    return test_model.name_of(config) + ("-dropout" if config.dropout else "")


def random_model(config: ModelConfig) -> GPT:
    """Random numbers everywhere, and dropout from a generator of its own. Every call makes the same model."""
    model, generator = GPT(config), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.1, 0.3, generator=generator)
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = generator
    return model.train()


def random_batch(config: ModelConfig, B: int = 3, T: int = 8) -> torch.Tensor:
    """Tokens and targets (2, B, T)."""
    return torch.randint(config.vocab_size, (2, B, T), generator=torch.Generator().manual_seed(2))


def learned(model: GPT, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient of every weight."""
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


def assert_same_as_the_model(config: ModelConfig, B: int = 3, T: int = 8) -> None:
    x, y = random_batch(config, B, T)
    ours, plain = random_model(config), random_model(config)
    loss, plain_loss = fused.fused_loss(ours, x, y, torch.float32), plain.loss(x, y)
    assert loss.item() == pytest.approx(plain_loss.item(), rel=1e-5)
    gradients = learned(ours, loss)
    for name, gradient in learned(plain, plain_loss).items():
        unit = gradient.abs().max().item()  # what cancels out to nearly nothing is noise beside it
        torch.testing.assert_close(
            gradients[name], gradient, rtol=1e-4, atol=2e-5 * unit + 1e-8, msg=lambda m, n=name: f"{n}: {m}"
        )


# --- In float32 it is the model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", COMBINATIONS, ids=name_of)
def test_loss_and_gradients_are_the_models(config):
    assert_same_as_the_model(config)


@pytest.mark.parametrize(("B", "T"), [(1, 1), (1, 8), (3, 1), (2, 5), (7, 3)])
@pytest.mark.parametrize("position", POSITIONS)
def test_loss_and_gradients_are_the_models_for_batches_of_any_shape(position, B, T):
    assert_same_as_the_model(replace(COMBINATIONS[0], position=position, qk_norm=True, dropout=0.2), B, T)


@pytest.mark.parametrize(("n_layer", "n_head", "n_embd"), [(1, 1, 4), (3, 1, 6), (1, 7, 14)])
def test_loss_and_gradients_are_the_models_for_models_of_any_shape(n_layer, n_head, n_embd):
    shape = {"n_layer": n_layer, "n_head": n_head, "n_embd": n_embd}
    assert_same_as_the_model(replace(COMBINATIONS[0], position="rotary", qk_norm=True, **shape))


@pytest.mark.parametrize("config", COMBINATIONS[1::8], ids=name_of)
def test_dropout_draws_what_the_models_draws(config):
    """So a run can go on with the other: after the loss both generators stand at the same place."""
    x, y = random_batch(config)
    ours, plain = random_model(config), random_model(config)
    fused.fused_loss(ours, x, y, torch.float32)
    plain.loss(x, y)
    assert torch.equal(ours.dropout.generator.get_state(), plain.dropout.generator.get_state())
    assert ours.loss(x, y).item() != plain.eval().loss(x, y).item()  # and there was something to draw


def test_in_evaluation_nothing_is_dropped():
    config = replace(COMBINATIONS[0], dropout=0.5)
    x, y = random_batch(config)
    with torch.inference_mode():
        evaluated = fused.fused_loss(random_model(config).eval(), x, y, torch.float32)
        plain = random_model(replace(config, dropout=0.0)).loss(x, y)
    assert evaluated.item() == pytest.approx(plain.item(), rel=1e-5)


def test_a_loss_is_differentiated_only_once():
    model = random_model(COMBINATIONS[0])
    loss = fused.fused_loss(model, *random_batch(COMBINATIONS[0]), torch.float32)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        loss.backward()


def test_gradients_are_taken_over_without_a_copy(monkeypatch):
    model, kept, linear = random_model(COMBINATIONS[0]), {}, fused.linear

    def watched(module, x, learned):
        y, back = linear(module, x, learned)

        def back_and_keep(grad):
            grad = back(grad)
            kept[module.weight] = learned[module.weight].data_ptr()
            return grad

        return y, back_and_keep

    monkeypatch.setattr(fused, "linear", watched)
    fused.fused_loss(model, *random_batch(COMBINATIONS[0]), torch.float32).backward()
    assert len(kept) == 4 * COMBINATIONS[0].n_layer + 1
    assert all(weight.grad.data_ptr() == place for weight, place in kept.items())


# --- Each part against torch and its autograd, in float64 -------------------------------------------------------------


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same(ours: torch.Tensor, back: Callable, plain: Callable, *inputs: torch.Tensor) -> None:
    """A part computes what `plain` does, and its `back` returns the gradients by the inputs, one after the other."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    expected = plain(*inputs)
    torch.testing.assert_close(ours, expected.detach())
    pull = random(*ours.shape, seed=9).to(ours.dtype)
    gradients = back(pull.clone())
    gradients = [gradients] if isinstance(gradients, torch.Tensor) else list(gradients)
    torch.testing.assert_close(gradients, list(torch.autograd.grad(expected, inputs, pull)))


def swiglu(both: torch.Tensor) -> torch.Tensor:
    gate, x = both.chunk(2, dim=-1)
    return F.silu(gate) * x


ACTIVATIONS = [
    (fused.gelu, partial(F.gelu, approximate="tanh")),
    (fused.squared_relu, lambda x: F.relu(x).square()),
    (fused.swiglu, swiglu),
]


@pytest.mark.parametrize(("ours", "plain"), ACTIVATIONS)
def test_activations_are_torchs(ours, plain):
    x = random(20, 6)
    assert_same(*ours(x), plain, x)


@pytest.mark.parametrize(("ours", "plain"), ACTIVATIONS)
def test_activations_of_numbers_far_out(ours, plain):
    """Where a gate is open or shut for good, and no gradient may become something that is no number."""
    far = torch.tensor([[-300.0, -30, -3, 0, 3, 30, 300, 1]])
    assert_same(*ours(far), plain, far)


def test_rotation_is_the_models():
    x, table = random(2, 3, 2, 5, 6), [t.double() for t in rotary_table(5, 6)]
    assert_same(*fused.turn(x, *table), lambda x: rotate(x, *table), x)


def dropout(p: float) -> Dropout:
    """Every call makes one that draws the same."""
    module = Dropout(p)
    module.generator = torch.Generator().manual_seed(1)
    return module


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_attention_is_the_models(p):
    q, k, v = (random(2, 3, 5, 4, seed=seed) for seed in range(3))
    y, back = fused.gather(q, k, v, causal_mask(5), dropout(p))

    def back_to_each(grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        grad_qk, grad_v = back(grad)
        return *grad_qk, grad_v

    assert_same(y, back_to_each, lambda q, k, v: attention(q, k, v, causal_mask(5), dropout(p))[0], q, k, v)


def test_attention_takes_numbers_that_do_not_lie_side_by_side():
    qkv = random(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)  # as the model cuts them out of one matrix
    y, back = fused.gather(*qkv, causal_mask(5), dropout(0.0))
    torch.testing.assert_close(y, attention(*qkv, causal_mask(5))[0])
    assert back(random(2, 5, 3, 4).transpose(1, 2))[0].shape == (2, 2, 3, 5, 4)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_rms_norm_is_torchs(scale):
    """For vectors so short that `eps` counts, and for long ones."""
    x, weight = random(15, 8) * scale, random(8, seed=2)
    y, back = fused.rms_norm(x, weight[None], 1e-6)

    def back_to_each(grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        grad_x, grad_weight = back(grad)
        return grad_x, grad_weight[0]

    assert_same(y, back_to_each, lambda x, weight: F.rms_norm(x, (8,), weight, 1e-6), x, weight)


def test_queries_and_keys_are_normalised_by_weights_of_their_own():
    q_norm, k_norm = (torch.nn.RMSNorm(4, eps=1e-6, dtype=torch.float64) for _ in range(2))
    q_norm.weight.data, k_norm.weight.data = random(4, seed=1), random(4, seed=2)
    qk, learned = random(2, 3, 2, 5, 4), {}
    y, back = fused.norm_heads(q_norm, k_norm, qk, learned)

    def back_to_each(grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return back(grad), learned[q_norm.weight], learned[k_norm.weight]

    def plain(qk: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return torch.stack([F.rms_norm(x, (4,), weight, 1e-6) for x, weight in zip(qk, weights, strict=True)])

    assert_same(y, back_to_each, plain, qk, q_norm.weight.detach(), k_norm.weight.detach())


@pytest.mark.parametrize("has_bias", [False, True])
def test_layer_norm_is_torchs(has_bias):
    x, *weights = random(15, 8), random(8, seed=2), *([random(8, seed=3)] if has_bias else [])
    bias = weights[1] if has_bias else None
    y, back = fused.layer_norm(x, weights[0], bias, 1e-5)
    assert_same(y, back, lambda x, weight, bias=None: F.layer_norm(x, (8,), weight, bias, 1e-5), x, *weights)


@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_is_torchs(has_bias):
    module, x, learned = torch.nn.Linear(8, 6, bias=has_bias).requires_grad_(False), random(15, 8).float(), {}
    y, back = fused.linear(module, x, learned)
    weights = list(module.parameters())
    assert_same(y, lambda grad: (back(grad), *(learned[weight] for weight in weights)), F.linear, x, *weights)


# --- In bfloat16 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", COMBINATIONS[::5], ids=name_of)
def test_bfloat16_says_nearly_the_same(config):
    x, y = random_batch(config, B=16)
    exact, rounded = random_model(config), random_model(config)
    exact_loss, rounded_loss = (
        fused.fused_loss(model, x, y, dtype) for model, dtype in ((exact, torch.float32), (rounded, torch.bfloat16))
    )
    assert rounded_loss.dtype == torch.float32
    assert rounded_loss.item() == pytest.approx(exact_loss.item(), rel=0.002)
    gradients = learned(rounded, rounded_loss)
    everything = torch.cat([gradient.flatten() for gradient in learned(exact, exact_loss).values()])
    for name, weight in exact.named_parameters():
        assert gradients[name].dtype == torch.float32
        if weight.grad.norm() > 1e-3 * everything.norm():  # less than that is rounding itself
            cosine = F.cosine_similarity(gradients[name].flatten(), weight.grad.flatten(), dim=0)
            assert cosine > 0.99, f"{name}: {cosine:.4f}"
            assert gradients[name].norm().item() == pytest.approx(weight.grad.norm().item(), rel=0.05), name


def test_bfloat16_leaves_the_weights_and_the_residual_stream_as_they_are():
    """What passes from layer to layer is float32: with layers that add nothing, tokens come through unrounded."""
    config = replace(COMBINATIONS[0], position="none", norm="rmsnorm", bias=False, dropout=0.0)
    model, seen = GPT(config, torch.Generator().manual_seed(1)), []
    norm = fused.norm
    x, y = random_batch(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "norm", lambda module, x, *rest: seen.append(x) or norm(module, x, *rest))
        fused.fused_loss(model, x, y, torch.bfloat16)
    assert len(seen) == 2 * config.n_layer + 1
    assert all(torch.equal(stream, model.wte.weight[x.flatten()]) for stream in seen)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_training_in_bfloat16_ends_where_one_in_float32_does(optimizer, monkeypatch):
    """Within 0.01 nats of a loss that has fallen by more than one; another seed makes up to 0.035."""
    stories = built_in("stories")
    text = Text(stories.name, stories.text[:50_000])
    model = ModelConfig(block_size=32, n_layer=2, n_head=2, n_embd=64)
    rate = 0.02 if optimizer == "muon" else 0.003
    settings = TrainConfig(max_iters=150, batch_size=8, optimizer=optimizer, learning_rate=rate, eval_interval=150)
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(training, "training_dtype", lambda device, dtype=dtype: dtype)
        trainer = make_trainer(text, Recipe("Test", "char", 300, model, settings), device="cpu")
        first, *_ = train(trainer)
        losses[dtype] = trainer.val_loss()
        assert losses[dtype] < first.val_loss - 1
    assert losses[torch.bfloat16] != losses[torch.float32]
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], abs=0.01)


@pytest.mark.parametrize("feature", ["amx_bf16", "avx512_bf16", "bf16"])
def test_a_processor_with_instructions_for_bfloat16_uses_them(feature, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, feature: True})
    assert fused.matmul_dtype() == torch.bfloat16


@pytest.mark.parametrize(
    "capabilities",
    [{}, {"avx2": True, "avx512_f": True, "amx_bf16": False, "avx512_bf16": False}, {"neon": True, "bf16": False}],
)
def test_a_processor_without_them_stays_with_float32(capabilities, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fused.matmul_dtype() == torch.float32
