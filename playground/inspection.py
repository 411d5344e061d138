"""Looking inside: one traced forward pass of a checkpoint, and what every head did in it."""

from dataclasses import dataclass

import numpy as np
import torch

from playground.checkpoint import Checkpoint
from playground.generation import encode_prompt
from playground.model import Trace
from playground.tokenizer import Token


@dataclass(frozen=True)
class Inspection:
    """What a model did with a prompt. T is the prompt's number of tokens, at most `block_size`."""

    tokens: list[Token]  # the T tokens that the model saw
    n_dropped: int  # tokens at the prompt's beginning that did not fit into the context
    attention: np.ndarray  # (n_layer, nh, T, T) float32; row q, column k: how much query q attends to key k
    logits: np.ndarray  # (T, V) float32


@torch.inference_mode()
def inspect(checkpoint: Checkpoint, prompt: str) -> Inspection:
    """Traces the model on the prompt, or on its last `block_size` tokens. `BadInput` if it knows none of them."""
    ids = encode_prompt(checkpoint.tokenizer, prompt)
    tokens = checkpoint.tokenizer.tokens(prompt)
    dropped = max(0, len(ids) - checkpoint.config.block_size)
    trace = Trace()
    logits = checkpoint.model(torch.tensor([ids[dropped:]]), trace)[0]  # (T, V)
    attention = torch.cat(trace.attention).numpy()  # (n_layer, nh, T, T): the batch of 1 makes way for the layers
    return Inspection(tokens[dropped:], dropped, attention, logits.numpy())
