"""The logit lens: what the model would say after each layer, and how the last logits become probabilities."""

from collections.abc import Callable, Sequence

import gradio as gr
import numpy as np

from playground.generation import MAX_TEMPERATURE
from playground.inspection import Lens
from playground.ui.components.base import component, packed

N_TOP = 8  # tokens whose way from logit to probability is shown

TEMPLATE = f"""
<details class="look ll">
  <summary>The residual stream: what it would say after each layer</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <p class="ll-layers">Every layer adds to one vector per token, the residual stream. Here the model's last norm and
      output layer read that vector before the layers are through: the most likely next tokens, with their
      probabilities.</p>
    <label class="look-choose">After token <select class="ll-position"></select></label>
    <div class="look-part ll-layers">
    <div class="look-scroll" tabindex="0" role="region" aria-label="The most likely next tokens after each layer">
      <table>
        <thead>
          <tr><th scope="col">after</th><th scope="col">length added</th><th scope="col">next token</th></tr>
        </thead>
        <tbody class="ll-places"></tbody>
      </table>
    </div>
    <div class="figure-buttons"></div>
    </div>
    <div class="look-part ll-chance">
    <h4>From logits to probabilities</h4>
    <p>The output layer gives every token of the vocabulary a logit x. e is raised to the power x/T, where T is the
      temperature, and divided by the sum of all such powers; that is the token's probability:
      <b class="ll-formula">p = e<sup>x/T − m</sup> ÷ Σ e<sup>x/T − m</sup></b>. The largest x/T, m, is taken off all
      alike: it changes no p, and no power grows too large.</p>
    <label class="ll-choose">Temperature T
      <input class="ll-temperature" type="range" min="0" max="{MAX_TEMPERATURE:g}" step="0.05" value="1">
      <output class="ll-chosen"></output></label>
    <div class="look-scroll ll-chances-scroll" tabindex="0" role="region" aria-label="From logits to probabilities">
      <table class="ll-softmax">
        <thead>
          <tr><th scope="col">token</th><th scope="col">logit x</th><th scope="col">x/T</th>
            <th scope="col">e<sup>x/T − m</sup></th><th scope="col">probability</th></tr>
        </thead>
        <tbody class="ll-chances"></tbody>
      </table>
    </div>
    <p class="ll-sum" role="status"></p>
    </div>
  </div>
</details>
"""


def logit_lens_table(lens: Callable, lens_figure: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is what the tab looks at (see attention.py), or None.

    While it is open it asks `lens([id, position])` for `pack_lens(...)` or `{"error": sentence}`; a position of -1 is
    the last token. `lens_figure`, with `[id, position, kind]`, returns the first table as a PNG or SVG file.
    """
    functions = [lens, lens_figure]
    return component("logit_lens", TEMPLATE, "look", "distribution", "figure", server_functions=functions, **kwargs)


def pack_lens(
    lens: Lens, logits: np.ndarray, token_text: Callable[[int], str], tokens: Sequence, position: int
) -> dict:
    """One row a place of the stream, from the embedding on; `token_text` gives a token's text by its id.

    The model's last logits (V,) come whole, so that the page knows the sum at any temperature, and of the likeliest
    tokens the texts.
    """
    rows = [
        {
            "name": name,
            "length": float(length),
            "top": [[token_text(int(i)), float(p)] for i, p in zip(ids, probs, strict=True)],
        }
        for name, length, ids, probs in zip(lens.places, lens.length, lens.top_ids, lens.top_probs, strict=True)
    ]
    likeliest = np.argsort(-logits, kind="stable")[:N_TOP]
    return {
        "position": position,
        "tokens": [token.text for token in tokens],
        "rows": rows,
        "logits": packed(logits.astype("<f4")),  # (V,)
        "likeliest": [token_text(int(i)) for i in likeliest],  # by falling logit, of equal ones the lower id first
    }
