"""How good is it? The loss on any text, in units that compare across tokenizers."""

import math
from dataclasses import dataclass

import torch

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.training import full_loss


@dataclass(frozen=True)
class Evaluation:
    """The loss of a model on a text. Only `bits_per_char` compares models with different tokenizers."""

    loss: float  # nats a token
    perplexity: float  # e to the loss: as unsure as between that many equally likely tokens
    bits_per_char: float
    n_tokens: int  # how many were predicted: all but the first
    n_chars: int


def evaluate(checkpoint: Checkpoint, text: str) -> Evaluation:
    """Predicts every token of the text but the first, in windows of `block_size` that do not overlap."""
    ids = checkpoint.tokenizer.encode(text)
    if len(ids) < 2:
        raise BadInput("The text is too short to measure a loss on: give at least two tokens.")
    loss, n_tokens = full_loss(checkpoint.model, torch.tensor(ids)), len(ids) - 1
    n_chars = max(1, len(text) - len(checkpoint.tokenizer.decode(ids[:1])))
    return Evaluation(loss, math.exp(loss), loss * n_tokens / n_chars / math.log(2), n_tokens, n_chars)
