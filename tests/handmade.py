"""Checkpoints that no training made, for tests that need to know, or to vary, what is in them."""

import torch

from playground.checkpoint import Checkpoint
from playground.config import ModelConfig, TrainConfig
from playground.model import GPT
from playground.tokenizer import Tokenizer


def random_checkpoint(tokenizer: Tokenizer, scale: float = 0.4, **shape) -> Checkpoint:
    """A small model with random weights everywhere, so that every prediction depends on all that stands before it."""
    shape = {"block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 16, **shape}
    config = ModelConfig(vocab_size=tokenizer.vocab_size, **shape)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: scale * torch.randn(weight.shape, generator=generator)
        for name, weight in GPT(config).state_dict().items()
    }
    return Checkpoint("test", config, tokenizer, weights, TrainConfig())


def checkpoint_with_logits(logits: list[float], tokenizer: Tokenizer) -> Checkpoint:
    """A model that gives these logits (V,) whatever stood before: its last norm's output is always its bias."""
    config = ModelConfig(
        vocab_size=len(logits), block_size=4, n_layer=1, n_head=1, n_embd=4, norm="layernorm", bias=True
    )
    weights = {name: torch.zeros_like(weight) for name, weight in GPT(config).state_dict().items()}
    weights["ln_f.bias"][0] = 1.0
    weights["lm_head.weight"][:, 0] = torch.tensor(logits)
    return Checkpoint("test", config, tokenizer, weights, TrainConfig())
