"""The model once more, in NumPy and with a cache: what writes text, four times as fast a token as torch at this size.

`model.py` says what is computed. This says it for one row of text whose beginning has been read before, and is tested
to give the same logits. No token sees the future, so what a layer made of a token, its key and its value, stays right
whatever comes after it: both are kept, and reading on costs only the tokens that are new. One token alone is so little
work that torch would spend most of its time on starting each operation; NumPy starts one in a third of that.

Letters in the shape comments are those of `model.py`; T counts the tokens that are new, S these and all before them.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from playground.model import GPT

LARGE = 2**18  # multiplications; below that NumPy stays on one core
Part = tuple[np.ndarray, np.ndarray | None]  # weight and bias


class Reader:
    """Reads tokens with a model's weights, and says what could come next."""

    def __init__(self, model: GPT):
        config = self.config = model.config
        self.parts, self.layers = parts_of(model), [parts_of(block) for block in model.h]
        if config.qk_norm:
            for layer in self.layers:
                both = layer["attn.q_norm"][0], layer["attn.k_norm"][0]
                layer["attn.qk_norm"] = np.stack(both)[:, None, None], None  # (2, 1, 1, hs): in one go
        if config.position == "rotary":
            attn, half = model.h[0].attn, config.head_dim // 2
            self.cos, self.sin = array(attn.cos), array(attn.sin) * np.repeat(np.float32([-1, 1]), half)
            self.other_half = np.r_[half : 2 * half, :half]  # what the sines, the first half negative, are for
        shape = (config.n_layer, 2, config.n_head, config.block_size, config.head_dim)
        self.cache = np.empty(shape, array(model.wte.weight).dtype)  # keys and values of every layer
        self.length = 0  # tokens read so far

    def forget(self) -> None:
        self.length = 0

    def read(self, ids: list[int]) -> Tensor:
        """Reads on. Returns the logits (V,) of the token after the last."""
        start, end = self.length, self.length + len(ids)
        if end > self.config.block_size:
            raise ValueError(f"{end} tokens do not fit into a context of {self.config.block_size}")
        x = self.parts["wte"][0][ids]  # (T, C)
        if "wpe" in self.parts:
            x = x + self.parts["wpe"][0][start:end]
        for layer, cache in zip(self.layers, self.cache, strict=True):
            x = x + self._attention(self._norm(x, layer["ln_1"]), layer, cache, start, end)
            x = x + self._mlp(self._norm(x, layer["ln_2"]), layer)
        self.length = end
        logits = linear(self._norm(x[-1:], self.parts["ln_f"]), self.parts["lm_head"])  # (1, V)
        return torch.from_numpy(logits[0])

    def _norm(self, x: np.ndarray, part: Part) -> np.ndarray:
        weight, bias = part
        if self.config.norm == "rmsnorm":
            return x / rms(x, eps=1e-6) * weight
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / rms(x, eps=1e-5) * weight
        return x if bias is None else x + bias

    def _attention(self, x: np.ndarray, layer: dict[str, Part], cache: np.ndarray, start: int, end: int) -> np.ndarray:
        config, T = self.config, end - start
        qkv = linear(x, layer["attn.c_attn"]).reshape(T, 3, config.n_head, -1).transpose(1, 2, 0, 3)  # (3, nh, T, hs)
        qk = qkv[:2]
        if config.qk_norm:
            qk = qk / rms(qk, eps=1e-6) * layer["attn.qk_norm"][0]
        if config.position == "rotary":
            qk = qk * self.cos[start:end] + qk.take(self.other_half, axis=-1) * self.sin[start:end]
        cache[0, :, start:end], cache[1, :, start:end] = qk[1], qkv[2]
        keys, values = cache[:, :, :end]  # (nh, S, hs) each
        scores = matmul(qk[0], keys.mT) / math.sqrt(config.head_dim)  # (nh, T, S)
        if T > 1:  # a single one may look at all
            scores = np.where(np.tri(T, end, start, dtype=bool), scores, -np.inf)
        powers = np.exp(scores - np.maximum.reduce(scores, axis=-1, keepdims=True))
        weights = powers / np.add.reduce(powers, axis=-1, keepdims=True)
        y = matmul(weights, values).transpose(1, 0, 2).reshape(T, -1)  # (T, C)
        return linear(y, layer["attn.c_proj"])

    def _mlp(self, x: np.ndarray, layer: dict[str, Part]) -> np.ndarray:
        x = linear(x, layer["mlp.c_fc"])  # (T, n_hidden), twice that for SwiGLU
        if self.config.activation == "gelu":
            x = x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))) / 2
        elif self.config.activation == "relu2":
            x = np.maximum(x, 0) ** 2
        else:
            n = self.config.n_hidden
            half = x[:, :n] / 2
            x = half * (1 + np.tanh(half)) * x[:, n:]  # SiLU of the first n, in a form that cannot overflow
        return linear(x, layer["mlp.c_proj"])


def parts_of(module: nn.Module) -> dict[str, Part]:
    """The weights and biases of everything in `module`, by its name; in torch's own memory where that is this one's."""
    return {
        name: (array(part.weight), None if getattr(part, "bias", None) is None else array(part.bias))
        for name, part in module.named_modules()
        if getattr(part, "weight", None) is not None
    }


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a @ b`. Large ones go to torch, which keeps to its number of threads; NumPy would share them among all cores."""
    if a.shape[-2] * b.size < LARGE:
        return a @ b
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


def linear(x: np.ndarray, part: Part) -> np.ndarray:
    y = matmul(x, part[0].T)
    return y if part[1] is None else y + part[1]


def rms(x: np.ndarray, eps: float) -> np.ndarray:
    """The root of the mean square: the scale that RMSNorm takes away."""
    return np.sqrt(np.vecdot(x, x)[..., None] / x.shape[-1] + eps)
