"""What becomes of a model without some of its parts: a head, a layer's MLP, the causal mask.

Each function returns a checkpoint that differs in this alone, so it can be measured and inspected as any other.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from playground.checkpoint import Checkpoint
from playground.corpus import Text, split
from playground.errors import BadInput
from playground.training import full_loss

HELD_OUT_TOKENS = 8_192  # predictions behind each loss, at most
HELD_OUT_CHARS = 8 * HELD_OUT_TOKENS  # of a long text that are cut into tokens: plenty for so many

Head = tuple[int, int]  # layer and head, both counted from 0


def switch_off(checkpoint: Checkpoint, heads: Iterable[Head] = (), mlps: Iterable[int] = ()) -> Checkpoint:
    """The model with some heads, and some layers' MLPs, adding nothing to the residual stream.

    A head reaches the stream through its own hs columns of `c_proj` alone, an MLP through its `c_proj`: zeros there are
    the same as leaving it out. A bias of the attention's `c_proj` belongs to no head and stays.
    """
    weights, hs = dict(checkpoint.weights), checkpoint.config.head_dim
    for layer, head in heads:
        name = f"h.{layer}.attn.c_proj.weight"
        weights[name] = weights[name].clone()  # (C, C)
        weights[name][:, head * hs : (head + 1) * hs] = 0.0
    for layer in mlps:
        for name in (f"h.{layer}.mlp.c_proj.weight", f"h.{layer}.mlp.c_proj.bias"):
            if name in weights:
                weights[name] = torch.zeros_like(weights[name])
    return replace(checkpoint, weights=weights, val_loss=None)


def unmask(checkpoint: Checkpoint) -> Checkpoint:
    """The model with every token seeing those after it as well, the one that it has to predict among them.

    Only for forward passes: the mask is no weight, so a copy or a file of this checkpoint has it again.
    """
    changed = replace(checkpoint, val_loss=None)
    for block in changed.model.h:
        block.attn.mask.fill_(True)
    return changed


def held_out_ids(checkpoint: Checkpoint, text: Text) -> Tensor:
    """The first tokens (N,) of the validation part of the text that a model has learned from: it never saw them."""
    start = split(text.text)[1][:HELD_OUT_CHARS]
    return torch.tensor(checkpoint.tokenizer.encode(start)[: HELD_OUT_TOKENS + 1])


def held_out_loss(checkpoint: Checkpoint, ids: Tensor) -> float:
    """Mean cross-entropy in nats a token, over all of the `ids` (N,) but the first."""
    if len(ids) < 2:
        raise BadInput("The text is too short to measure a loss on: give at least two tokens.")
    return full_loss(checkpoint.model, ids)
