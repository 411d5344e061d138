"""A head's life: every head's attention to one text, its badge, and its scores, from the first step of a run on."""

from collections.abc import Callable

import gradio as gr

from playground.heads import CLEAR, EVEN
from playground.life import SCORES, Life
from playground.ui.components.base import component, packed

PLOTTED = ("induction", "previous", "first", "same", "local", "uniform")
OPTIONS = "".join(f"<option>{name}</option>" for name in PLOTTED)
TEMPLATE = f"""
<details class="look hl" data-clear="{CLEAR}" data-even="{EVEN}" data-scores="{" ".join(SCORES)}" hidden open>
  <summary>A head’s life</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body">
    <div class="hl-bar">
      <button type="button" class="hl-play look-button">Play</button>
      <input type="range" class="hl-slider" min="0" value="0" step="1" aria-label="Snapshots of the heads so far">
      <span class="hl-step"></span>
      <span class="figure-buttons"></span>
    </div>
    <p class="hl-text">Their attention to <bdi class="hl-tokens"></bdi></p>
    <div class="hl-body">
      <div class="hl-scroll"><div class="hl-grid" role="group" aria-label="All heads, one row a layer"></div></div>
      <figure class="hl-one">
        <figcaption></figcaption><canvas class="hl-map"></canvas><p class="hl-cell look-readout" role="status"></p>
      </figure>
      <div class="hl-plot">
        <div class="hl-bar">
          <label>Score by step <select class="hl-score">{OPTIONS}</select></label>
          <span class="figure-buttons hl-scores-buttons"></span>
        </div>
        <canvas class="hl-curve" tabindex="0" role="slider" aria-valuemin="0"></canvas>
      </div>
    </div>
    <p class="hl-moments"></p>
  </div>
</details>
"""


def head_life(life: Callable, figure: Callable, scores: Callable, **kwargs) -> gr.HTML:
    """The component, which has no value: it shows the run that the loss chart shows, and moves its marker and sample.

    `life`, a plain function of this very name, gets `[visitor, run, step]` (from the browser, so not to be trusted) and
    returns `pack_life(...)` of the snapshots after that step, `{}` if there is none, or `{"error": sentence}`.
    `figure` gets `[visitor, run, step, kind]` and returns the snapshot of that step as a PNG or SVG file,
    and `scores`, with `[visitor, run, score, layer, head, kind]`, the curves of a score.
    """
    return component("head_life", TEMPLATE, "look", "figure", server_functions=[life, figure, scores], **kwargs)


def pack_life(life: Life, token_text: Callable[[int], str], due: int | None) -> dict:
    """Some snapshots, and at which step there will be another. Arrays are base64: uint8 and float32, as Life has them.

    `due` is None once the run has ended.
    """
    _, n_layer, n_head, _ = life.attention.shape
    return {
        "layers": n_layer,
        "heads": n_head,
        "tokens": [token_text(i) for i in life.ids],
        "steps": list(life.steps),
        "attention": packed(life.attention.numpy()),
        "scores": packed(life.scores.numpy().astype("<f4")),
        "badges": [life.head_scores(i).badges for i in range(len(life.steps))],
        "due": due,
    }
