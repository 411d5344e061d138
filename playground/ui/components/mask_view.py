"""The causal mask: a picture of it, and what one head's attention and the model's loss become without it."""

from collections.abc import Callable, Sequence

import gradio as gr
import numpy as np

from playground.ui.components.attention_map import pack_head
from playground.ui.components.base import component

TEMPLATE = """
<details class="look mv">
  <summary>The mask: what no token may see</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <p>Before the softmax, every score of a key that comes after its query is set to −∞, so its weight is 0: a model
      that learns to predict the next token must not see it. Here the mask is taken away for one forward pass of the
      model as it is: each token sees all of the text, its own answer included.</p>
    <div class="mv-maps">
      <figure><figcaption>the mask: what is <b>filled</b> may be seen</figcaption>
        <canvas class="mv-mask"></canvas></figure>
      <figure><figcaption><span class="mv-head"></span> with it</figcaption>
        <canvas class="mv-before"></canvas></figure>
      <figure><figcaption><span class="mv-head"></span> without it</figcaption>
        <canvas class="mv-after"></canvas></figure>
    </div>
    <p class="mv-cell look-readout" role="status"></p>
    <div class="figure-buttons"></div>
    <label class="look-choose">Query token <select class="mv-query"></select></label>
    <p class="mv-row"></p>
    <p class="mv-loss" role="status"></p>
  </div>
</details>
"""


def mask_view(mask: Callable, figure: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is what the tab looks at (see attention.py), or None.

    While it is open it asks `mask([visitor, id, layer, head])` for `pack_mask(...)` with the losses `before` and
    `after` in nats a token, over `n_tokens` of `name`; and `figure` with the same and "png" or "svg" for a file. Either
    may answer `{"error": sentence}`.
    """
    return component("mask_view", TEMPLATE, "look", "figure", server_functions=[mask, figure], **kwargs)


def pack_mask(before: np.ndarray, after: np.ndarray, tokens: Sequence, layer: int, head: int) -> dict:
    """The weights (T, T) of one head, or average, from all weights (L, nh, T, T) with the mask and without."""
    return {
        "layer": layer,
        "head": head,
        "tokens": [token.text for token in tokens],
        "masked": pack_head(before, layer, head)["weights"],
        "unmasked": pack_head(after, layer, head)["weights"],
    }
