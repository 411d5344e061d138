"""One training step unrolled: from two lines of text to the loss after it, with every number on the way.

A step is five short functions, one after the other: `make_batch`, the model's own `forward`, `cross_entropy`,
`gradient_of` and `move`. Two more stand beside them, which a training does without: `finite_difference` finds the
gradient of one weight a second time, by trying, and `loss_of` looks at the loss once more. `unroll` calls them on a
copy of a model and notes what each line made, so what a page shows is the code that made its numbers.

It is the plain model that learns here, with nothing dropped and no gradient clipped, which would change next to
nothing: Adam's first step does not depend on the gradient's length. Letters in the shape comments as in model.py.

Sources: Kingma & Ba 2015 (Adam), Loshchilov & Hutter 2019 (AdamW: the decay stands apart from the gradient).
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from playground.checkpoint import SMALL, Checkpoint
from playground.config import is_whole, quote
from playground.errors import BadInput
from playground.heads import TOO_LARGE
from playground.listing import Listing, watch
from playground.model import GPT
from playground.optimizers import BETAS, EPS
from playground.tokenizer import Tokenizer, visible
from playground.training import check_learning_rate

MAX_CHARS = 1_000  # of a line
MAX_TOKENS = 33  # of a line: 32 of them see, 32 are foreseen
NUDGE = 1e-4  # of a weight, or of 1 if that is more: in float64 the two losses then agree with the slope to 8 digits


class Terms(NamedTuple):
    """The cross-entropy term by term, in nats."""

    target_logits: Tensor  # (B, T)
    log_sum_exp: Tensor  # (B, T): the logarithm of the sum of e to every logit
    losses: Tensor  # (B, T): −log p of each target
    loss: Tensor  # their mean


class Difference(NamedTuple):
    """A gradient found by trying: the loss with the weight a little larger and a little smaller, in float64."""

    h: float  # by how much the weight was moved
    above: float  # the loss of w + h
    below: float  # the loss of w − h
    slope: float  # (above − below) / 2h


class AdamStep(NamedTuple):
    """What the first step of AdamW makes of a gradient; both moments were 0 before."""

    m: Tensor  # the running mean of the gradient
    v: Tensor  # the running mean of its square
    m_hat: Tensor  # both without the pull of the zeros they began with
    v_hat: Tensor
    update: Tensor  # what is added to the weight


@dataclass(frozen=True)
class Chosen:
    """The one weight that is followed through the step."""

    tensor: str
    index: tuple[int, ...]  # from 0, a row and a column or one place in a vector
    before: float
    after: float
    weight_decay: float  # of its tensor: matrices alone decay


@dataclass(frozen=True, eq=False)
class Unrolled:
    """All of one step. The listings stand in the order in which their functions were called."""

    inputs: Tensor  # (B, T) ids
    targets: Tensor  # (B, T) ids: what follows each
    n_cut: int  # tokens of the longer line that were left out
    logits: Tensor  # (B, T, V)
    terms: Terms
    weight: Chosen
    gradient: float  # of the loss by the chosen weight
    difference: Difference
    adam: AdamStep  # of the chosen weight
    loss_after: float  # when all weights have moved
    model: GPT  # the copy, moved
    listings: dict[str, Listing]  # by the function's name


def unroll(
    checkpoint: Checkpoint, lines: Sequence[str], tensor: str, index: Sequence[object], learning_rate: object
) -> Unrolled:
    """One AdamW step on two lines, followed for the weight at `index` of a tensor; the checkpoint stays as it is.

    Raises `BadInput` for a model of more than 8 million weights, whose step would take seconds; for a line that the
    model does not know or cannot see as a whole; for a weight or learning rate that no step can have.
    """
    check_size(checkpoint)
    index = check_weight(checkpoint, tensor, index)
    check_learning_rate(checkpoint.train_config, learning_rate)
    ids = [encode_line(checkpoint, line, f"Line {i}") for i, line in enumerate(lines, 1)]
    model = deepcopy(checkpoint.model).requires_grad_(True)
    weights, listings = model.get_parameter(tensor), {}

    def call(function, *args):
        result, listings[function.__name__] = watch(function, *args)
        return result

    inputs, targets = call(make_batch, *ids)
    logits = call(model.forward, inputs)
    terms = call(cross_entropy, logits, targets)
    gradient = call(gradient_of, weights, index, terms.loss)
    with torch.no_grad():
        difference = call(finite_difference, model, tensor, index, inputs, targets)
        w, weight_decay = weights[index].clone(), checkpoint.train_config.weight_decay
        decay = decay_of(weights, weight_decay)
        adam = call(first_adamw_step, w, weights.grad[index], float(learning_rate), decay)
        call(move, model, float(learning_rate), weight_decay)
        loss_after = call(loss_of, model, inputs, targets)
    numbers = [*difference, *(number.item() for number in (terms.loss, gradient, *adam, loss_after))]
    if not all(map(math.isfinite, numbers)):
        raise BadInput(TOO_LARGE)
    return Unrolled(
        inputs=inputs,
        targets=targets,
        n_cut=abs(len(ids[0]) - len(ids[1])),
        logits=logits.detach(),
        terms=Terms(*(term.detach() for term in terms)),
        weight=Chosen(tensor, index, w.item(), weights[index].item(), decay),
        gradient=gradient.item(),
        difference=difference,
        adam=adam,
        loss_after=loss_after.item(),
        model=model,
        listings=listings,
    )


# ---- The step, in the order in which it is taken ---------------------------------------------------------------------


def make_batch(first: list[int], second: list[int]) -> tuple[Tensor, Tensor]:
    """Both lines side by side, the longer cut to the shorter; the target of each token is the one that follows it."""
    length = min(len(first), len(second))  # T + 1
    rows = torch.tensor([first[:length], second[:length]])  # (B, T + 1)
    inputs, targets = rows[:, :-1], rows[:, 1:]  # (B, T) each
    return inputs, targets


def cross_entropy(logits: Tensor, targets: Tensor) -> Terms:
    """−log p of every target, where p is e to its logit, divided by the sum of e to all of them."""
    largest = logits.detach().amax(-1, keepdim=True)  # (B, T, 1), taken off so that no power of e overflows
    log_sum_exp = (logits - largest).exp().sum(-1).log() + largest.squeeze(-1)  # (B, T)
    target_logits = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)  # (B, T)
    losses = log_sum_exp - target_logits  # (B, T)
    loss = losses.mean()
    return Terms(target_logits, log_sum_exp, losses, loss)


def gradient_of(weights: Tensor, index: tuple[int, ...], loss: Tensor) -> Tensor:
    """How much the loss would rise for each unit by which the weight grows: backward() finds it for all weights."""
    loss.backward()
    gradients = weights.grad
    gradient = gradients[index]
    return gradient


def finite_difference(model: GPT, tensor: str, index: tuple[int, ...], inputs: Tensor, targets: Tensor) -> Difference:
    """The same found by trying, in float64: the weight a little larger, a little smaller, and the slope between."""
    exact = deepcopy(model).double()
    weights = exact.get_parameter(tensor)
    w = weights[index].item()
    h = NUDGE * max(1.0, abs(w))
    weights[index] = w + h
    above = loss_of(exact, inputs, targets).item()
    weights[index] = w - h
    below = loss_of(exact, inputs, targets).item()
    slope = (above - below) / (2 * h)
    return Difference(h, above, below, slope)


def first_adamw_step(w: Tensor, g: Tensor, learning_rate: float, weight_decay: float) -> AdamStep:
    """What a gradient does to a weight, or to a whole tensor of them, when nothing has come before."""
    beta_1, beta_2 = BETAS
    m = (1 - beta_1) * g  # beta_1 * 0 + (1 - beta_1) * g
    v = (1 - beta_2) * g**2
    m_hat = m / (1 - beta_1)
    v_hat = v / (1 - beta_2)
    direction = m_hat / (v_hat.sqrt() + EPS)
    update = -learning_rate * (direction + weight_decay * w)
    return AdamStep(m, v, m_hat, v_hat, update)


def move(model: GPT, learning_rate: float, weight_decay: float) -> None:
    """That step for every weight of the model."""
    for weights in model.parameters():
        decay = decay_of(weights, weight_decay)
        weights += first_adamw_step(weights, weights.grad, learning_rate, decay).update


def decay_of(weights: Tensor, weight_decay: float) -> float:
    """Decay pulls at matrices only."""
    return weight_decay if weights.dim() >= 2 else 0.0


def loss_of(model: GPT, inputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of a batch, from its beginning."""
    logits = model(inputs)
    loss = cross_entropy(logits, targets).loss
    return loss


# ---- What may be asked for -------------------------------------------------------------------------------------------


def check_size(checkpoint: Checkpoint) -> None:
    n_params = checkpoint.config.n_params
    if n_params > SMALL:
        raise BadInput(
            f"This model has {n_params:,} weights, and a step is unrolled for models of at most {SMALL:,}, so that it "
            "takes a moment: take a smaller one into use."
        )


def check_weight(checkpoint: Checkpoint, tensor: str, index: Sequence[object]) -> tuple[int, ...]:
    """The index of a weight that is there, from 0. Raises `BadInput` for one that is not."""
    if tensor not in checkpoint.weights:
        raise BadInput(f"The model has no weights named {quote(tensor)}: choose some of the list.")
    shape = checkpoint.weights[tensor].shape
    fits = len(index) == len(shape) and all(is_whole(i) and 0 <= i < n for i, n in zip(index, shape, strict=True))
    if not fits:
        names = ("a row", "a column") if len(shape) > 1 else ("a place",)
        ranges = " and ".join(f"{name} from 0 to {n - 1:,}" for name, n in zip(names, shape, strict=True))
        raise BadInput(f"A weight of {tensor} stands at {ranges}: give whole numbers.")
    return tuple(map(int, index))


def encode_line(checkpoint: Checkpoint, text: str, name: str) -> list[int]:
    """A line's ids, at least two. Raises `BadInput`, which calls the line by its name, for one that is no use."""
    if len(text) > MAX_CHARS:
        raise BadInput(f"{name} has {len(text):,} characters: shorten it to at most {MAX_CHARS:,}.")
    unknown = _first_unknown(checkpoint.tokenizer, text)
    if unknown:
        raise BadInput(f"{name}: the model does not know “{unknown}”. Use what stood in its training text.")
    ids, longest = checkpoint.tokenizer.encode(text), longest_line(checkpoint)
    if len(ids) < 2:
        raise BadInput(f"{name} needs at least two tokens, one to see and one to foresee: type some more.")
    if len(ids) > longest:
        raise BadInput(f"{name} has {len(ids):,} tokens: shorten it to at most {longest}.")
    return ids


def longest_line(checkpoint: Checkpoint) -> int:
    """Tokens that a line may have: all but the last must fit into the context."""
    return min(MAX_TOKENS, checkpoint.config.block_size + 1)


def _first_unknown(tokenizer: Tokenizer, text: str) -> str:
    return next((visible(token.text) for token in tokenizer.tokens(text) if token.kind == "unknown"), "")
