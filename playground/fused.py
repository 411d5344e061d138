"""The model's loss and its gradient, written out: what a processor trains with.

`GPT.forward` says what is computed. This says it once more, for speed, and is tested to give the same loss and the same
gradients. At this size a step is not slow for its arithmetic but for all around it: thousands of operations that each
have to be started, recorded for autograd and read from memory what the one before has just written. Here each part of
the model takes as few passes as torch's operations allow, and says itself how a gradient comes back through it.

So every part returns two things: what it computes, and a function `back`, which takes the loss's gradient by that and
returns the gradient by the part's input. What `back` needs it remembers; what the part's weights learn it puts into
`learned`. Autograd sees all layers as one operation; the price is that all their gradients come at once, so that of
several processes none can send the first while it computes the next.

Matrices are multiplied in `dtype`. In bfloat16, where the processor has instructions for it, that is two to four times
as fast as in float32; the weights themselves, the residual stream, and all that is done number by number stay float32.

Letters as in model.py, and N = B·T: all tokens of a batch, one below the other.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from playground.model import GPT, Block, CausalSelfAttention, Dropout

Back = Callable[[Tensor], Tensor]  # the gradient by a part's output -> the gradient by its input
Learned = dict[Tensor, Tensor]  # the gradient by each weight


def matmul_dtype() -> torch.dtype:
    """What this processor multiplies matrices fastest in, as it says itself."""
    has = torch.cpu.get_capabilities()
    fast = any(has.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))  # Intel, Intel and AMD, Arm
    return torch.bfloat16 if fast else torch.float32


def fused_loss(model: GPT, idx: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """`model.loss(idx, targets)`, with matrices multiplied in `dtype`."""
    x = model.dropout(model.wpe(model.wte(idx)))  # (B, T, C)
    weights = [*model.h.parameters(), *model.ln_f.parameters(), *model.lm_head.parameters()]
    return F.cross_entropy(Logits.apply(x, model, dtype, *weights), targets.flatten())


class Logits(Function):
    """All decoder layers and the head: (B, T, C) to (N, V)."""

    @staticmethod
    def forward(ctx, x: Tensor, model: GPT, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        T, learned, backs = x.size(1), {}, []
        x = x.flatten(0, 1)  # (N, C)
        for block in model.h:
            for part in (attend, think):
                y, back = part(block, x, T, dtype, learned)
                x = x + y
                if ctx.needs_input_grad[0]:  # of a weight this is true even where no gradient is wanted
                    backs.append(back)
        x, back_norm = norm(model.ln_f, x, dtype, learned)
        logits, back_head = linear(model.lm_head, x, learned)
        ctx.last, ctx.backs, ctx.learned = lambda grad: back_norm(back_head(grad)), backs, learned
        ctx.weights, ctx.T, ctx.dtype = weights, T, dtype
        return logits.float()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.last is None:
            raise RuntimeError("A loss can be differentiated only once: what its gradient needs is gone by then.")
        grad, ctx.last = ctx.last(grad.to(ctx.dtype)), None  # (N, C)
        while ctx.backs:
            grad = grad + ctx.backs.pop()(grad.to(ctx.dtype))  # popped, so that what it remembers goes
        # Popped as well: what nobody else holds becomes `weight.grad` without a copy.
        gradients = [ctx.learned.pop(weight) for weight in ctx.weights]
        return grad.unflatten(0, (-1, ctx.T)), None, None, *gradients


# ---- The parts, in the order of model.py -----------------------------------------------------------------------------


def attend(block: Block, x: Tensor, T: int, dtype: torch.dtype, learned: Learned) -> tuple[Tensor, Back]:
    """What a layer's attention adds to its residual stream (N, C)."""
    attn, C = block.attn, x.size(1)
    x, back_norm = norm(block.ln_1, x, dtype, learned)
    qkv, back_qkv = linear(attn.c_attn, x, learned)  # (N, 3C)
    heads = _by_head(qkv, T, attn.n_head)  # (3, B, nh, T, hs)
    qk, back_look = queries_and_keys(attn, heads[:2], learned)
    y, back_gather = gather(*qk, heads[2], attn.mask[:T, :T], attn.attn_dropout)  # (B, nh, T, hs)
    y, back_proj = linear(attn.c_proj, y.transpose(1, 2).reshape(-1, C), learned)
    y, back_dropout = dropout(attn.resid_dropout, y)

    def back(grad: Tensor) -> Tensor:
        grad = back_proj(back_dropout(grad))
        grad_qk, grad_v = back_gather(grad.view(-1, T, attn.n_head, attn.head_dim).transpose(1, 2))
        grad_qkv = grad.new_empty(len(grad), 3 * C)
        grad_heads = _by_head(grad_qkv, T, attn.n_head)
        grad_heads[:2], grad_heads[2] = back_look(grad_qk), grad_v
        return back_norm(back_qkv(grad_qkv))

    return y, back


def _by_head(qkv: Tensor, T: int, n_head: int) -> Tensor:
    return qkv.view(-1, T, 3, n_head, qkv.size(1) // (3 * n_head)).permute(2, 0, 3, 1, 4)


def queries_and_keys(attn: CausalSelfAttention, qk: Tensor, learned: Learned) -> tuple[Tensor, Back]:
    """Queries and keys (2, B, nh, T, hs), normalised and turned by their position: both at once."""
    if isinstance(attn.q_norm, nn.Identity) and not attn.rotary:
        return qk, _unchanged
    dtype, T = qk.dtype, qk.size(3)
    qk = qk.to(torch.float32, memory_format=torch.contiguous_format)
    back_norm = back_turn = _unchanged
    if isinstance(attn.q_norm, nn.RMSNorm):
        qk, back_norm = norm_heads(attn.q_norm, attn.k_norm, qk, learned)
    if attn.rotary:
        qk, back_turn = turn(qk, attn.cos[:T], attn.sin[:T])
    return qk.to(dtype), lambda grad: back_norm(back_turn(grad.float()))


def norm_heads(q_norm: nn.RMSNorm, k_norm: nn.RMSNorm, qk: Tensor, learned: Learned) -> tuple[Tensor, Back]:
    """Each query and each key to unit scale, (2, B, nh, T, hs)."""
    weight = torch.stack([q_norm.weight, k_norm.weight])[:, None]  # (2, 1, hs)
    shape = qk.shape
    y, back_norm = rms_norm(qk.flatten(1, 3), weight, q_norm.eps)

    def back(grad: Tensor) -> Tensor:
        grad, grad_weight = back_norm(grad.flatten(1, 3))
        learned[q_norm.weight], learned[k_norm.weight] = grad_weight[:, 0]
        return grad.view(shape)

    return y.view(shape), back


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Back]:
    """`model.rotate`; the gradient is turned back."""
    return _turned(x, cos, sin, 1), lambda grad: _turned(grad, cos, sin, -1)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    y = x * cos
    (x_first, x_second), (y_first, y_second), (sin, _) = (tensor.chunk(2, dim=-1) for tensor in (x, y, sin))
    y_first.addcmul_(x_second, sin, value=-direction)
    y_second.addcmul_(x_first, sin, value=direction)
    return y


def gather(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: Dropout) -> tuple[Tensor, Callable]:
    """softmax(q kᵀ / √hs) v under a mask (T, T), all (B, nh, T, hs); `back` returns (2, B, nh, T, hs) and v's."""
    shape, T, scale = q.shape, q.size(2), q.size(3) ** -0.5
    q, k, v = (x.reshape(-1, *shape[2:]) for x in (q, k, v))  # (B·nh, T, hs)
    hidden = torch.zeros(T, T, dtype=q.dtype).masked_fill_(~mask, -math.inf)  # added to the scores
    weights = torch.baddbmm(hidden, q, k.mT, alpha=scale).softmax(-1)
    keep = dropout.mask((len(q), T, T), q.device)
    dropped = weights if keep is None else (weights * keep).to(q.dtype)

    def back(grad: Tensor) -> tuple[Tensor, Tensor]:
        grad = grad.reshape(q.shape)
        grad_weights = torch.baddbmm(weights, grad, v.mT, beta=0, alpha=scale)  # times what the scores are scaled by
        if keep is not None:
            grad_weights = (grad_weights * keep).to(q.dtype)
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, q.dtype)
        grad_qk = torch.stack([torch.bmm(grad_scores, k), torch.bmm(grad_scores.mT, q)])
        return grad_qk.view(2, *shape), torch.bmm(dropped.mT, grad).view(shape)

    return torch.bmm(dropped, v).view(shape), back


def think(block: Block, x: Tensor, T: int, dtype: torch.dtype, learned: Learned) -> tuple[Tensor, Back]:
    """What a layer's MLP adds to its residual stream (N, C)."""
    mlp = block.mlp
    activation = {"gelu": gelu, "relu2": squared_relu, "swiglu": swiglu}[mlp.activation]
    x, back_norm = norm(block.ln_2, x, dtype, learned)
    x, back_fc = linear(mlp.c_fc, x, learned)
    x, back_activation = activation(x.float())
    y, back_proj = linear(mlp.c_proj, x.to(dtype), learned)
    y, back_dropout = dropout(mlp.dropout, y)

    def back(grad: Tensor) -> Tensor:
        grad = back_activation(back_proj(back_dropout(grad)).float())
        return back_norm(back_fc(grad.to(dtype)))

    return y, back


# ---- What the parts are made of --------------------------------------------------------------------------------------


def _unchanged(grad: Tensor) -> Tensor:
    return grad


def linear(module: nn.Linear, x: Tensor, learned: Learned) -> tuple[Tensor, Back]:
    """x Wᵀ + b for x (N, n_in) and W (n_out, n_in)."""
    weight = module.weight.to(x.dtype)
    y = torch.mm(x, weight.T)
    if module.bias is not None:
        y += module.bias

    def back(grad: Tensor) -> Tensor:
        learned[module.weight] = torch.mm(grad.T, x).float()
        if module.bias is not None:
            learned[module.bias] = grad.sum(0, dtype=torch.float32)
        return torch.mm(grad, weight)

    return y, back


def norm(module: nn.Module, x: Tensor, dtype: torch.dtype, learned: Learned) -> tuple[Tensor, Back]:
    """The norm of x (N, C), in `dtype`; its statistics and its gradient are float32."""
    if isinstance(module, nn.RMSNorm):
        y, back_norm = rms_norm(x, module.weight[None], module.eps)
    else:
        y, back_norm = layer_norm(x, module.weight, module.bias, module.eps)

    def back(grad: Tensor) -> Tensor:
        grad_x, *by_weight = back_norm(grad.float())
        for weight, gradient in zip(module.parameters(), by_weight, strict=True):
            learned[weight] = gradient.view_as(weight)
        return grad_x

    return y.to(dtype), back


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Callable]:
    """x / rms(x) * weight, over the last dimension of x (…, N, C); `back` returns the gradients by x and weight."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = torch.add(eps, length.square_(), alpha=1 / x.size(-1)).rsqrt_()
    unit = x * scale

    def back(grad: Tensor) -> tuple[Tensor, Tensor]:
        product = grad * unit
        along = (product @ weight.mT) / -unit.size(-1)  # how far the gradient would only change x's length
        grad_x = (grad * weight).addcmul_(unit, along).mul_(scale)
        return grad_x, product.sum_to_size(weight.shape)

    return unit * weight, back


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> tuple[Tensor, Callable]:
    """torch's; `back` returns the gradients by x, weight and, if there is one, bias."""
    y, mean, rstd = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
    wanted = [True, True, bias is not None]

    def back(grad: Tensor) -> list[Tensor]:
        gradients = torch.ops.aten.native_layer_norm_backward(grad, x, weight.shape, mean, rstd, weight, bias, wanted)
        return [gradient for gradient in gradients if gradient is not None]

    return y, back


def dropout(module: Dropout, x: Tensor) -> tuple[Tensor, Back]:
    mask = module.mask(x.shape, x.device)
    if mask is None:
        return x, _unchanged
    return x * mask, lambda grad: (grad * mask).to(grad.dtype)


def gelu(x: Tensor) -> tuple[Tensor, Back]:
    """GPT-2's form of it, by way of a sigmoid: 1 + tanh(u) is 2 sigmoid(2u), and costs a quarter."""
    a, b = math.sqrt(8 / math.pi), 0.044715
    square = x * x
    gate = (square * (a * b)).add_(a).mul_(x).sigmoid_()

    def back(grad: Tensor) -> Tensor:
        slope = square.mul_(3 * a * b).add_(a).mul_(x)  # of the sigmoid's argument, times x
        return slope.mul_(1 - gate).add_(1).mul_(gate).mul_(grad)

    return x * gate, back


def squared_relu(x: Tensor) -> tuple[Tensor, Back]:
    positive = x.relu()
    return positive * positive, lambda grad: (grad * positive).mul_(2)


def swiglu(both: Tensor) -> tuple[Tensor, Back]:
    """silu(gate) * x, for the two halves of what comes in."""
    gate, x = both.chunk(2, dim=-1)
    opened = F.silu(gate)

    def back(grad: Tensor) -> Tensor:
        return torch.cat([torch.ops.aten.silu_backward(grad * x, gate), grad * opened], dim=-1)

    return opened * x, back
