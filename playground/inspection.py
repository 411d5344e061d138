"""Looking inside: one traced forward pass of a checkpoint, and what every head did in it."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from playground.checkpoint import Checkpoint
from playground.generation import encode_prompt
from playground.model import Trace
from playground.tokenizer import Token

MAX_WEIGHTS = 2**26  # attention weights in one inspection, 256 MB of them; a visitor may upload any shape of model


@dataclass(frozen=True)
class Inspection:
    """What a model did with a prompt. T is the prompt's number of tokens, or as many as fit."""

    tokens: list[Token]  # the T tokens that the model saw
    n_dropped: int  # tokens at the prompt's beginning that did not fit into the context
    attention: np.ndarray  # (n_layer, nh, T, T) float32; row q, column k: how much query q attends to key k
    logits: np.ndarray  # (T, V) float32


@torch.inference_mode()
def inspect(checkpoint: Checkpoint, prompt: str) -> Inspection:
    """Traces the model on the prompt, or on as many of its last tokens as fit. `BadInput` if it knows none of them."""
    ids = encode_prompt(checkpoint.tokenizer, prompt)
    tokens = checkpoint.tokenizer.tokens(prompt)
    config = checkpoint.config
    longest = min(config.block_size, math.isqrt(MAX_WEIGHTS // (config.n_layer * config.n_head)))
    dropped = max(0, len(ids) - longest)
    trace = Trace()
    logits = checkpoint.model(torch.tensor([ids[dropped:]]), trace)[0]  # (T, V)
    attention = torch.cat(trace.attention).numpy()  # (n_layer, nh, T, T): the batch of 1 makes way for the layers
    return Inspection(tokens[dropped:], dropped, attention, logits.numpy())
