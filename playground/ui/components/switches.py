"""Heads and MLPs to switch off: what that does to the loss, to the next token, and to what the model writes."""

from collections.abc import Callable

import gradio as gr
import numpy as np

from playground.ui.components.base import component

MLP = -1  # in place of a head: the layer's MLP
N_NEXT = 6  # tokens that are the likeliest before or after

TEMPLATE = """
<details class="look sw">
  <summary>Switch heads off</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <p>What is switched off adds nothing to the residual stream; all else goes on as before. What the model loses shows
      what the part was good for. A small change may be luck of the text, and two heads may stand in for each other.</p>
    <div class="look-scroll sw-scroll">
      <div class="sw-grid" role="group" aria-label="Heads and MLPs, one row a layer; pressed is off"></div>
    </div>
    <div class="sw-actions">
      <button type="button" class="sw-all look-button">Switch all on</button>
      <button type="button" class="sw-measure look-button">Measure each alone</button>
      <progress class="sw-progress" max="1" value="0" aria-label="Parts measured" hidden></progress>
      <span class="sw-told"></span>
      <span class="figure-buttons" hidden></span>
    </div>
    <div class="sw-result">
      <section aria-label="Loss">
        <p class="sw-title">Loss</p>
        <p class="sw-loss" role="status"></p>
        <p class="sw-where"></p>
      </section>
      <section aria-label="The next token">
        <p class="sw-title">The next token after the prompt</p>
        <table class="sw-next">
          <thead><tr><th scope="col">token</th><th scope="col">whole</th><th scope="col">without</th></tr></thead>
          <tbody></tbody>
        </table>
      </section>
    </div>
    <section aria-label="What it writes">
      <div class="sw-actions">
        <button type="button" class="sw-write look-button">Write with and without</button>
        <span class="sw-fault" role="alert"></span>
      </div>
      <div class="sw-texts" hidden>
        <figure><figcaption>whole</figcaption><p class="sw-text" dir="auto"></p></figure>
        <figure><figcaption>without</figcaption><p class="sw-text" dir="auto"></p></figure>
      </div>
    </section>
  </div>
</details>
"""


def switches(effect: Callable, rise: Callable, texts: Callable, rises: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is what the tab looks at (see attention.py), or None.

    It asks `effect`, `rise` and `texts`, each with `[visitor, id, off]`, where `off` has `[layer, head]` of all that is
    switched off, from 0, the head being -1 for the layer's MLP. Any of them may answer `{"error": sentence}`.

    - `effect`: `{"layers", "heads", "before", "after", "name", "own_text", "n_tokens", "next"}`: the losses in nats a
      token, over how many tokens of what, whether that is a text of the model's own, and `pack_next_tokens(...)`
    - `rise`: `{"rise"}` of that loss alone, for the map of all parts
    - `texts`: what the model writes as a whole, and without what is off

    `rises` gets `[id, numbers, kind]`, the numbers of all parts, and returns that map as a PNG or SVG file.
    """
    return component("switches", TEMPLATE, "look", "figure", server_functions=[effect, rise, texts, rises], **kwargs)


def pack_next_tokens(probs: np.ndarray, token_text: Callable[[int], str]) -> list[list]:
    """`[text, before, after]` of the likeliest tokens of either row of `probs` (2, V), in the order of the first."""
    likeliest = np.unique(np.argsort(-probs, axis=1, kind="stable")[:, :N_NEXT])
    order = sorted(likeliest, key=lambda i: -probs[0, i])
    return [[token_text(int(i)), float(probs[0, i]), float(probs[1, i])] for i in order]
