"""What each head is for: its scores as a table to sort and to filter, with a badge where one thing is clear."""

from collections.abc import Callable

import gradio as gr

from playground.heads import HeadScores
from playground.ui.components.base import component

TEMPLATE = """
<details class="look ht">
  <summary>What each head is for</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <p>Measured on random tokens, and then the same tokens again: what they mean tells a head nothing, only where they
      stand. Each column is the share of its attention that a head gives to</p>
    <dl>
      <dt>previous</dt><dd>the token before</dd>
      <dt>first</dt><dd>the first token of all, where many a head looks that finds nothing else</dd>
      <dt>same</dt><dd>the same token where it stood before</dd>
      <dt>induction</dt><dd>what came after the same token: so a model goes on with a pattern it has seen once</dd>
      <dt>local</dt><dd>itself and the four tokens before</dd>
      <dt>uniform</dt><dd>all alike: the entropy as a share of the highest possible</dd>
    </dl>
    <p>A badge is given from 0.4 on, for uniform from 0.9. Entropy says how widely a head looks, reach how far back.</p>
    <label class="look-choose">Show <select class="ht-filter"></select></label>
    <div class="look-scroll" tabindex="0" role="region" aria-label="Scores of all heads">
      <table><thead><tr></tr></thead><tbody></tbody></table>
    </div>
  </div>
</details>
"""

SCORES = ("previous", "first", "same", "induction", "local", "uniform", "entropy", "reach")


def head_table(scores: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is what the tab looks at (see attention.py), or None.

    While it is open it asks `scores(id)` for `pack_scores(...)` or `{"error": sentence}`.
    """
    return component("head_table", TEMPLATE, "look", server_functions=[scores], **kwargs)


def pack_scores(scores: HeadScores) -> list[dict]:
    """One row a head, in the order of layers and heads, which are counted from 0."""
    n_layer, n_head = scores.previous.shape
    return [
        {"layer": layer, "head": head, "badge": scores.badge(layer, head)}
        | {name: float(getattr(scores, name)[layer, head]) for name in SCORES}
        for layer in range(n_layer)
        for head in range(n_head)
    ]
