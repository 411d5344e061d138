"""What moves the weights: Adam for tables and vectors, Muon for the matrices inside the layers.

Adam (Kingma & Ba 2015) gives every weight a step of about the same length. Muon (Jordan 2024, "Muon: An optimizer
for hidden layers") looks at a whole matrix: it makes the step orthogonal, so that all directions in which the matrix
works are learned at one pace, not only those that the gradient is full of. At this size it needs a third of the steps.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from playground.config import TrainConfig
from playground.model import GPT

BETAS, EPS = (0.9, 0.99), 1e-8  # of Adam where it moves all weights
TABLE_RATE = 0.6  # of Muon's learning rate, for what Adam moves beside it: embeddings, head, norms, biases


def make_optimizers(model: GPT, config: TrainConfig, n_parts: int = 1) -> list[torch.optim.Optimizer]:
    """The optimizers of a run. Each of their groups has a `scale`: its learning rate as a multiple of the schedule's.

    They move different weights, so they may work at the same time; Muon, by far the slowest, comes in `n_parts`. Weight
    decay pulls at matrices only.
    """
    if config.optimizer == "muon":
        queries_keys_values = [block.attn.c_attn.weight for block in model.h]
        hidden = [p for p in model.h.parameters() if p.dim() == 2]
        apart = {id(p) for p in queries_keys_values}
        alone = [matrix for same in by_shape(p for p in hidden if id(p) not in apart) for matrix in same]
        inside = {id(p) for p in hidden}
        others = [p for p in model.parameters() if id(p) not in inside]
        parts = [Muon(queries_keys_values[i::n_parts], alone[i::n_parts], config.weight_decay) for i in range(n_parts)]
        return [*parts, torch.optim.Adam([{"params": others, "scale": TABLE_RATE}], betas=(0.8, 0.95), fused=True)]
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "scale": 1.0, "weight_decay": config.weight_decay},
        {"params": vectors, "scale": 1.0, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return [kind([group for group in groups if group["params"]], betas=BETAS, eps=EPS, fused=True)]


def set_rate(optimizers: Iterable[torch.optim.Optimizer], learning_rate: float) -> None:
    """The learning rate of the next step, which each group of weights takes by its own scale."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]


def by_shape(matrices: Iterable[Tensor]) -> list[list[Tensor]]:
    shapes = defaultdict(list)
    for matrix in matrices:
        shapes[matrix.shape].append(matrix)
    return list(shapes.values())


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal. Matrices of one shape are worked on together: a few large products, not many small.

    `threefold` matrices hold three one above the other, queries, keys and values, which are made orthogonal each.
    """

    MOMENTUM = 0.9

    def __init__(self, threefold: list[Tensor], matrices: list[Tensor], weight_decay: float):
        groups = [{"params": threefold, "n_inside": 3}, {"params": matrices, "n_inside": 1}]
        defaults = {"lr": 0.0, "scale": 1.0, "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for matrices in by_shape(group["params"]):
                self._move(matrices, group["lr"], group["weight_decay"], group["n_inside"])

    def _move(self, matrices: list[Tensor], lr: float, weight_decay: float, n_inside: int) -> None:
        gradients = [p.grad for p in matrices]
        momenta = [self._momentum(p) for p in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - self.MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, self.MOMENTUM)  # where the momentum will be (Nesterov)
        together = torch.stack(ahead)  # (n, rows, columns)
        steps = orthogonal(
            together.unflatten(1, (n_inside, -1)).flatten(0, 1)
        )  # (n · n_inside, rows / n_inside, columns)
        rows, columns = steps.shape[1:]
        if weight_decay:
            torch._foreach_mul_(matrices, 1 - lr * weight_decay)
        torch._foreach_add_(matrices, list(steps.view_as(together)), alpha=-lr * max(1.0, rows / columns) ** 0.5)

    def _momentum(self, p: Tensor) -> Tensor:
        if "momentum" not in self.state[p]:
            self.state[p]["momentum"] = torch.zeros_like(p)
        return self.state[p]["momentum"]


# Amsel et al. 2025, "The Polar Express": what does most, one after the other, for singular values from 0.001 to 1.
POLYNOMIALS = ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518))

ROOM = 1.02


def orthogonal(matrices: Tensor) -> Tensor:
    """About U Vᵀ of each matrix U S Vᵀ (n, rows, columns): singular values from 0.002 of its length on come out between
    0.2 and 1.9.

    Newton and Schulz's iteration: odd polynomials of the matrix act on its singular values alone. Three of the best
    teach as much as five of Jordan's one, 1.884 to 1.892 after 300 steps, and bfloat16 is exact enough for them, with
    some room above the largest: beyond 1 the polynomials are steep.
    """
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = (x / (ROOM * x.norm(dim=(1, 2), keepdim=True)).clamp(min=1e-7)).to(torch.bfloat16)
    x = x.contiguous()  # the products below take a third longer on a transposed one
    for a, b, c in POLYNOMIALS:
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)  # b X Xᵀ + c (X Xᵀ)²
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
