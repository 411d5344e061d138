"""The model against torch's own modules, against a second one in plain numpy and against numbers worked out by hand."""

import doctest
import math
from collections.abc import Collection, Iterator
from dataclasses import asdict
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from playground import model as model_module
from playground.config import ACTIVATIONS, NORMS, POSITIONS, ModelConfig
from playground.model import (
    GPT,
    MLP,
    Block,
    CausalSelfAttention,
    Dropout,
    Trace,
    attention,
    causal_mask,
    rotary_table,
    rotate,
    sinusoidal_table,
)

COMBINATIONS = [
    ModelConfig(
        vocab_size=11,
        block_size=8,
        n_layer=2,
        n_head=3,
        n_embd=12,
        position=position,
        norm=norm,
        activation=activation,
        qk_norm=qk_norm,
        bias=bias,
    )
    for position, norm, activation, qk_norm, bias in product(
        POSITIONS, NORMS, ACTIVATIONS, (False, True), (False, True)
    )
]


def name_of(config: ModelConfig) -> str:
    switches = [name for name in ("qk_norm", "bias") if getattr(config, name)]
    return "-".join([config.position, config.norm, config.activation, *switches])


every_combination = pytest.mark.parametrize("config", COMBINATIONS, ids=name_of)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with random numbers everywhere: at its start many weights are 0 or 1 and hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.1, 0.3, generator=generator)
    return module.eval()


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_ids(B: int, T: int, config: ModelConfig, seed: int = 1) -> torch.Tensor:
    return torch.randint(config.vocab_size, (B, T), generator=torch.Generator().manual_seed(seed))


def test_the_examples_in_the_lesson_are_true():
    results = doctest.testmod(model_module)
    assert results.attempted > 0 and results.failed == 0


# --- By hand ----------------------------------------------------------------------------------------------------------


def test_attention_on_three_tokens_worked_out_by_hand():
    ln2, ln3 = math.log(2), math.log(3)
    q = torch.tensor([[9.0, 9, 9, 9], [1, 1, 1, 1], [1, 2, 0, 0]])  # (T, hs), and √hs is 2
    k = torch.tensor([[0.0, 0, 0, 0], [2 * ln2, 0, 0, 0], [0, ln3, 0, 0]])
    v = torch.tensor([[6.0, 0, 0, 1], [0, 6, 0, 1], [0, 0, 6, 1]])
    # Scores q·k / 2: token 0 sees only itself.
    # Token 1 sees  0, 2 ln 2 / 2 = ln 2                       e to these: 1, 2      weights 1/3, 2/3
    # Token 2 sees  0, 2 ln 2 / 2 = ln 2, 2 ln 3 / 2 = ln 3    e to these: 1, 2, 3   weights 1/6, 2/6, 3/6
    out, weights = attention(q, k, v, causal_mask(3))
    torch.testing.assert_close(weights, torch.tensor([[1, 0, 0], [1 / 3, 2 / 3, 0], [1 / 6, 2 / 6, 3 / 6]]))
    torch.testing.assert_close(out, torch.tensor([[6.0, 0, 0, 1], [2, 4, 0, 1], [1, 2, 3, 1]]))


def test_the_causal_mask_lets_a_token_see_itself_and_the_past():
    mask = causal_mask(5)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[key <= query for key in range(5)] for query in range(5)]


def test_the_sinusoidal_table_is_the_papers_formula():
    table, C = sinusoidal_table(64, 10), 10
    for position, column in product(range(64), range(C)):
        angle = position / 10_000 ** (2 * (column // 2) / C)
        wave = math.cos if column % 2 else math.sin
        assert table[position, column].item() == pytest.approx(wave(angle), abs=1e-5)


def test_a_rotary_turn_worked_out_by_hand():
    # A head of 4 has the pairs (0, 2) and (1, 3); position t turns the first by t, the second by t / 100.
    cos, sin = rotary_table(4, 4)
    turned = rotate(torch.tensor([1.0, 0, 0, 1]).expand(4, 4), cos, sin)
    expected = [[math.cos(t), -math.sin(t / 100), math.sin(t), math.cos(t / 100)] for t in range(4)]
    torch.testing.assert_close(turned, torch.tensor(expected))


def test_rotary_scores_depend_only_on_the_distance():
    T, hs = 12, 8
    cos, sin = rotary_table(T, hs)
    q, k = random(hs, seed=1).expand(T, hs), random(hs, seed=2).expand(T, hs)  # one query and one key, at every place
    scores = rotate(q, cos, sin) @ rotate(k, cos, sin).T  # (T, T)
    for distance in range(-T + 1, T):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert scores[:, 0].std() > 0.1  # and it does depend on that


def test_squared_relu_and_swiglu_worked_out_by_hand():
    relu2 = MLP(ModelConfig(n_embd=4, n_head=1, activation="relu2", bias=False))
    with torch.no_grad():
        relu2.c_fc.weight.zero_()[:2, :2] = torch.eye(2)  # the two first numbers go in and out as they are
        relu2.c_proj.weight.zero_()[:2, :2] = torch.eye(2)
    assert relu2(torch.tensor([3.0, -3.0, 0, 0])).tolist() == [9.0, 0.0, 0.0, 0.0]

    swiglu = MLP(ModelConfig(n_embd=4, n_head=1, activation="swiglu", bias=False))
    with torch.no_grad():
        swiglu.c_fc.weight.zero_()[0, 0] = 1.0  # number 0 is the gate
        swiglu.c_fc.weight[swiglu.c_proj.in_features, 1] = 1.0  # number 1 is what the gate lets through
        swiglu.c_proj.weight.zero_()[0, 0] = 1.0
    out = swiglu(torch.tensor([2.0, 5.0, 0, 0]))
    assert out.tolist() == pytest.approx([5 * 2 / (1 + math.exp(-2)), 0, 0, 0])  # 5 · silu(2)


def test_the_loss_is_the_mean_surprise_at_the_targets():
    config = COMBINATIONS[0]
    model, idx, targets = randomised(GPT(config)), random_ids(2, 5, config), random_ids(2, 5, config, seed=2)
    logits = model(idx).detach().numpy()
    surprises = [
        math.log(sum(math.exp(z) for z in logits[b, t])) - logits[b, t, targets[b, t]]
        for b, t in product(range(2), range(5))
    ]
    assert model.loss(idx, targets).item() == pytest.approx(sum(surprises) / 10)


# --- torch's own modules ----------------------------------------------------------------------------------------------


def test_attention_is_torchs_scaled_dot_product_attention():
    q, k, v = (random(2, 3, 7, 5, seed=seed) for seed in (1, 2, 3))  # (B, nh, T, hs)
    out, weights = attention(q, k, v, causal_mask(7))
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, is_causal=True))
    torch.testing.assert_close(weights @ v, out)


def copy_attention(ours: CausalSelfAttention, theirs: nn.MultiheadAttention) -> None:
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.c_attn.weight)
        theirs.out_proj.weight.copy_(ours.c_proj.weight)
        if ours.c_attn.bias is not None:
            theirs.in_proj_bias.copy_(ours.c_attn.bias)
            theirs.out_proj.bias.copy_(ours.c_proj.bias)


CLASSIC = {"position": "learned", "norm": "layernorm", "activation": "gelu", "qk_norm": False}


@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_attention_is_torchs(bias):
    config = ModelConfig(n_embd=12, n_head=3, block_size=9, bias=bias, **CLASSIC)
    ours = randomised(CausalSelfAttention(config))
    theirs = nn.MultiheadAttention(12, 3, bias=bias, batch_first=True, dtype=torch.float64).eval()
    copy_attention(ours, theirs)
    x, trace, T = random(2, 7, 12), Trace(), 7
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)  # torch marks what may not be seen
    expected, weights = theirs(x, x, x, attn_mask=hidden, average_attn_weights=False)
    torch.testing.assert_close(ours(x, trace), expected)
    torch.testing.assert_close(trace.attention[0], weights)


def test_a_classic_block_is_torchs_encoder_layer_with_a_causal_mask():
    config = ModelConfig(n_embd=12, n_head=3, block_size=9, bias=True, **CLASSIC)
    ours = randomised(Block(config))
    theirs = nn.TransformerEncoderLayer(
        d_model=12,
        nhead=3,
        dim_feedforward=48,
        dropout=0.0,
        activation=partial(F.gelu, approximate="tanh"),
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    ).eval()
    copy_attention(ours.attn, theirs.self_attn)
    for mine, other in (
        (ours.ln_1, theirs.norm1),
        (ours.ln_2, theirs.norm2),
        (ours.mlp.c_fc, theirs.linear1),
        (ours.mlp.c_proj, theirs.linear2),
    ):
        other.load_state_dict(mine.state_dict())
    x, T = random(2, 7, 12), 7
    torch.testing.assert_close(ours(x), theirs(x, src_mask=torch.ones(T, T, dtype=torch.bool).triu(1)))


# --- A second model in plain numpy ------------------------------------------------------------------------------------


def plain_norm(x: np.ndarray, weights: dict, name: str, kind: str) -> np.ndarray:
    """LayerNorm or RMSNorm over the last axis."""
    if kind == "layernorm":
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weights[f"{name}.weight"]


def plain_linear(x: np.ndarray, weights: dict, name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def plain_rotation(x: np.ndarray) -> np.ndarray:
    """Rotary positions of one head (T, hs): pairs as complex numbers, turned by multiplying."""
    T, hs = x.shape
    turn = np.exp(1j * np.arange(T)[:, None] * 10_000.0 ** (-2 * np.arange(hs // 2) / hs))  # (T, hs/2)
    turned = (x[:, : hs // 2] + 1j * x[:, hs // 2 :]) * turn
    return np.concatenate([turned.real, turned.imag], axis=1)


def plain_head(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """One head, query by query: what each gathers (T, hs), and its weights (T, T)."""
    T, hs = q.shape
    out, weights = np.zeros((T, hs)), np.zeros((T, T))
    for t in range(T):
        n_seen = t + 1 if causal else T
        powers = np.exp([q[t] @ k[other] / math.sqrt(hs) for other in range(n_seen)])
        weights[t, :n_seen] = powers / powers.sum()
        out[t] = sum(weights[t, other] * v[other] for other in range(n_seen))
    return out, weights


def plain_qkv(x: np.ndarray, weights: dict, layer: str, config: ModelConfig, head: int) -> list[np.ndarray]:
    """Queries, keys and values of one head, (T, hs) each, as they are compared."""
    C, hs = config.n_embd, config.head_dim
    qkv = plain_linear(x, weights, f"{layer}.attn.c_attn")  # (T, 3 * C)
    q, k, v = (qkv[:, part * C + head * hs : part * C + (head + 1) * hs] for part in range(3))
    if config.qk_norm:
        q = plain_norm(q, weights, f"{layer}.attn.q_norm", "rmsnorm")
        k = plain_norm(k, weights, f"{layer}.attn.k_norm", "rmsnorm")
    if config.position == "rotary":
        q, k = plain_rotation(q), plain_rotation(k)
    return [q, k, v]


def plain_attention(
    x: np.ndarray, weights: dict, layer: str, config: ModelConfig, off: Collection = (), causal: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """All heads of a layer: their mixed output (T, C), and their weights (nh, T, T). Heads that are `off` output 0."""
    outs, heads = [], []
    for head in range(config.n_head):
        out, head_weights = plain_head(*plain_qkv(x, weights, layer, config, head), causal)
        outs.append(np.zeros_like(out) if head in off else out)
        heads.append(head_weights)
    return plain_linear(np.concatenate(outs, axis=1), weights, f"{layer}.attn.c_proj"), np.stack(heads)


def plain_mlp(x: np.ndarray, weights: dict, layer: str, activation: str) -> np.ndarray:
    x = plain_linear(x, weights, f"{layer}.mlp.c_fc")
    if activation == "gelu":
        x = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    elif activation == "relu2":
        x = np.where(x > 0, x * x, 0)
    else:
        gate, x = np.split(x, 2, axis=1)
        x = gate / (1 + np.exp(-gate)) * x
    return plain_linear(x, weights, f"{layer}.mlp.c_proj")


def plain_weights(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """In float64, with zeros for the biases that are not there."""
    weights = {name: weight.double().numpy() for name, weight in tensors.items()}
    for name in [name for name in weights if name.endswith(".weight")]:
        weights.setdefault(name.removesuffix("weight") + "bias", np.zeros(len(weights[name])))
    return weights


def plain_gpt(model: GPT, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits (T, V) and attention (n_layer, nh, T, T) of one row of ids."""
    weights = plain_weights(model.state_dict())
    stream = list(plain_stream(weights, model.config, ids))
    maps = np.stack([heads for _, heads in stream if heads is not None])
    return plain_logits(stream[-1][0], weights, model.config), maps


def plain_logits(x: np.ndarray, weights: dict, config: ModelConfig) -> np.ndarray:
    return plain_norm(x, weights, "ln_f", config.norm) @ weights["lm_head.weight"].T


def plain_stream(
    weights: dict, config: ModelConfig, ids: list[int], off: Collection[tuple] = (), causal: bool = True
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The residual stream (T, C) after the embedding and after each part; with attention's its weights (nh, T, T).

    What is `off` adds nothing: (layer, head), or (layer, "mlp").
    """
    T, C = len(ids), config.n_embd
    x = weights["wte.weight"][ids]  # (T, C)
    if config.position == "learned":
        x = x + weights["wpe.weight"][:T]
    elif config.position == "sinusoidal":
        angle = np.arange(T)[:, None] / 10_000 ** (np.arange(0, C, 2) / C)  # (T, C/2)
        x = x.copy()
        x[:, 0::2] += np.sin(angle)
        x[:, 1::2] += np.cos(angle)
    yield x, None
    for number in range(config.n_layer):
        layer = f"h.{number}"
        x_normed = plain_norm(x, weights, f"{layer}.ln_1", config.norm)
        y, heads = plain_attention(x_normed, weights, layer, config, [h for n, h in off if n == number], causal)
        x = x + y
        yield x, heads
        if (number, "mlp") not in off:
            x = x + plain_mlp(plain_norm(x, weights, f"{layer}.ln_2", config.norm), weights, layer, config.activation)
        yield x, None


@every_combination
def test_logits_and_traced_attention_are_those_of_the_plain_model(config):
    model, idx, trace = randomised(GPT(config)), random_ids(3, 7, config), Trace()
    logits = model(idx, trace).detach().numpy()  # (B, T, V)
    traced = torch.stack(trace.attention, dim=1).numpy()  # (B, n_layer, nh, T, T)
    for row in range(3):
        expected_logits, expected_maps = plain_gpt(model, idx[row].tolist())
        # Tables of sines are float32, so no closer than this.
        np.testing.assert_allclose(logits[row], expected_logits, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(traced[row], expected_maps, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(traced.sum(-1), 1.0, rtol=1e-12)


@every_combination
def test_a_trace_changes_no_logit_and_holds_no_gradient(config):
    model, idx, trace = randomised(GPT(config)), random_ids(2, 8, config), Trace()
    assert torch.equal(model(idx, trace), model(idx))
    assert [tuple(layer.shape) for layer in trace.attention] == [(2, 3, 8, 8)] * 2
    assert not any(layer.requires_grad for layer in trace.attention)


# --- Order and the future ---------------------------------------------------------------------------------------------


@every_combination
def test_a_later_token_never_changes_an_earlier_logit(config):
    model, T = randomised(GPT(config)), config.block_size
    row = random_ids(1, T, config)[0]
    changed = row.repeat(T, 1)  # (T, T): row t differs from `row` at position t only
    changed[range(T), range(T)] = (row + 1) % config.vocab_size
    logits = model(torch.cat([row[None], changed]))  # (1 + T, T, V)
    before, after = logits[0], logits[1:]
    for t in range(T):
        torch.testing.assert_close(after[t, :t], before[:t], rtol=0, atol=1e-12)
        assert (after[t, t:] - before[t:]).abs().amax(-1).min() > 1e-4  # while all from there on is another


@pytest.mark.parametrize("position", POSITIONS)
def test_only_positions_tell_a_single_layer_the_order(position):
    config = ModelConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=12, position=position)
    model = randomised(GPT(config))
    last = model(torch.tensor([[1, 2, 3, 4], [3, 1, 2, 4]]))[:, -1]  # (2, V), the same tokens in another order
    assert torch.allclose(last[0], last[1], atol=1e-9) == (position == "none")


def test_a_row_longer_than_the_context_is_an_error():
    config = COMBINATIONS[0]
    model = GPT(config)
    assert model(random_ids(1, 8, config)).shape == (1, 8, 11)
    with pytest.raises(ValueError, match="9 tokens"):
        model(random_ids(1, 9, config))


# --- Weights ----------------------------------------------------------------------------------------------------------


@every_combination
def test_the_number_of_parameters_is_the_true_one(config):
    assert config.n_params == sum(parameter.numel() for parameter in GPT(config).parameters())


def test_the_first_weights_come_from_their_generator_alone():
    def weights(seed: int, global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        model = GPT(COMBINATIONS[0], torch.Generator().manual_seed(seed))
        return nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(weights(1, global_seed=1), weights(1, global_seed=2))
    assert not torch.equal(weights(1, global_seed=1), weights(2, global_seed=1))


@every_combination
def test_an_untrained_model_finds_all_tokens_about_equally_likely(config):
    model = GPT(config, torch.Generator().manual_seed(0))
    loss = model.loss(random_ids(8, 8, config), random_ids(8, 8, config, seed=2))
    assert loss.item() == pytest.approx(math.log(config.vocab_size), abs=0.05)


@every_combination
def test_every_weight_learns(config):
    model, idx = randomised(GPT(config)), random_ids(4, 8, config)
    model.loss(idx, idx.flip(1)).backward()
    still = {name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 1e-9}
    assert still == set()


# --- Dropout ----------------------------------------------------------------------------------------------------------

DROPOUT = ModelConfig(vocab_size=11, block_size=8, n_layer=2, n_head=3, n_embd=12, dropout=0.5)


def dropouts(model: GPT) -> dict[str, Dropout]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Dropout)}


def test_dropout_zeroes_its_share_and_scales_up_the_rest():
    dropout = Dropout(0.25)
    dropout.generator = torch.Generator().manual_seed(0)
    dropped = dropout(torch.ones(100_000))
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)  # 7 standard deviations


@pytest.mark.parametrize("p", [0.0005, 0.001, 0.002, 0.01, 0.1, 0.3, 0.5, 0.9])
def test_dropout_counts_in_steps_of_a_256th(p):
    """What is kept is scaled up by what is dropped in truth, so that the mean stays 1 for each of them."""
    dropout = Dropout(p)
    dropout.generator = torch.Generator().manual_seed(0)
    mask = dropout.mask(torch.Size([100, 4_000]), torch.device("cpu"))
    n_kept = round(256 * (1 - p))
    share = 1 - n_kept / 256
    assert mask.max().item() == pytest.approx(256 / n_kept)
    deviation = math.sqrt(share * (1 - share) / mask.numel())
    assert (mask == 0).double().mean().item() == pytest.approx(share, abs=5 * deviation)


def test_dropout_draws_every_number_for_itself():
    """Four come from one call of the generator, a byte each: none of the four depends on another, nor on its place."""
    dropout = Dropout(0.5)
    dropout.generator = torch.Generator().manual_seed(0)
    draws = dropout.mask(torch.Size([50_000, 8]), torch.device("cpu")) - 1  # -1 or 1
    together = draws.T @ draws / len(draws)  # how often two places agree more than by chance
    torch.testing.assert_close(together, torch.eye(8), rtol=0, atol=5 / math.sqrt(len(draws)))
    assert draws.mean(0).abs().max() < 5 / math.sqrt(len(draws))
    assert not torch.equal(draws, dropout.mask(draws.shape, draws.device) - 1)


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 1), (2, 3, 7), (0, 4)])
def test_dropout_of_shapes_that_are_no_multiple_of_four(shape):
    dropout = Dropout(0.5)
    dropout.generator = torch.Generator().manual_seed(3)
    dropped = dropout(torch.ones(shape, dtype=torch.float64))
    assert dropped.shape == shape and dropped.dtype == torch.float64
    assert set(dropped.unique().tolist()) <= {0.0, 2.0}


def test_without_anything_to_drop_there_is_no_mask_and_no_draw():
    shape, device = torch.Size([2, 3]), torch.device("cpu")
    x = random(*shape)
    for dropout in (Dropout(0.0), Dropout(0.5).eval()):
        dropout.generator = torch.Generator().manual_seed(0)
        before = dropout.generator.get_state()
        assert dropout.mask(shape, device) is None and dropout(x) is x
        assert torch.equal(dropout.generator.get_state(), before)


def test_dropout_is_off_in_evaluation():
    model, idx = randomised(GPT(DROPOUT)), random_ids(2, 8, DROPOUT)
    without = randomised(GPT(ModelConfig(**{**asdict(DROPOUT), "dropout": 0.0}))).train()
    assert torch.equal(model.eval()(idx), without(idx))
    assert not torch.allclose(model.train()(idx), without(idx))


def test_dropout_draws_from_its_generator_alone():
    model, idx = randomised(GPT(DROPOUT)).train(), random_ids(2, 8, DROPOUT)

    def logits(seed: int, global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        generator, before = torch.Generator().manual_seed(seed), torch.get_rng_state()
        for module in dropouts(model).values():
            module.generator = generator
        result = model(idx)
        assert torch.equal(torch.get_rng_state(), before)
        return result

    assert torch.equal(logits(1, global_seed=1), logits(1, global_seed=2))
    assert not torch.equal(logits(1, global_seed=1), logits(2, global_seed=1))


def test_dropout_acts_at_each_of_its_places():
    model, idx = randomised(GPT(DROPOUT)), random_ids(2, 8, DROPOUT)
    places = dropouts(model)
    in_layer = ("attn.attn_dropout", "attn.resid_dropout", "mlp.dropout")
    assert set(places) == {"dropout", *(f"h.{layer}.{name}" for layer in (0, 1) for name in in_layer)}
    undropped = model(idx)
    for name, place in places.items():
        model.eval()
        place.train()
        assert not torch.allclose(model(idx), undropped), name


def test_the_trace_shows_attention_as_it_was_before_dropout():
    model, idx, trace = randomised(GPT(DROPOUT)).train(), random_ids(2, 8, DROPOUT), Trace()
    model(idx, trace)
    for layer in trace.attention:
        torch.testing.assert_close(layer.sum(-1), torch.ones(2, 3, 8, dtype=torch.float64))
