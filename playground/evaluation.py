"""How good is it? The loss on any text, in units that compare across tokenizers."""

import math
from dataclasses import dataclass

import torch

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.tokenizer import Tokenizer
from playground.training import full_loss

LARGEST_EXPONENT = 700  # e to more than 709 is no float
MAX_TOKEN = 256  # characters; no token is longer


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
    n_chars = max(1, len(text) - _first_length(checkpoint.tokenizer, text))
    perplexity = math.exp(loss) if loss < LARGEST_EXPONENT else math.inf
    return Evaluation(loss, perplexity, loss * n_tokens / n_chars / math.log(2), n_tokens, n_chars)


def _first_length(tokenizer: Tokenizer, text: str) -> int:
    """How many characters the first token, which is not predicted, stands for. A part of a character counts as one."""
    first = tokenizer.tokens(text[:MAX_TOKEN])[0]
    return 1 if first.kind == "bytes" else len(first.text)
