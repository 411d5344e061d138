"""The distribution of the next token as bars that follow temperature, top-k and top-p in the page itself."""

import itertools
import json
from collections.abc import Callable, Sequence

import gradio as gr
import numpy as np

from playground.ui.components.base import component, packed

TEMPLATE = """
<p class="empty">Write a prompt, and the most likely next tokens appear here.</p>
<div class="filled" hidden>
  <p class="prompt"></p>
  <ol class="rows"></ol>
  <p class="summary" role="status"></p>
  <div class="figure-buttons"></div>
  <p class="legend">
    <span><i class="now"></i>with these settings</span>
    <span><i class="uncut"></i>at temperature 1, nothing cut</span>
  </p>
</div>
"""

# Moves the bars without the server: the js of an event with fn=None, whose inputs are this component, temperature,
# top-k and top-p, and whose output is this component.
FOLLOW_SETTINGS = "(value, t, k, p) => value && ({...value, temperature: t, top_k: k, top_p: p})"

ROWS = 12

_seq = itertools.count(1)


def next_token(figure: Callable[[list], dict], **kwargs) -> gr.HTML:
    """A `gr.HTML` whose value is None or what `pack_next` returns.

    The value holds the logits, so a new temperature, top-k or top-p is a new picture without the model or the server.
    For a file, `figure` gets `[visitor, prompt, [temperature, top_k, top_p], kind]` (from the browser, so not to be
    trusted) and returns the bars as a PNG or SVG, or `{"error": sentence}`.
    """
    return component("next_token", TEMPLATE, "distribution", "figure", server_functions=[figure], **kwargs)


def pack_next(
    logits: Sequence[float],
    token_text: Callable[[int], str],
    temperature: float,
    top_k: int,
    top_p: float,
    prompt: str,
    visitor: str,
) -> dict:
    """The logits after `prompt` (V,), how a token is shown, the settings, and whose page it is.

    `temperature` 0 is greedy, `top_k` 0 keeps all, `top_p` 1 keeps all.
    """
    logits = np.asarray(logits, dtype="<f4")  # (V,)
    shown = np.argsort(-logits, kind="stable")[:ROWS].tolist()  # of equal logits the lower id first
    return {
        "logits": packed(logits),
        # One JSON string: Gradio wraps and compares a list cell by cell at every move of a slider.
        "rows": json.dumps([[i, token_text(i)] for i in shown]),
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "prompt": prompt,
        "visitor": visitor,
        "seq": next(_seq),  # which forward pass: the page keeps its rows while it stays the same
    }
