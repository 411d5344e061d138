"""One held-out passage before training, on its way and after it, side by side in the colours of its losses."""

from collections.abc import Callable

import gradio as gr

from playground.life import Life
from playground.ui.components.base import component, packed

BEFORE, BETWEEN, AFTER = "Before training", "On the way", "After training"
SLIDER = '<input type="range" class="pv-slider" min="0" step="1" aria-label="Step of the text in the middle">'
COLUMNS = "".join(
    f"""<section class="pv-column">
      <h4>{title}{SLIDER if title == BETWEEN else ""}</h4>
      <p class="pv-about"></p>
      <div class="pv-text look-text" role="listbox" aria-label="{title}, token by token"></div>
      <div class="pv-told" role="status"></div>
    </section>"""
    for title in (BEFORE, BETWEEN, AFTER)
)
TEMPLATE = f"""
<details class="look pv">
  <summary>The same passage before training, on the way and after it</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <p>A passage of the text that was held out, as the model foresaw it while it learned: each token in the colour of
      its loss, given those before it in the passage. Nats a token are of this passage alone, so they differ from the
      validation loss, which is of the whole part. The slider begins halfway, and goes through the steps at which this
      was kept: most of them are early ones. Point at a token, or use the arrow keys, to see its probability at each of
      the three, and the model’s best guess.</p>
    <div class="pv-columns">{COLUMNS}</div>
    <p class="surprise-scale"></p>
    <div class="figure-buttons"></div>
  </div>
</details>
"""


def passage_view(passage: Callable, figure: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is `{"visitor", "version"}`: whose model, and the number of what is in
    use there, or None.

    While it is open it asks `passage([visitor, version])` for `pack_foreseen(…)`, and
    `figure([visitor, version, at, kind])` for a file, with the place of the snapshot in the middle and "png" or "svg".
    Either may answer `{"error": sentence}`.
    """
    return component(
        "passage_view", TEMPLATE, "look", "surprise", "figure", server_functions=[passage, figure], **kwargs
    )


def pack_foreseen(life: Life, token_text: Callable[[int], str]) -> dict:
    """What all snapshots have of the passage: at most 64 of 128 tokens each, so that the slider need not ask again."""
    return {
        "steps": list(life.steps),
        "moments": list(life.moments),
        "tokens": [token_text(id) for id in life.passage],
        "means": life.losses.mean(1).tolist(),
        "losses": packed(life.losses.numpy().astype("<f4")),
        "guesses": packed(life.guesses.numpy().astype("<i4")),
        "guess_probs": packed(life.guess_probs.numpy().astype("<f4")),
        "texts": {str(id): token_text(id) for id in life.guesses.unique().tolist()},  # of the guesses
    }
