"""A text coloured by how surprising each token was, with what the model expected instead, passage by passage."""

from collections.abc import Callable, Iterable, Sequence

import gradio as gr
import numpy as np

from playground.surprise import Surprises
from playground.ui.components.base import component, packed

ORDERS = ("first", "most", "least")  # of passages: as they stand, or by surprise

TEMPLATE = """
<details class="look sv" open>
  <summary>Where it errs: the text by surprise</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <p>Each token in the colour of its loss, −ln p: what the model foresaw fades into the page, and what it did not
      stands out. Point at a token, or use the arrow keys, to see what it expected there instead.</p>
    <div class="sv-bar">
      <label class="look-choose">Passages <select class="sv-order">
        <option value="first">from the beginning</option>
        <option value="most">most surprising first</option>
        <option value="least">least surprising first</option>
      </select></label>
      <button type="button" class="sv-back look-button" aria-label="The passage before">←</button>
      <span class="sv-place"></span>
      <button type="button" class="sv-on look-button" aria-label="The next passage">→</button>
    </div>
    <div class="sv-body">
      <div class="sv-text look-text" role="listbox" aria-label="The passage, token by token"></div>
      <section class="sv-one" aria-label="The token that is pointed at">
        <p class="sv-told" role="status"></p>
        <table><tbody></tbody></table>
      </section>
    </div>
    <p class="surprise-scale"></p>
  </div>
</details>
"""


def surprise_view(passages: Callable, passage: Callable, **kwargs) -> gr.HTML:
    """The component. Its value is `{"id": …}` of what has been measured, or None.

    `passages` gets `[id, order]`, one of ORDERS, and returns `{"starts": […], "length": n}`; `passage`
    gets `[id, start, length]` and returns `pack_passage(…)` of it and of what stands around it. Either may answer
    `{"error": sentence}`.
    """
    return component("surprise_view", TEMPLATE, "look", "surprise", server_functions=[passages, passage], **kwargs)


def pack_passage(
    found: Surprises, ids: Sequence[int], token_text: Callable[[int], str], start: int, n_tokens: int
) -> dict:
    """Tokens of a text of `n_tokens`, the first of which stands at `start`, counted from 0."""
    return {
        "start": start,
        "n_tokens": n_tokens,
        "tokens": [token_text(id) for id in ids],
        "loss": packed(found.loss.astype("<f4")),
        "rank": packed(found.rank.astype("<i4")),
        "expected": [_expected(*row, token_text) for row in zip(found.top_ids, found.top_probs, strict=True)],
    }


def _expected(ids: Iterable[int], probs: np.ndarray, token_text: Callable[[int], str]) -> list[tuple[str, float]]:
    return [(token_text(int(id)), float(p)) for id, p in zip(ids, probs, strict=True) if np.isfinite(p)]
