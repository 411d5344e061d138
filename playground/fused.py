"""The model's loss in fewer passes over memory: what a processor trains with.

`GPT.forward` says what is computed. This says it once more, for speed, and is tested to give the same loss and the same
gradients. At this size a step is not slow for its arithmetic but for its reading and writing: a norm as a chain of five
operations reads and writes its input ten times, and its gradient twice as often. Each class here is one part of the
model in as few passes as torch's operations allow, with its gradient written out.

Matrices are multiplied in `dtype`. In bfloat16, where the processor has instructions for it, that is two to four times
as fast as in float32; the weights themselves, the residual stream and every norm's statistics stay float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from playground.model import GPT, MLP, CausalSelfAttention


def matmul_dtype() -> torch.dtype:
    """What this processor multiplies matrices fastest in, as it says itself."""
    has = torch.cpu.get_capabilities()
    fast = any(has.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))  # Intel, Intel and AMD, Arm
    return torch.bfloat16 if fast else torch.float32


def loss(model: GPT, idx: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """`model.loss(idx, targets)`, with matrices multiplied in `dtype`."""
    x = model.dropout(model.wpe(model.wte(idx)))  # (B, T, C)
    for block in model.h:
        x = x + attend(block.attn, norm(block.ln_1, x, dtype))
        x = x + think(block.mlp, norm(block.ln_2, x, dtype))
    logits = linear(model.lm_head, norm(model.ln_f, x, dtype))  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


# ---- The parts, in the order of model.py -----------------------------------------------------------------------------


def norm(module: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        return module(x).to(dtype)  # torch has it in one pass already
    return RMSNorm.apply(x, module.weight[None], module.eps, dtype)


def attend(attn: CausalSelfAttention, x: Tensor) -> Tensor:
    B, T, C = x.shape
    qkv = linear(attn.c_attn, x).view(B, T, 3, attn.n_head, attn.head_dim).permute(2, 0, 3, 1, 4)  # (3, B, nh, T, hs)
    qk, v = qkv.split((2, 1))
    q, k = look(attn, qk).to(x.dtype)
    keep = attn.attn_dropout.mask((B, attn.n_head, T, T), x.device)
    y = Attention.apply(q, k, v[0], attn.mask[:T, :T], keep)
    return attn.resid_dropout(linear(attn.c_proj, y.transpose(1, 2).reshape(B, T, C)))


def look(attn: CausalSelfAttention, qk: Tensor) -> Tensor:
    """Queries and keys (2, B, nh, T, hs), normalised and turned by their position: both at once."""
    if isinstance(attn.q_norm, nn.RMSNorm):
        weight = torch.stack([attn.q_norm.weight, attn.k_norm.weight])[:, None, None, None]  # (2, 1, 1, 1, hs)
        qk = RMSNorm.apply(qk, weight, attn.q_norm.eps, torch.float32)
    if attn.rotary:
        qk = Rotate.apply(qk, attn.cos[: qk.size(-2)], attn.sin[: qk.size(-2)])
    return qk


def think(mlp: MLP, x: Tensor) -> Tensor:
    activation = {"gelu": GELU, "relu2": SquaredReLU, "swiglu": SwiGLU}[mlp.activation]
    return mlp.dropout(linear(mlp.c_proj, activation.apply(linear(mlp.c_fc, x))))


def linear(module: nn.Linear, x: Tensor) -> Tensor:
    y = Linear.apply(x, module.weight)
    return y if module.bias is None else y + module.bias.to(x.dtype)


# ---- Each part's arithmetic and gradient -----------------------------------------------------------------------------


class Linear(Function):
    """x Wᵀ for x (…, n_in) and W (n_out, n_in)."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return grad @ weight, (grad.flatten(0, -2).T @ x.flatten(0, -2)).float()


class RMSNorm(Function):
    """x / rms(x) * weight, over the last dimension (C)."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        x = x.to(torch.float32, memory_format=torch.contiguous_format)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = (length.square() / x.size(-1) + eps).rsqrt()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return torch.mul(unit, weight, out=torch.empty_like(unit, dtype=dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        unit, scale, weight = ctx.saved_tensors
        product = grad * unit
        along = (product @ weight.mT) / -unit.size(-1)  # how far the gradient would only change x's length
        grad_x = (grad * weight).addcmul_(unit, along).mul_(scale)
        return grad_x, product.sum_to_size(weight.shape), None, None


class Rotate(Function):
    """`model.rotate`; its gradient turns back."""

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _turn(grad, *ctx.saved_tensors, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    half = x.size(-1) // 2
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], sin[:, :half], value=-direction)
    y[..., half:].addcmul_(x[..., :half], sin[:, half:], value=direction)
    return y


class Attention(Function):
    """softmax(q kᵀ / √hs) v under a causal mask, all (B, nh, T, hs); `keep` (B, nh, T, T) is dropout's, or None."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, keep: Tensor | None) -> Tensor:
        shape = q.shape
        q, k, v = (x.reshape(-1, *shape[-2:]) for x in (q, k, v))  # (B·nh, T, hs)
        hidden = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, -math.inf)
        scores = torch.baddbmm(hidden.expand(len(q), -1, -1), q, k.mT, alpha=shape[-1] ** -0.5)
        weights = scores.softmax(-1)
        keep = None if keep is None else keep.view_as(weights)
        dropped = weights if keep is None else (weights * keep).to(q.dtype)
        ctx.save_for_backward(q, k, v, weights, dropped, keep)
        return (dropped @ v).view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights, dropped, keep = ctx.saved_tensors
        shape = grad.shape
        grad = grad.reshape(q.shape)
        grad_weights = grad @ v.mT
        if keep is not None:
            grad_weights = (grad_weights * keep).to(weights.dtype)
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype) * shape[-1] ** -0.5
        gradients = grad_scores @ k, grad_scores.mT @ q, dropped.mT @ grad
        return *(gradient.view(shape) for gradient in gradients), None, None


class GELU(Function):
    """GPT-2's form of it, by way of a sigmoid: 1 + tanh(u) is 2 sigmoid(2u), and costs a quarter."""

    A, B = math.sqrt(8 / math.pi), 0.044715

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        square = x * x
        gate = (x * (1 + GELU.B * square)).mul_(GELU.A).sigmoid_()
        ctx.save_for_backward(x, square, gate)
        return x * gate

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        x, square, gate = ctx.saved_tensors
        slope = (3 * GELU.B * GELU.A * square).add_(GELU.A).mul_(x)  # of the sigmoid's argument, times x
        return slope.mul_(1 - gate).add_(1).mul_(gate).mul_(grad)


class SquaredReLU(Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


class SwiGLU(Function):
    """silu(gate) * x, for the two halves of what comes in."""

    @staticmethod
    def forward(ctx, both: Tensor) -> Tensor:
        gate, x = both.chunk(2, dim=-1)
        opened = F.silu(gate)
        ctx.save_for_backward(both, opened)
        return opened * x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        both, opened = ctx.saved_tensors
        gate, x = both.chunk(2, dim=-1)
        return torch.cat([torch.ops.aten.silu_backward(grad * x, gate), grad * opened], dim=-1)
