"""Byte-pair merges replayed: a text in its tokens after each merge, as a film, and how few tokens it comes to be."""

from collections.abc import Callable, Sequence

import gradio as gr
import numpy as np

from playground.merging import Replay
from playground.tokenizer import Pair
from playground.ui.components.base import component, packed

TEMPLATE = """
<details class="look mf" open>
  <summary>Merges replayed: byte-pair training, one merge at a time</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <p>Byte-pair training begins with bytes, and again and again joins the two neighbours that stand together most
      often into one new token. <bdi class="mf-about"></bdi></p>
    <div class="mf-bar">
      <button type="button" class="mf-play look-button">Play</button>
      <button type="button" class="mf-back look-button" aria-label="One merge back">←</button>
      <input type="range" class="mf-slider" min="0" value="0" step="1" aria-label="Merges so far">
      <button type="button" class="mf-on look-button" aria-label="One merge on">→</button>
      <span class="mf-place"></span>
    </div>
    <p class="mf-told" role="status"></p>
    <div class="mf-body">
      <div class="text mf-text" tabindex="0" role="region" aria-label="The beginning of the text as tokens"></div>
      <div class="mf-plot">
        <p class="mf-figures"></p>
        <canvas class="mf-curve" role="img"></canvas>
        <div class="figure-buttons"></div>
      </div>
    </div>
  </div>
</details>
"""


def merge_film(replayed: Callable, figure: Callable, **kwargs) -> gr.HTML:
    """The component. Its value is `{"visitor", "version"}`: whose model, and the number of what is in use there, or
    None.

    It asks `replayed([visitor, version])` for `pack_replay(…)`, all that it shows at any merge, and
    `figure([visitor, version, merge, kind])` for the curve as a "png" or "svg" file in which a merge is marked, 0 for
    none. Either may answer `{"error": sentence}`.
    """
    shared = ("look", "figure", "plot", "tokens")
    return component("merge_film", TEMPLATE, *shared, server_functions=[replayed, figure], **kwargs)


def pack_replay(seen: Replay, merges: Sequence[Pair], about: str) -> dict:
    """About 20 KB of the passage at most, and 11 bytes a merge; `about` says of what text."""
    return {
        "about": about,
        "passage": seen.passage,
        "borders": packed(seen.borders.astype("<u2")),
        "merges": packed(np.array(merges, dtype="<u2")),
        "times": packed(seen.times.astype("<u4")),
        "n_bytes": seen.n_bytes,
        "n_chars": seen.n_chars,
    }
