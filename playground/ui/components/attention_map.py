"""All heads of one traced prompt as small heat maps, and one of them large.

Letters: L layers, nh heads of a layer, T tokens. The arrays are packed here as base64, which reaches the page many
times faster than nested lists; the picture itself is drawn by attention_map.js.
"""

from collections.abc import Callable, Sequence

import gradio as gr
import numpy as np
import torch
import torch.nn.functional as F

from playground.inspection import averaged
from playground.ui.components.base import component, packed

THUMB_SIDE = 64
AVERAGE = -1

TEMPLATE = """
<div class="am">
  <p class="am-note" role="status"></p>
  <div class="am-body" hidden>
    <section class="am-heads" aria-label="All heads">
      <div class="am-title">
        <span>All heads</span>
        <select class="am-which" aria-label="Which heads"></select>
      </div>
      <div class="am-scroll">
        <div class="am-grid" role="group" aria-label="One row a layer, one column a head"></div>
      </div>
      <div class="am-legend">
        <div class="am-scale" role="img" aria-label="Colour scale of the weights, 0 to 1"></div>
        <p>weight, 0 to 1; the colour follows its square root, so that small weights show</p>
        <p><i class="am-hatch"></i>masked: a token never sees those after it</p>
      </div>
    </section>
    <section class="am-large" aria-label="One head">
      <div class="am-choose">
        <select class="am-layer" aria-label="Layer"></select>
        <select class="am-head" aria-label="Head"></select>
        <span class="am-preview"></span>
      </div>
      <div class="am-stage look-stage">
        <canvas class="am-map"></canvas>
        <canvas class="am-light look-light" tabindex="0" role="application"></canvas>
        <p class="am-fault" role="alert" hidden></p>
      </div>
    </section>
    <section class="am-prompt" aria-label="Prompt">
      <p class="am-readout" role="status"></p>
      <div class="am-strip" role="group" aria-label="Tokens of the prompt"></div>
    </section>
  </div>
</div>
"""


def attention_map(grid: Callable, head: Callable, badges: Callable, **kwargs) -> gr.HTML:
    """The component. Its value is what the tab looks at (see attention.py), or None for the empty state.

    The page asks `grid([id, layer, head])` for `pack_grid(...)` with the head that is locked, or another if the trace
    has none there, then `badges(id)` for what each head is for, a list a layer of a word each, "" for nothing special;
    and `head([id, layer, head])` for `pack_head(...)`. Each may return `{"error": sentence}` instead.
    Everything in the arguments comes from a browser: the functions must check it.

    It sends `pick` whenever the locked head changes, which is in its value by then as "layer" and "head", counted from
    0 and -1 for an average; of a new trace that is [0, 0] at first.

    On its element stand the facts that tests read: data-model (whose badges are shown), data-layers, -heads, -tokens,
    -locked and -shown ("layer,head") and -painted (how often the large map was painted); on the readout data-query,
    -key and -weight, counted from 0.
    """
    return component("attention_map", TEMPLATE, "look", server_functions=[grid, head, badges], **kwargs)


def pack_grid(weights: np.ndarray, tokens: Sequence, layer: int, head: int) -> dict:
    """The prompt, a thumbnail of every head, and one head as `pack_head` has it, so that the page need not ask twice.
    From weights (L, nh, T, T) and the T tokens of `Tokenizer.tokens`.

    "thumbs" are bytes (L, nh, side * (side + 1) / 2), row after row up to the diagonal, the square root of the weight
    scaled to 0..255: on a linear scale the weights of a long prompt would round to a few of the 256 steps. Only for
    colours, never for numbers.
    """
    n_layer, n_head, T, _ = weights.shape
    small = _shrink(weights)
    side = small.shape[-1]
    seen = np.tril(np.ones((side, side), dtype=bool))  # what the causal mask leaves
    thumbs = np.sqrt(small[..., seen])
    return {
        "layers": n_layer,
        "heads": n_head,
        "T": T,
        "side": side,
        "tokens": [token.text for token in tokens],
        "ids": [int(token.id) for token in tokens],
        "thumbs": packed((thumbs * 255).round().astype(np.uint8)),
        "first": pack_head(weights, layer, head),
    }


def pack_head(weights: np.ndarray, layer: int, head: int) -> dict:
    """The float32 weights (T, T) of one head, row = query, from weights (L, nh, T, T).

    head -1 is the average over the heads of the layer; layer -1 (with head -1) the average over all heads.
    """
    chosen = averaged(weights, *none_for_average(layer, head))
    return {"layer": layer, "head": head, "weights": packed(chosen.astype("<f4"))}


def none_for_average(layer: int, head: int) -> tuple[int | None, int | None]:
    """Layer and head, as the page names them, for Python: there an average is None.

    >>> none_for_average(2, -1)
    (2, None)
    """
    return None if layer == AVERAGE else layer, None if head == AVERAGE else head


def _shrink(weights: np.ndarray) -> np.ndarray:
    """At most THUMB_SIDE a side; each cell is the maximum of what it covers, so that a thin diagonal stays visible."""
    if weights.shape[-1] <= THUMB_SIDE:
        return weights
    return F.adaptive_max_pool2d(torch.from_numpy(weights), THUMB_SIDE).numpy()  # three times as fast as numpy
