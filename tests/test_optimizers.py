"""Muon against torch's own, against plain arithmetic and against the singular values themselves; who moves what."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from playground import optimizers
from playground.config import OPTIMIZERS, ModelConfig, TrainConfig
from playground.model import GPT
from playground.optimizers import POLYNOMIALS, TABLE_RATE, Muon, by_shape, make_optimizers, orthogonal

SHAPES = [(16, 16), (64, 16), (16, 64), (96, 40)]
JORDANS = ((3.4445, -4.7750, 2.0315),) * 5  # the polynomial of the first Muon, which torch's has too


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_singular_values(values: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """A matrix in random directions that stretches each of them as told."""
    U, V = (torch.linalg.qr(random(n, len(values), seed=n))[0] for n in (rows, columns))
    return (U * values) @ V.T


def stretches(result: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """How far `result` goes in each of the directions of `matrix`."""
    U, _, Vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    return (U.T @ result.double() @ Vt.T).diagonal()


def polynomials_by_hand(matrix: torch.Tensor) -> torch.Tensor:
    """On the singular values one by one, in float64."""
    U, S, Vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    S = S / np.sqrt((S**2).sum())
    for a, b, c in POLYNOMIALS:
        S = a * S + b * S**3 + c * S**5
    return torch.from_numpy(U * S @ Vt).float()


def assert_same_direction(one: torch.Tensor, other: torch.Tensor, at_least: float = 0.98) -> None:
    """And as long, but for what bfloat16 rounds."""
    assert F.cosine_similarity(one.flatten(), other.flatten(), dim=0) > at_least
    assert one.norm().item() == pytest.approx(other.norm().item(), rel=0.1)


# --- Orthogonal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_the_polynomials_act_on_the_singular_values_alone(shape):
    matrices = random(3, *shape)
    for matrix, result in zip(matrices, orthogonal(matrices), strict=True):
        assert_same_direction(result, polynomials_by_hand(matrix))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_is_worked_on_as_its_matrices_one_by_one(shape):
    matrices = random(5, *shape) * torch.tensor([1e-3, 1, 2, 30, 1e4])[:, None, None]  # each with its own length
    together = orthogonal(matrices)
    assert together.shape == matrices.shape and together.dtype == matrices.dtype
    for matrix, result in zip(matrices, together, strict=True):
        torch.testing.assert_close(result, orthogonal(matrix[None])[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("smallest", [0.5, 0.1, 0.01])  # beside the largest
@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one(shape, smallest):
    """All of those above 0.002 of the matrix's length, into one band: what the gradient has hardly any of moves too."""
    values = torch.logspace(0, np.log10(smallest), min(shape))
    assert (values / values.norm()).min() > 0.002
    matrix = with_singular_values(values, *shape)
    result = orthogonal(matrix[None])[0]
    stretch = stretches(result, matrix)
    assert stretch.min() > 0.1 and stretch.max() < 2
    assert 0.8 < stretch.mean() < 1.4
    U, _, Vt = torch.linalg.svd(matrix, full_matrices=False)
    assert F.cosine_similarity(result.flatten(), (U @ Vt).flatten(), dim=0) > 0.8


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_next_to_nothing_stays_little_and_does_no_harm(shape):
    """Ill-conditioned as gradients are: the smallest direction has a millionth of the largest."""
    matrix = with_singular_values(torch.logspace(0, -6, min(shape)), *shape)
    result = orthogonal(matrix[None])[0]
    stretch = stretches(result, matrix)
    assert torch.linalg.svdvals(result).max() < 2
    assert stretch[0] > 0.1 and stretch[-1].abs() < 0.1


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.01, 0.03])
@pytest.mark.parametrize("shape", [*SHAPES, (512, 512)])
def test_no_step_is_longer_than_two_even_in_a_single_direction(shape, noise):
    """A matrix that is nearly all one direction has its largest singular value at 1, the end of what the polynomials
    are made for; beyond it they grow fast, so rounding must not carry it there."""
    rows, columns = shape
    for seed in range(5):
        direction = random(rows, 1, seed=seed) @ random(1, columns, seed=seed + 10)
        other = random(rows, columns, seed=seed + 20)
        matrix = direction / direction.norm() + noise * other / other.norm()
        assert torch.linalg.svdvals(orthogonal(matrix[None])[0]).max() < 2


def test_nothing_stays_nothing():
    assert torch.equal(orthogonal(torch.zeros(2, 8, 4)), torch.zeros(2, 8, 4))


# --- Muon -------------------------------------------------------------------------------------------------------------


def weights_and_gradients(shapes: list[tuple[int, int]], n_steps: int) -> tuple[list, list]:
    weights = [torch.nn.Parameter(random(*shape, seed=i)) for i, shape in enumerate(shapes)]
    gradients = [[random(*shape, seed=100 * step + i) for i, shape in enumerate(shapes)] for step in range(n_steps)]
    return weights, gradients


def take_steps(optimizer: torch.optim.Optimizer, weights: list, gradients: list[list], lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
    for step in gradients:
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()


@pytest.mark.parametrize("shape", SHAPES)
def test_muons_steps_by_hand(shape):
    """Three of them, with gradients that change: momentum m, Nesterov's look ahead, orthogonal, as long as the shape
    asks for, and weight decay."""
    lr, decay, beta = 0.1, 0.3, Muon.MOMENTUM
    (weight,), gradients = weights_and_gradients([shape], 3)
    muon = Muon([], [weight], weight_decay=decay)
    by_hand, m = weight.detach().clone(), torch.zeros(shape)
    rows, columns = shape
    for (gradient,) in gradients:
        before = weight.detach().clone()
        take_steps(muon, [weight], [[gradient]], lr)
        m = beta * m + (1 - beta) * gradient
        ahead = beta * m + (1 - beta) * gradient
        step = max(1, rows / columns) ** 0.5 * polynomials_by_hand(ahead)
        by_hand = (1 - lr * decay) * by_hand - lr * step
        assert_same_direction((1 - lr * decay) * before - weight.detach(), lr * step)
        torch.testing.assert_close(muon.state[weight]["momentum"], m)
    torch.testing.assert_close(weight.detach(), by_hand, rtol=0.05, atol=0.2 * lr)


def test_with_jordans_polynomial_it_is_torchs_muon(monkeypatch):
    """Matrices of three shapes at once, one of them thrice, over five steps."""
    monkeypatch.setattr(optimizers, "POLYNOMIALS", JORDANS)
    shapes = [(32, 16), (16, 32), (32, 16), (24, 24), (32, 16)]
    ours, gradients = weights_and_gradients(shapes, 5)
    theirs, _ = weights_and_gradients(shapes, 5)
    begin = [weight.detach().clone() for weight in ours]
    settings = {"weight_decay": 0.1, "momentum": Muon.MOMENTUM, "ns_coefficients": JORDANS[0], "ns_steps": len(JORDANS)}
    take_steps(Muon([], ours, weight_decay=0.1), ours, gradients, lr=0.05)
    take_steps(torch.optim.Muon(theirs, **settings), theirs, gradients, lr=0.05)
    for weight, other, first in zip(ours, theirs, begin, strict=True):
        assert_same_direction((first - weight).detach(), (first - other).detach(), at_least=0.999)


def test_with_its_own_polynomials_it_goes_where_torchs_muon_goes():
    ours, gradients = weights_and_gradients([(64, 32), (32, 64)], 1)
    theirs, _ = weights_and_gradients([(64, 32), (32, 64)], 1)
    begin = [weight.detach().clone() for weight in ours]
    take_steps(Muon([], ours, weight_decay=0.0), ours, gradients, lr=0.05)
    take_steps(torch.optim.Muon(theirs, weight_decay=0.0, momentum=Muon.MOMENTUM), theirs, gradients, lr=0.05)
    for weight, other, first in zip(ours, theirs, begin, strict=True):
        assert F.cosine_similarity((first - weight).flatten(), (first - other).flatten(), dim=0) > 0.8


def test_queries_keys_and_values_are_made_orthogonal_each():
    """As if they were three matrices: with gradients of very different lengths none is lost beside another."""
    (whole,), ((gradient,),) = weights_and_gradients([(48, 16)], 1)
    gradient *= torch.tensor([1.0, 100.0, 0.01]).repeat_interleave(16)[:, None]
    apart = [torch.nn.Parameter(third.clone()) for third in whole.detach().chunk(3)]
    before = whole.detach().clone()
    take_steps(Muon([whole], [], 0.1), [whole], [[gradient]], lr=0.05)
    take_steps(Muon([], apart, 0.1), apart, [gradient.chunk(3)], lr=0.05)
    torch.testing.assert_close(whole.detach(), torch.cat([third.detach() for third in apart]), rtol=0, atol=0.002)
    for third in ((1 - 0.05 * 0.1) * before - whole.detach()).chunk(3):
        assert 0.7 < third.norm().item() / (0.05 * 4) < 1.5  # an orthogonal (16, 16) has the length 4


def test_muon_does_not_ask_how_long_a_gradient_is():
    one, gradients = weights_and_gradients([(32, 16)], 3)
    other, _ = weights_and_gradients([(32, 16)], 3)
    take_steps(Muon([], one, 0.0), one, gradients, lr=0.1)
    take_steps(Muon([], other, 0.0), other, [[1024 * g for g in step] for step in gradients], lr=0.1)
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=0.002)


def test_weight_decay_pulls_even_where_there_is_no_gradient():
    (weight,), _ = weights_and_gradients([(8, 8)], 0)
    before = weight.detach().clone()
    take_steps(Muon([], [weight], weight_decay=0.5), [weight], [[torch.zeros(8, 8)]], lr=0.1)
    torch.testing.assert_close(weight.detach(), 0.95 * before)


def test_a_learning_rate_of_nothing_moves_nothing():
    (weight,), gradients = weights_and_gradients([(8, 8)], 2)
    before = weight.detach().clone()
    take_steps(Muon([], [weight], weight_decay=0.5), [weight], gradients, lr=0.0)
    assert torch.equal(weight.detach(), before)


def test_matrices_of_one_shape_come_together():
    shapes = [(2, 3), (3, 2), (2, 3), (4, 4), (2, 3)]
    found = by_shape(torch.full(shape, float(i)) for i, shape in enumerate(shapes))
    assert [[int(matrix[0, 0]) for matrix in same] for same in found] == [[0, 2, 4], [1], [3]]


# --- Who moves what ---------------------------------------------------------------------------------------------------

CONFIG = ModelConfig(
    vocab_size=30, block_size=8, n_layer=3, n_head=2, n_embd=16, position="learned", norm="layernorm", bias=True
)


def model_with_gradients(config: ModelConfig = CONFIG) -> GPT:
    """Random weights, since a new model's zeros let no gradient through, and the gradients of one batch."""
    model, generator = GPT(config), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.1, 0.3, generator=generator)
    x, y = torch.randint(config.vocab_size, (2, 8, config.block_size), generator=generator)
    model.loss(x, y).backward()
    return model


def moved_by(optimizers: list[torch.optim.Optimizer], model: GPT, lr: float = 0.1) -> dict[str, torch.Tensor]:
    """How far one step of all optimizers takes each weight."""
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        optimizer.step()
    return {name: before[name] - weight.detach() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("n_layer", [1, 3])
@pytest.mark.parametrize("n_parts", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_weight_is_moved_by_one_optimizer(optimizer, n_parts, n_layer):
    model = GPT(replace(CONFIG, n_layer=n_layer))
    made = make_optimizers(model, TrainConfig(optimizer=optimizer), n_parts)
    moved = [p for optimizer in made for group in optimizer.param_groups for p in group["params"]]
    assert Counter(map(id, moved)) == Counter(map(id, model.parameters()))


@pytest.mark.parametrize("n_layer", [1, 3])
def test_muon_in_two_parts_does_what_it_does_in_one(n_layer):
    config, recipe = replace(CONFIG, n_layer=n_layer), TrainConfig(optimizer="muon", weight_decay=0.1)
    whole, parts = model_with_gradients(config), model_with_gradients(config)
    made = make_optimizers(parts, recipe, n_parts=2)
    assert [type(optimizer) for optimizer in made] == [Muon, Muon, torch.optim.Adam]
    work = [sum(p.numel() for group in muon.param_groups for p in group["params"]) for muon in made[:2]]
    assert max(work) < 2.5 * min(work)  # the two may work at the same time, so each should have a good share
    expected = moved_by(make_optimizers(whole, recipe), whole)
    for name, step in moved_by(made, parts).items():
        torch.testing.assert_close(step, expected[name], rtol=0.02, atol=0.002, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_muon_moves_every_matrix_of_the_layers_by_its_polynomials(activation):
    """What these do is measured above; here, that each matrix gets the step that its own gradient asks for."""
    model, beta = model_with_gradients(replace(CONFIG, activation=activation)), Muon.MOMENTUM
    n_matrices = 0
    for name, step in moved_by(make_optimizers(model, TrainConfig(optimizer="muon")), model, lr=1.0).items():
        weight = model.get_parameter(name)
        if not name.startswith("h.") or weight.dim() < 2:
            continue
        gradients = weight.grad.chunk(3 if name.endswith("c_attn.weight") else 1)
        rows, columns = gradients[0].shape
        ahead = [(1 - beta**2) * gradient for gradient in gradients]  # of the first step: (β (1 - β) + 1 - β) times it
        by_hand = max(1, rows / columns) ** 0.5 * torch.cat([orthogonal(gradient[None])[0] for gradient in ahead])
        assert_same_direction(step, by_hand)
        n_matrices += 1
    assert n_matrices == 4 * CONFIG.n_layer


def test_beside_muon_adam_moves_the_tables_and_vectors():
    model = model_with_gradients()
    steps = moved_by(make_optimizers(model, TrainConfig(optimizer="muon", weight_decay=0.5)), model, lr=0.1)
    for name, step in steps.items():
        weight = model.get_parameter(name)
        if name.startswith("h.") and weight.dim() == 2:
            continue
        clear = weight.grad.abs() > 1e-5  # beside Adam's epsilon of 1e-8
        by_hand = TABLE_RATE * 0.1 * weight.grad.sign()  # what Adam's first step is; no decay here
        torch.testing.assert_close(step[clear], by_hand[clear], rtol=2e-3, atol=1e-6)
        assert clear.any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_pulls_at_matrices_only(optimizer):
    with_decay, without = model_with_gradients(), model_with_gradients()
    steps = moved_by(make_optimizers(with_decay, TrainConfig(optimizer=optimizer, weight_decay=0.9)), with_decay)
    plain = moved_by(make_optimizers(without, TrainConfig(optimizer=optimizer, weight_decay=0.0)), without)
    tables = ("wte.weight", "wpe.weight", "lm_head.weight") if optimizer == "muon" else ()
    for name, step in steps.items():
        pulled = not torch.equal(step, plain[name])
        assert pulled == (step.dim() == 2 and name not in tables), name
