"""The model's loss in fewer passes: against the model itself, each part against torch's, bfloat16 against float32."""

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
    loss, plain_loss = fused.loss(ours, x, y, torch.float32), plain.loss(x, y)
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
    fused.loss(ours, x, y, torch.float32)
    plain.loss(x, y)
    assert torch.equal(ours.dropout.generator.get_state(), plain.dropout.generator.get_state())
    assert ours.loss(x, y).item() != plain.eval().loss(x, y).item()  # and there was something to draw


def test_in_evaluation_nothing_is_dropped():
    config = replace(COMBINATIONS[0], dropout=0.5)
    x, y = random_batch(config)
    with torch.inference_mode():
        evaluated = fused.loss(random_model(config).eval(), x, y, torch.float32)
        plain = random_model(replace(config, dropout=0.0)).loss(x, y)
    assert evaluated.item() == pytest.approx(plain.item(), rel=1e-5)


# --- Each part against torch, in float64 where it allows for it -------------------------------------------------------


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.requires_grad_()


def swiglu(both: torch.Tensor) -> torch.Tensor:
    gate, x = both.chunk(2, dim=-1)
    return F.silu(gate) * x


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (fused.GELU, partial(F.gelu, approximate="tanh")),
        (fused.SquaredReLU, lambda x: F.relu(x).square()),
        (fused.SwiGLU, swiglu),
    ],
)
def test_activations_are_torchs(ours, plain):
    x = random(5, 4, 6)
    torch.testing.assert_close(ours.apply(x), plain(x))
    assert torch.autograd.gradcheck(ours.apply, x)


@pytest.mark.parametrize(
    ("ours", "plain"), [(fused.GELU, partial(F.gelu, approximate="tanh")), (fused.SquaredReLU, lambda x: x.relu() ** 2)]
)
def test_activations_of_numbers_far_out(ours, plain):
    """Where a gate is open or shut for good, and no gradient may become something that is no number."""
    one, other = (torch.tensor([-300.0, -30, -3, 0, 3, 30, 300], requires_grad=True) for _ in range(2))
    ours.apply(one).sum().backward()
    plain(other).sum().backward()
    torch.testing.assert_close(ours.apply(one), plain(other))
    torch.testing.assert_close(one.grad, other.grad)


def test_rotation_is_the_models():
    x, table = random(2, 3, 2, 5, 6), [t.double() for t in rotary_table(5, 6)]
    torch.testing.assert_close(fused.Rotate.apply(x, *table), rotate(x, *table))
    assert torch.autograd.gradcheck(lambda x: fused.Rotate.apply(x, *table), x)


@pytest.mark.parametrize("drops", [False, True])
def test_attention_is_the_models(drops):
    q, k, v = (random(2, 3, 5, 4, seed=seed) for seed in range(3))
    keep = (random(2, 3, 5, 5, seed=4) > 0) * 2.0 if drops else None

    def ours(q, k, v):
        return fused.Attention.apply(q, k, v, causal_mask(5), keep)

    plain, _ = attention(q, k, v, causal_mask(5), lambda weights: weights * keep if drops else weights)
    torch.testing.assert_close(ours(q, k, v), plain)
    assert torch.autograd.gradcheck(ours, (q, k, v))


def test_attention_takes_numbers_that_do_not_lie_side_by_side():
    qkv = random(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)  # as the model cuts them out of one matrix
    expected, _ = attention(*qkv, causal_mask(5))
    torch.testing.assert_close(fused.Attention.apply(*qkv, causal_mask(5), None), expected)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_rms_norm_is_torchs(scale):
    """For vectors so short that `eps` counts, and for long ones."""
    data, weight = random(3, 5, 8).float().detach() * scale, random(8, seed=2).float().detach()
    pull = random(3, 5, 8, seed=3).float().detach()
    x, w, plain_x, plain_w = (tensor.clone().requires_grad_() for tensor in (data, weight, data, weight))
    ours = fused.RMSNorm.apply(x, w[None], 1e-6, torch.float32)
    plain = F.rms_norm(plain_x, (8,), plain_w, 1e-6)
    (ours * pull).sum().backward()
    (plain * pull).sum().backward()
    for one, other in ((ours, plain), (x.grad, plain_x.grad), (w.grad, plain_w.grad)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


def test_linear_is_torchs():
    x, weight = random(3, 5, 8), random(6, 8, seed=2)
    torch.testing.assert_close(fused.Linear.apply(x, weight), F.linear(x, weight))
    pull = random(3, 5, 6, seed=3)
    ours = torch.autograd.grad((fused.Linear.apply(x, weight) * pull).sum(), (x, weight))
    plain = torch.autograd.grad((F.linear(x, weight) * pull).sum(), (x, weight))
    torch.testing.assert_close(ours[0], plain[0])
    torch.testing.assert_close(ours[1], plain[1], rtol=1e-5, atol=1e-5)  # a weight's gradient is float32 at best


# --- In bfloat16 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", COMBINATIONS[::5], ids=name_of)
def test_bfloat16_says_nearly_the_same(config):
    x, y = random_batch(config, B=16)
    exact, rounded = random_model(config), random_model(config)
    exact_loss, rounded_loss = (
        fused.loss(model, x, y, dtype) for model, dtype in ((exact, torch.float32), (rounded, torch.bfloat16))
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
        patch.setattr(fused, "norm", lambda module, x, dtype: seen.append(x.detach()) or norm(module, x, dtype))
        fused.loss(model, x, y, torch.bfloat16)
    assert len(seen) == 2 * config.n_layer + 1
    assert all(torch.equal(stream, model.wte.weight[x]) for stream in seen)
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
