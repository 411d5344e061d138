"""The logit lens: what the model would say after each layer, as a table, and how much each layer adds."""

from collections.abc import Callable, Sequence

import gradio as gr

from playground.inspection import Lens
from playground.ui.components.base import component

TEMPLATE = """
<details class="look ll">
  <summary>The residual stream: what it would say after each layer</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <p>Every layer adds to one vector per token, the residual stream. Here the model's last norm and its head read that
      vector before the layers are through: the most likely next tokens, with their probabilities.</p>
    <label class="look-choose">After token <select class="ll-position"></select></label>
    <div class="look-scroll" tabindex="0" role="region" aria-label="The most likely next tokens after each layer">
      <table>
        <thead>
          <tr><th scope="col">after</th><th scope="col">length added</th><th scope="col">next token</th></tr>
        </thead>
        <tbody></tbody>
      </table>
    </div>
  </div>
</details>
"""


def logit_lens_table(lens: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is what the tab looks at (see attention.py), or None.

    While it is open it asks `lens([id, position])` for `pack_lens(...)` or `{"error": sentence}`; a position of -1 is
    the last token.
    """
    return component("logit_lens", TEMPLATE, "look", server_functions=[lens], **kwargs)


def pack_lens(lens: Lens, token_text: Callable[[int], str], tokens: Sequence, position: int) -> dict:
    """One row a place of the stream, from the embedding on; `token_text` gives a token's text by its id."""
    names = ["Embedding"]
    for layer in range(len(lens.length) // 2):
        names += [f"Layer {layer + 1} attention", f"Layer {layer + 1} MLP"]
    rows = [
        {
            "name": name,
            "length": float(length),
            "top": [[token_text(int(i)), float(p)] for i, p in zip(ids, probs, strict=True)],
        }
        for name, length, ids, probs in zip(names, lens.length, lens.top_ids, lens.top_probs, strict=True)
    ]
    return {"position": position, "tokens": [token.text for token in tokens], "rows": rows}
