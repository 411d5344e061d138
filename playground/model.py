"""A decoder-only transformer from scratch, in the order in which a text passes through it.

    token ids -> 1 embedding -> 2 positional encoding -> n_layer x decoder layer -> 7 language-model head -> logits
    decoder layer:  x + multi-head attention(norm(x)), then x + MLP(norm(x))        (6; it uses 3, 4 and 5)

Letters in the shape comments:
    B batch (rows of text), T time (tokens in a row), C n_embd, nh number of heads, hs = C / nh head size, V vocabulary

Sources: Vaswani et al. 2017, "Attention Is All You Need"; Radford et al. 2019 (GPT-2: the norm before each part);
Su et al. 2021 (rotary positions); Zhang & Sennrich 2019 (RMSNorm); Shazeer 2020 (SwiGLU); So et al. 2021 (squared
ReLU); Henry et al. 2020 (normalised queries and keys).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playground.config import ModelConfig

# ---- 1. Embedding: a token id becomes a vector -----------------------------------------------------------------------


class TokenEmbedding(nn.Embedding):
    """One learned vector for every token of the vocabulary: row `i` of the (V, C) table is what token `i` means."""

    def __init__(self, config: ModelConfig):
        super().__init__(config.vocab_size, config.n_embd)


# ---- 2. Positional encoding: where a token stands --------------------------------------------------------------------


def sinusoidal_table(length: int, n_embd: int) -> Tensor:
    """The fixed table of Vaswani et al.: sines and cosines whose wavelengths grow from 2π to 10,000·2π tokens.

    >>> sinusoidal_table(2, 4)[1]  # position 1: sin 1, cos 1, sin 0.01, cos 0.01
    tensor([0.8415, 0.5403, 0.0100, 0.9999])
    """
    position = torch.arange(length, dtype=torch.float32)[:, None]  # (T, 1)
    frequency = 10_000.0 ** (-torch.arange(0, n_embd, 2, dtype=torch.float32) / n_embd)  # (C/2,)
    angle = position * frequency  # (T, C/2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)  # (T, C)


class PositionEmbedding(nn.Module):
    """Adds to each token's vector one that says where it stands: a learned one, a sinusoidal one, or none at all."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        if config.position == "learned":
            self.weight = nn.Parameter(torch.empty(config.block_size, config.n_embd))
        elif config.position == "sinusoidal":
            self.register_buffer("weight", sinusoidal_table(config.block_size, config.n_embd), persistent=False)
        else:  # rotary positions act inside attention; "none" leaves only the causal mask to tell order
            self.weight = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.weight is None else x + self.weight[: x.size(1)]  # (B, T, C) + (T, C)


def rotary_table(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle by which position `t` turns each pair of a head's numbers: two (T, hs) tables."""
    frequency = 10_000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)  # (hs/2,)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency  # (T, hs/2)
    angle = torch.cat([angle, angle], dim=-1)  # number i and number i + hs/2 form a pair
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns queries or keys (B, nh, T, hs) by their position, so that q·k depends only on how far apart they stand."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


# ---- 3. Masking: no token sees the future ----------------------------------------------------------------------------


def causal_mask(length: int) -> Tensor:
    """True where a query (row) may look at a key (column): itself and what stands before it.

    >>> causal_mask(3)
    tensor([[ True, False, False],
            [ True,  True, False],
            [ True,  True,  True]])
    """
    return torch.ones(length, length, dtype=torch.bool).tril()


# ---- 4. Attention: each token gathers from those it looks at ---------------------------------------------------------


@dataclass
class Trace:
    """A record of one forward pass. Give it to `GPT.forward`; each layer appends what it computed, detached.

    With `only` some names, the rest is not kept: of a large model and a long prompt it would be much.
    """

    only: tuple[str, ...] = ("stream", "q", "k", "v", "attention", "gathered")
    stream: list[Tensor] = field(default_factory=list)  # (B, T, C): the tokens embedded, then after each part added
    q: list[Tensor] = field(default_factory=list)  # n_layer tensors (B, nh, T, hs), as they are compared
    k: list[Tensor] = field(default_factory=list)  # likewise
    v: list[Tensor] = field(default_factory=list)  # likewise
    attention: list[Tensor] = field(default_factory=list)  # n_layer tensors (B, nh, T, T); each row sums to 1
    gathered: list[Tensor] = field(default_factory=list)  # n_layer tensors (B, nh, T, hs): what every head outputs

    def record(self, **computed: Tensor) -> None:
        for name in self.only:
            if name in computed:
                getattr(self, name).append(computed[name].detach())


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention: queries and keys (…, T, hs) say who looks at whom, values (…, T, hs) what is seen.

    Returns what every token gathered, (…, T, hs), and the weights it gathered with, (…, T, T).
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (…, T, T); the scale keeps their variance at 1
    scores = scores.masked_fill(~mask, float("-inf"))  # e to the minus infinity is 0
    weights = F.softmax(scores, dim=-1)  # each row is a distribution over the past
    return (dropout(weights) if dropout else weights) @ v, weights


# ---- 5. Multi-head attention: several looks at once ------------------------------------------------------------------


class Dropout(nn.Module):
    """Zeroes a share `p` of the numbers while training and scales up the rest; `p` counts in steps of 1/256.

    torch's own draws from one generator that all threads share; this one draws from the run's, so that a run
    continued after a pause goes on bit for bit whatever else ran in between. It draws bytes, four with each call of the
    generator, since numbers one by one would take longer than the attention that they are for.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def mask(self, shape: torch.Size, device: torch.device) -> Tensor | None:
        """What to multiply with: 0 for a share `p` of the numbers, 1 / (1 - p) for the rest. None: nothing to drop."""
        if not self.training or self.p == 0:
            return None
        n_kept = round(256 * (1 - self.p))  # of the 256 values that a byte can have
        draws = torch.empty(math.ceil(math.prod(shape) / 4), dtype=torch.int32, device=device)
        draws.random_(-(2**31), None, generator=self.generator)
        kept = (
            draws.view(torch.uint8)[: math.prod(shape)].view(shape) <= n_kept - 1
        )  # a byte has no 256 to compare with
        return kept * (256 / n_kept)

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask(x.shape, x.device)
        return x if mask is None else x * mask


class CausalSelfAttention(nn.Module):
    """`n_head` attentions side by side, each on its own `hs` numbers of every token, and a matrix that mixes them."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_head, self.head_dim = config.n_head, config.head_dim
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)  # queries, keys and values
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.q_norm = nn.RMSNorm(config.head_dim, eps=1e-6) if config.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(config.head_dim, eps=1e-6) if config.qk_norm else nn.Identity()
        self.attn_dropout, self.resid_dropout = Dropout(config.dropout), Dropout(config.dropout)
        self.rotary = config.position == "rotary"
        self.register_buffer("mask", causal_mask(config.block_size), persistent=False)  # (T, T)
        if self.rotary:
            cos, sin = rotary_table(config.block_size, config.head_dim)
            self.register_buffer("cos", cos, persistent=False)  # (T, hs)
            self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor, trace: Trace | None = None) -> Tensor:
        B, T, C = x.shape
        qkv = self.c_attn(x).view(B, T, 3, self.n_head, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, nh, T, hs)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary:
            q, k = rotate(q, self.cos[:T], self.sin[:T]), rotate(k, self.cos[:T], self.sin[:T])
        y, weights = attention(q, k, v, self.mask[:T, :T], self.attn_dropout)  # (B, nh, T, hs), (B, nh, T, T)
        if trace is not None:
            trace.record(q=q, k=k, v=v, attention=weights, gathered=y)
        y = y.transpose(1, 2).reshape(B, T, C)  # the heads' outputs side by side again
        return self.resid_dropout(self.c_proj(y))


# ---- 6. Decoder layer: look around, then think -----------------------------------------------------------------------


def make_norm(config: ModelConfig) -> nn.Module:
    """Brings each token's vector to unit scale: LayerNorm takes off the mean as well, RMSNorm does not."""
    if config.norm == "layernorm":
        return nn.LayerNorm(config.n_embd, eps=1e-5, bias=config.bias)
    return nn.RMSNorm(config.n_embd, eps=1e-6)


class MLP(nn.Module):
    """Works on each token alone: wider, a curve, narrow again. SwiGLU multiplies two such paths."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.activation = config.activation
        n_in = 2 * config.n_hidden if config.activation == "swiglu" else config.n_hidden
        self.c_fc = nn.Linear(config.n_embd, n_in, bias=config.bias)
        self.c_proj = nn.Linear(config.n_hidden, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_fc(x)  # (B, T, n_hidden), twice that for SwiGLU
        if self.activation == "gelu":
            x = F.gelu(x, approximate="tanh")  # the form that GPT-2 was trained with
        elif self.activation == "relu2":
            x = F.relu(x).square()
        else:
            gate, x = x.chunk(2, dim=-1)
            x = F.silu(gate) * x
        return self.dropout(self.c_proj(x))  # (B, T, C)


class Block(nn.Module):
    """One decoder layer. Both parts add to the residual stream `x`; neither overwrites it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.ln_1 = make_norm(config)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = make_norm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, trace: Trace | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), trace)  # (B, T, C)
        if trace is not None:
            trace.record(stream=x)
        x = x + self.mlp(self.ln_2(x))
        if trace is not None:
            trace.record(stream=x)
        return x


# ---- 7. The model and its language-model head ------------------------------------------------------------------------


class GPT(nn.Module):
    """Token ids (B, T) to logits (B, T, V): for every position, a score for each token that could come next."""

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None):
        super().__init__()
        config.validate()
        self.config = config
        self.wte = TokenEmbedding(config)
        self.wpe = PositionEmbedding(config)
        self.dropout = Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = make_norm(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.init_weights(generator)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Random weights that keep the scale of what passes through; each layer starts by adding nothing.

        Embeddings have unit scale, a matrix with n inputs has 1/√n, and what writes to the residual stream is zero. On
        Shakespeare's characters, 300 steps of Muon end at 1.86 so, at 1.89 with GPT-2's 0.02 everywhere.
        """
        for name, weight in self.named_parameters():
            if name.endswith("bias") or name.endswith("c_proj.weight"):
                weight.zero_()
            elif name.startswith(("wte", "wpe")):
                weight.normal_(0.0, 1.0, generator=generator)
            elif name == "lm_head.weight":
                weight.normal_(0.0, 0.02, generator=generator)  # all tokens are about equally likely at first
            elif weight.dim() == 2:
                weight.normal_(0.0, weight.size(1) ** -0.5, generator=generator)

    def forward(self, idx: Tensor, trace: Trace | None = None) -> Tensor:
        if idx.size(1) > self.config.block_size:
            raise ValueError(f"{idx.size(1)} tokens do not fit into a context of {self.config.block_size}")
        x = self.dropout(self.wpe(self.wte(idx)))  # (B, T, C)
        if trace is not None:
            trace.record(stream=x)
        for block in self.h:
            x = block(x, trace)
        return self.lm_head(self.ln_f(x))  # (B, T, V)

    def loss(self, idx: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats: how surprised the model is by each next token, `targets` (B, T)."""
        return F.cross_entropy(self(idx).flatten(0, 1), targets.flatten())
