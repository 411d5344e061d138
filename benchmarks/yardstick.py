"""The recipe that people know for a small model on a processor, in plain torch: what our training is compared with.

A GPT-2 of 4 layers, 4 heads and 128 numbers a token, on batches of 12 rows of 64 characters: 2,000 steps of AdamW, a
warm-up and a cosine, fused attention, float32, torch's own threads. It shares no code with the playground.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEXT = Path(__file__).resolve().parents[2] / "shared/data/tinyshakespeare.txt"
BLOCK_SIZE, BATCH_SIZE, WIDTH, HEADS, LAYERS = 64, 12, 128, 4, 4
STEPS, WARM_UP, HIGHEST_LR, LOWEST_LR = 2_000, 100, 1e-3, 1e-4
EVAL_EVERY, EVAL_BATCHES = 250, 20


@dataclass(frozen=True)
class Data:
    """The text as ids of its characters: the first 90 % to learn from, the rest to be judged by."""

    train: Tensor
    val: Tensor
    vocab_size: int


def read_text() -> str:
    if not TEXT.exists():
        raise SystemExit(f"The text of the benchmarks is missing: put it at {TEXT}.")
    return TEXT.read_text()


def read_data() -> Data:
    text = read_text()
    chars = sorted(set(text))
    ids = torch.from_numpy(np.array([chars.index(c) for c in text], dtype=np.int64))
    n = int(0.9 * len(ids))
    return Data(ids[:n], ids[n:], len(chars))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (y.view(B, T, HEADS, C // HEADS).transpose(1, 2) for y in self.qkv(self.norm_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Yardstick(nn.Module):
    def __init__(self, vocab_size: int):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, WIDTH), nn.Embedding(BLOCK_SIZE, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                deep = name.endswith(("proj.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * LAYERS) if deep else 0.02)

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(idx) + self.positions(torch.arange(idx.size(1)))
        for layer in self.layers:
            x = layer(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


class Training:
    """The yardstick's run, a step at a time."""

    def __init__(self, data: Data, seed: int = 1337):
        torch.manual_seed(seed)
        self.data, self.model, self.n_steps, self.seconds = data, Yardstick(data.vocab_size), 0, 0.0
        matrices = [p for p in self.model.parameters() if p.dim() == 2]
        vectors = [p for p in self.model.parameters() if p.dim() != 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=HIGHEST_LR, betas=(0.9, 0.99))

    def run(self) -> Iterator[int]:
        """All its steps; `seconds` counts them, and the evaluations that the recipe has between them."""
        while self.n_steps < STEPS:
            started = perf_counter()
            if self.n_steps % EVAL_EVERY == 0:
                self.estimate()
            self.step()
            self.seconds += perf_counter() - started
            yield self.n_steps

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.n_steps)
        loss = self.model(*self.batch(self.data.train))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss.item()  # which its log shows
        self.n_steps += 1

    def batch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(ids) - BLOCK_SIZE, (BATCH_SIZE,))
        return tuple(torch.stack([ids[i + by : i + by + BLOCK_SIZE] for i in starts]) for by in (0, 1))

    @torch.no_grad()
    def estimate(self) -> float:
        """What the recipe looks at on the way: a few batches of each part."""
        losses = [self.model(*self.batch(ids)) for ids in (self.data.train, self.data.val) for _ in range(EVAL_BATCHES)]
        return torch.stack(losses).mean().item()

    @torch.no_grad()
    def val_loss(self) -> float:
        """Over the whole validation part, in windows that do not overlap."""
        n = (len(self.data.val) - 1) // BLOCK_SIZE
        x, y = (self.data.val[by : by + n * BLOCK_SIZE].view(n, BLOCK_SIZE) for by in (0, 1))
        losses = [self.model(a, b) * a.numel() for a, b in zip(x.split(128), y.split(128), strict=True)]
        return (torch.stack(losses).sum() / x.numel()).item()


def learning_rate(step: int) -> float:
    """A straight line up over the warm-up, then half a cosine down to the end."""
    if step < WARM_UP:
        return HIGHEST_LR * (step + 1) / (WARM_UP + 1)
    done = (step - WARM_UP) / (STEPS - WARM_UP)
    return LOWEST_LR + 0.5 * (1 + math.cos(math.pi * done)) * (HIGHEST_LR - LOWEST_LR)
