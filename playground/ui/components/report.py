"""How well a model predicts a text: its figures, what simple models reach beside it, and its calibration."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import gradio as gr

from playground.evaluation import Evaluation
from playground.ui.components.base import component

TEMPLATE = """
<section class="look rp">
  <p class="rp-empty">Choose a text and press Measure: what the model makes of it appears here.</p>
  <div class="rp-shown" hidden>
    <p class="rp-title"></p>
    <progress class="rp-progress" max="1" aria-label="Share of the text that is measured"></progress>
    <dl class="rp-figures"></dl>
    <div class="rp-columns">
      <section aria-label="Beside simple models and compressors">
        <h4>Bits per character, the fewer the better</h4>
        <table class="rp-table"><tbody></tbody></table>
        <p class="rp-note look-note" role="status"></p>
      </section>
      <section aria-label="Calibration">
        <h4>When it is so sure, how often is it right?</h4>
        <div class="rp-plot"></div>
        <p class="rp-calibration"></p>
        <details class="rp-bins"><summary>As a table</summary>
          <table><thead><tr><th>its likeliest token had</th><th>mean</th><th>came true</th><th>tokens</th></tr></thead>
          <tbody></tbody></table>
        </details>
      </section>
    </div>
    <div class="figure-buttons"></div>
  </div>
</section>
"""


def report(figure: Callable, **kwargs) -> gr.HTML:
    """The component. Its value is `pack_report(…)`, or None before anything has been measured.

    `figure`, a plain function of this very name, gets `[id, kind]` (from the browser, so not to be trusted) and returns
    both pictures as a PNG or SVG file, or `{"error": sentence}`.
    """
    return component("report", TEMPLATE, "look", "figure", server_functions=[figure], **kwargs)


def pack_report(
    title: str, evaluation: Evaluation, others: Sequence[tuple[str, float, str]], note: str, id: str | None
) -> dict:
    """The figures so far.

    A perplexity too large for a float reaches the page as null. `others` are names, bits per character, and over how
    much that was measured; `id` is by what the page asks for figures and passages once all is measured.
    """
    return {"title": title, "others": others, "note": note, "id": id} | asdict(evaluation)
