"""The code of the course: for each section the functions that make its picture, run once more while they are watched.

What stands beside a line is what it made for this sentence, in one head or layer of this model. Letters in the shape
comments as in model.py.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from playground.checkpoint import SMALL, Checkpoint
from playground.embeddings import nearest, positions, token_map
from playground.errors import BadInput
from playground.generation import Sampling, next_logits, next_token_probs
from playground.listing import Listing, watch
from playground.model import Trace, attention, causal_mask, rotate
from playground.tokenizer import BPETokenizer, PairTokenizer, gpt2_chunk, split_chunks

Call = tuple[Callable, tuple[object, ...]]  # a function, and what to call it with


@torch.inference_mode()
def walk(checkpoint: Checkpoint, ids: list[int], slug: str, layer: int = 0, head: int = 0) -> list[Listing]:
    """The lines of one section of the course, with what each made of a row of tokens."""
    return [watch(function, *args)[1] for function, args in CALLS[slug](checkpoint, ids, layer, head)]


# ---- What is called, section by section ------------------------------------------------------------------------------


def _introduction(checkpoint: Checkpoint, ids: list[int], *_) -> Iterator[Call]:
    yield checkpoint.model.forward, (torch.tensor([ids]),)


def _tokenizer(checkpoint: Checkpoint, ids: list[int], *_) -> Iterator[Call]:
    tokenizer = checkpoint.tokenizer
    text = tokenizer.decode(ids)
    yield tokenizer.encode, (text,)
    if isinstance(tokenizer, PairTokenizer):
        yield type(tokenizer)._encode_chunk, (tokenizer, max(_chunks(tokenizer, text), key=len))


def _chunks(tokenizer: PairTokenizer, text: str) -> list[str]:
    """What pairs are joined in, each by itself."""
    own = isinstance(tokenizer, BPETokenizer)
    return list(split_chunks(text)) if own else [match.group() for match in gpt2_chunk().finditer(text)]


def _embedding(checkpoint: Checkpoint, ids: list[int], *_) -> Iterator[Call]:
    if checkpoint.weights["wte.weight"].numel() > SMALL:
        raise BadInput("This model's table is so large that to draw it once more would keep others waiting.")
    yield token_map, (checkpoint,)
    yield nearest, (checkpoint.weights["wte.weight"].double().numpy(), ids[-1], 10)


def _positions(checkpoint: Checkpoint, ids: list[int], layer: int, _) -> Iterator[Call]:
    model = checkpoint.model
    embedded = model.wte(torch.tensor([ids]))  # (B, T, C)
    yield model.wpe.forward, (embedded,)
    if checkpoint.config.position == "rotary":
        attn = model.h[layer].attn
        T = len(ids)
        yield rotate, (_queries(checkpoint, ids, layer), attn.cos[:T], attn.sin[:T])
    if checkpoint.config.position != "none":
        yield positions, (checkpoint,)


def _queries(checkpoint: Checkpoint, ids: list[int], layer: int) -> Tensor:
    """A layer's queries before they are turned, (B, nh, T, hs)."""
    block, config = checkpoint.model.h[layer], checkpoint.config
    x = block.attn.c_attn(block.ln_1(_stream(checkpoint, ids, layer)))  # (B, T, 3 C)
    q = x.view(1, len(ids), 3, config.n_head, config.head_dim)[:, :, 0]  # (B, T, nh, hs)
    return block.attn.q_norm(q.transpose(1, 2))


def _masking(checkpoint: Checkpoint, ids: list[int], layer: int, head: int) -> Iterator[Call]:
    yield causal_mask, (len(ids),)
    yield from _attention(checkpoint, ids, layer, head)


def _attention(checkpoint: Checkpoint, ids: list[int], layer: int, head: int) -> Iterator[Call]:
    trace = Trace(("q", "k", "v"))
    checkpoint.model(torch.tensor([ids]), trace)
    q, k, v = (part[layer][0, head] for part in (trace.q, trace.k, trace.v))  # (T, hs) each
    yield attention, (q, k, v, causal_mask(len(ids)))


def _heads(checkpoint: Checkpoint, ids: list[int], layer: int, _) -> Iterator[Call]:
    block = checkpoint.model.h[layer]
    yield block.attn.forward, (block.ln_1(_stream(checkpoint, ids, layer)),)


def _layer(checkpoint: Checkpoint, ids: list[int], layer: int, _) -> Iterator[Call]:
    block, x = checkpoint.model.h[layer], _stream(checkpoint, ids, layer)
    yield block.forward, (x,)
    yield block.mlp.forward, (block.ln_2(x + block.attn(block.ln_1(x))),)


def _head(checkpoint: Checkpoint, ids: list[int], *_) -> Iterator[Call]:
    yield next_logits, (checkpoint.model, ids)
    yield next_token_probs, (next_logits(checkpoint.model, ids), Sampling())


def _training(checkpoint: Checkpoint, ids: list[int], *_) -> Iterator[Call]:
    if len(ids) < 2:
        raise BadInput(
            "The sentence has one token, and a loss needs two, one to see and one to foresee: add some words."
        )
    row = torch.tensor([ids])  # (B, T + 1)
    yield checkpoint.model.loss, (row[:, :-1], row[:, 1:])


def _stream(checkpoint: Checkpoint, ids: list[int], layer: int) -> Tensor:
    """What a layer is given, (B, T, C)."""
    trace = Trace(("stream",))
    checkpoint.model(torch.tensor([ids]), trace)
    return trace.stream[2 * layer]


CALLS: dict[str, Callable[[Checkpoint, list[int], int, int], Iterator[Call]]] = {
    "introduction": _introduction,
    "tokenizer": _tokenizer,
    "embedding": _embedding,
    "positions": _positions,
    "masking": _masking,
    "attention": _attention,
    "heads": _heads,
    "layer": _layer,
    "head": _head,
    "training": _training,
}
