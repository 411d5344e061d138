"""One head step by step: for a chosen query token, every number from the dot products to what the head outputs."""

from collections.abc import Callable, Sequence

import gradio as gr

from playground.inspection import HeadStages
from playground.ui.components.base import component, packed

TEMPLATE = """
<details class="look hs">
  <summary>One head, step by step</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <p class="hs-title"></p>
    <ol class="hs-steps">
      <li><b>scores = Q Kᵀ</b> <span class="hs-scores"></span>: the dot product of each query with each key</li>
      <li><b>scaled = scores / √hs</b> <span class="hs-scaled"></span>: so that they do not grow with the head size</li>
      <li><b>masked</b>: −∞ where the key comes after the query</li>
      <li><b>weights = softmax(masked)</b>: eˣ of each, divided by the row's sum</li>
      <li><b>output = weights V</b> <span class="hs-output-shape"></span>: each value as much as attended to</li>
    </ol>
    <label class="look-choose">Query token <select class="hs-query"></select></label>
    <p class="hs-line"><span>its query</span> <canvas class="hs-q" role="img"></canvas></p>
    <div class="look-scroll" tabindex="0" role="region" aria-label="The chosen row, key by key">
      <table>
        <thead><tr>
          <th scope="col">key token</th><th scope="col">key</th><th scope="col">q · k</th>
          <th scope="col">/ √hs</th><th scope="col">masked</th><th scope="col">weight</th><th scope="col">value</th>
        </tr></thead>
        <tbody></tbody>
      </table>
    </div>
    <p class="hs-line"><span>output, the sum of weight × value</span> <canvas class="hs-o" role="img"></canvas></p>
    <p class="hs-legend"><i class="hs-minus"></i>below 0 <i class="hs-plus"></i>above 0; press a token to read its
      numbers</p>
    <p class="hs-numbers"></p>
    <div class="figure-buttons"></div>
  </div>
</details>
"""


def head_stages(stages: Callable, stages_figure: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is what the tab looks at (see attention.py), or None.

    While it is open it asks `stages([id, layer, head, query])` for `pack_stages(...)` or `{"error": sentence}`; a query
    of -1 is the last token. `stages_figure`, with `[id, layer, head, kind]`, returns all rows as a PNG or SVG file.
    """
    return component("head_stages", TEMPLATE, "look", "figure", server_functions=[stages, stages_figure], **kwargs)


def pack_stages(stages: HeadStages, tokens: Sequence, layer: int, head: int, query: int) -> dict:
    """The row of one query token out of T; arrays are float32 as base64."""
    arrays = {
        "q": stages.query[query],  # (hs,)
        "keys": stages.key,  # (T, hs)
        "values": stages.value,  # (T, hs)
        "scores": stages.scores[query],  # (T,)
        "scaled": stages.scaled[query],  # (T,)
        "masked": stages.masked[query],  # (T,)
        "weights": stages.weights[query],  # (T,)
        "output": stages.output[query],  # (hs,)
    }
    numbers = {name: packed(array.astype("<f4")) for name, array in arrays.items()}
    return {
        "layer": layer,
        "head": head,
        "query": query,
        "hs": stages.query.shape[1],
        "tokens": [token.text for token in tokens],
        **numbers,
    }
