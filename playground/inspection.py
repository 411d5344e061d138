"""Looking inside: traced forward passes of a checkpoint, and what every head and every layer did in them.

Letters in the shape comments as in model.py; L is the number of layers.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.generation import encode_prompt
from playground.heads import MAX_WEIGHTS, TOO_LARGE
from playground.model import Trace
from playground.tokenizer import Token


@dataclass(frozen=True)
class Inspection:
    """What a model did with a prompt. T is the prompt's number of tokens, or as many as fit."""

    tokens: list[Token]  # the T tokens that the model saw
    n_dropped: int  # tokens at the prompt's beginning that did not fit into the context
    attention: np.ndarray  # (L, nh, T, T) float32; row q, column k: how much query q attends to key k
    logits: np.ndarray  # (T, V) float32


def inspect(checkpoint: Checkpoint, prompt: str) -> Inspection:
    """Traces the model on the prompt, or on as many of its last tokens as fit. `BadInput` if it knows none of them."""
    ids = encode_prompt(checkpoint.tokenizer, prompt)
    tokens = checkpoint.tokenizer.tokens(prompt)
    config = checkpoint.config
    longest = min(config.block_size, math.isqrt(MAX_WEIGHTS // (config.n_layer * config.n_head)))
    dropped = max(0, len(ids) - longest)
    trace, logits = _traced(checkpoint, ids[dropped:], "attention")
    return Inspection(tokens[dropped:], dropped, _by_layer(trace), logits.numpy())


def attention_weights(checkpoint: Checkpoint, ids: list[int]) -> np.ndarray:
    """How much each of these tokens attends to each in every head, (L, nh, T, T) float32."""
    return _by_layer(_traced(checkpoint, ids, "attention")[0])


def averaged(weights: np.ndarray, layer: int | None, head: int | None) -> np.ndarray:
    """Of weights (L, nh, T, T) those of one head (T, T); None averages over the layer's heads, or over all layers."""
    weights = weights[slice(layer, None if layer is None else layer + 1)]  # (layers, nh, T, T)
    return weights[:, slice(head, None if head is None else head + 1)].mean(axis=(0, 1))


def _by_layer(trace: Trace) -> np.ndarray:
    return torch.cat(trace.attention).numpy()  # (L, nh, T, T): the batch of 1 makes way for the layers


@torch.inference_mode()
def _traced(checkpoint: Checkpoint, ids: list[int], *names: str) -> tuple[Trace, Tensor]:
    """A forward pass over one row of tokens: the record of what is named, and the logits (T, V)."""
    trace = Trace(names)
    return trace, checkpoint.model(torch.tensor([ids]), trace)[0]


# ---- One head, step by step ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeadStages:
    """How one head came to its output for T tokens. Scores and masks are worked out here, the rest is the model's."""

    query: np.ndarray  # (T, hs) what each token looks for, as it is compared
    key: np.ndarray  # (T, hs): what it can be found by
    value: np.ndarray  # (T, hs): what it gives to those who look at it
    scores: np.ndarray  # (T, T): query · key
    scaled: np.ndarray  # (T, T): scores / √hs
    masked: np.ndarray  # (T, T): minus infinity where the key comes after the query
    weights: np.ndarray  # (T, T): softmax of each row, as the model computed it
    output: np.ndarray  # (T, hs): weights @ value, as the model computed it


def head_stages(checkpoint: Checkpoint, ids: list[int], layer: int, head: int) -> HeadStages:
    """The stages of one head, `layer` and `head` counted from 0, on a row of tokens."""
    names = ("q", "k", "v", "attention", "gathered")
    trace, _ = _traced(checkpoint, ids, *names)
    query, key, value, weights, output = (getattr(trace, name)[layer][0, head].numpy() for name in names)
    scores = query @ key.T
    scaled = scores / math.sqrt(query.shape[1])
    future = np.triu(np.ones_like(scores, dtype=bool), k=1)
    masked = np.where(future, -np.inf, scaled).astype(np.float32)
    return HeadStages(query, key, value, scores, scaled, masked, weights, output)


# ---- The residual stream ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lens:
    """What the model would say at each place of one token's residual stream, if it ended there.

    Places are the embedding and then the stream after each layer's attention and MLP: 2 L + 1 of them.
    """

    top_ids: np.ndarray  # (places, n): the most likely next tokens
    top_probs: np.ndarray  # (places, n)
    length: np.ndarray  # (places,): the norm of what was added there to the stream; of the embedding at first

    @property
    def places(self) -> list[str]:
        """What each place comes after."""
        parts = [f"Layer {i // 2 + 1} {'MLP' if i % 2 else 'attention'}" for i in range(len(self.length) - 1)]
        return ["Embedding", *parts]


def logit_lens(checkpoint: Checkpoint, ids: list[int], position: int = -1, n: int = 5) -> Lens:
    """The logit lens (nostalgebraist 2020): the model's own last norm and head, applied all along the stream."""
    seen = ids[: position % len(ids) + 1]  # what comes after a token does not change it
    trace, _ = _traced(checkpoint, seen, "stream")
    stream = torch.cat(trace.stream)[:, -1]  # (places, C)
    with torch.inference_mode():
        logits = checkpoint.model.lm_head(checkpoint.model.ln_f(stream))  # (places, V)
    top = logits.softmax(-1).topk(min(n, logits.size(1)))
    length = torch.cat([stream[:1], stream.diff(dim=0)]).norm(dim=-1)
    if not (length.isfinite().all() and top.values.isfinite().all()):
        raise BadInput(TOO_LARGE)
    return Lens(top.indices.numpy(), top.values.numpy(), length.numpy())
