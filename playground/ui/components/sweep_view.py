"""Quality against diversity: what temperature and top-k make of a model's text, beside text that was held out."""

import gradio as gr

from playground.ui.components.base import component

TEMPLATE = """
<section class="look sm">
  <p class="sm-empty look-note" role="status">The model writes once with each pair of settings, from that prompt.</p>
  <div class="sm-shown" hidden>
    <p class="sm-title"></p>
    <progress max="1" aria-label="Pairs of settings tried"></progress>
    <div class="sm-tables"></div>
    <p class="sm-about"></p>
  </div>
</section>
"""


def sweep_view(**kwargs) -> gr.HTML:
    """The component. Its value is None or `{"about", "temperatures", "top_ks", "cells", "held_out", "n", "share"}`.

    `cells` are quality, in bits a token, and diversity, 0 to 1, of a pair of settings each, row after row, as many as
    there are yet; `held_out` is the same of `n` tokens of held-out text, null before that is known. A
    top-k of 0 is off.
    """
    return component("sweep_view", TEMPLATE, "look", **kwargs)
