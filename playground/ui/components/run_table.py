"""The visit's runs side by side: a table to sort, and their curves in one picture, one of them as the reference."""

from collections.abc import Callable, Mapping, Sequence

import gradio as gr

from playground.checkpoint import TrainStep
from playground.comparison import Compared, differing, distinctions
from playground.ui.components.base import component
from playground.ui.curve import smooth, thin

AXES = {"step": "steps", "tokens": "tokens seen", "seconds": "seconds of computing"}
OPTIONS = "".join(f'<option value="{axis}">{title}</option>' for axis, title in AXES.items())
MOST_POINTS = 400  # of a curve; the picture is hardly more pixels wide than that
TEMPLATE = f"""
<details class="look rt">
  <summary>Compare your runs</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <div class="look-scroll rt-scroll" tabindex="0" role="region" aria-label="Your runs">
      <table><thead><tr></tr></thead><tbody></tbody></table>
    </div>
    <p class="rt-note look-readout"></p>
    <div class="rt-bar">
      <label class="look-choose">Curves by <select class="rt-axis">{OPTIONS}</select></label>
      <div class="figure-buttons">
        <button type="button" class="figure-button rt-log" data-axis="x" aria-pressed="false"
          title="Logarithmic horizontal axis">log x</button>
        <button type="button" class="figure-button rt-log" data-axis="y" aria-pressed="false"
          title="Logarithmic loss axis">log y</button>
        <button type="button" class="figure-button rt-reset">Reset zoom</button>
      </div>
      <div class="rt-files">
        <span class="figure-buttons rt-table"></span><span class="figure-buttons rt-figure"></span>
      </div>
    </div>
    <ul class="rt-legend" aria-label="Curves"></ul>
    <canvas class="rt-curves" tabindex="0" role="application" aria-label="Losses of the runs. The left and right arrow
      keys read the points of a curve, up and down go to another's, Escape resets the zoom."></canvas>
    <p class="rt-readout look-readout" role="status"></p>
  </div>
</details>
"""


def run_table(runs: Callable, table: Callable, figure: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is the visitor's key, or None before that is known.

    While it is open it asks for `pack_runs(…)`: `runs` gets `[visitor, "", reference]` whenever the loss chart tells
    of a run that has begun or ended, and `[visitor, run, ""]` as one gets on, for that one alone. `table` gets
    `[visitor, kind]` and returns all of them as a "csv" or "json" file, `figure` with `[visitor, kind, axis, reference,
    runs]` their curves, where `axis` is one of AXES and `runs` are the ids of those that are shown, `reference` one of
    them or not.
    All of it comes from the browser, so it is not to be trusted; each may return `{"error": sentence}` instead.
    """
    return component("run_table", TEMPLATE, "look", "figure", "plot", server_functions=[runs, table, figure], **kwargs)


def pack_runs(rows: Sequence[Compared], reference: Compared, titles: Mapping[str, tuple[str, dict]]) -> dict:
    """The runs in the order in which they began, each with what is `told` of it beside the reference; and the settings
    in which they differ, each `[name, title, {value: title}]`.
    """
    told = distinctions(rows, reference)
    return {
        "runs": [pack_run(row) | {"told": words} for row, words in zip(rows, told, strict=True)],
        "columns": [[name, *titles[name]] for name in differing(rows)],
    }


def pack_run(row: Compared) -> dict:
    """What `Compared.to_dict` has of a run, and its two curves, `[step, seconds, loss]` of some of their points."""
    own = {name: getattr(row, name) for name in ("id", "bits_per_nat", "tokens_per_step", "vocabulary")}
    averages = smooth([step.train_loss for step in row.history], 0)
    curves = {
        "val": _curve(row.evaluations, [step.val_loss for step in row.evaluations]),
        "train": _curve(row.history, averages),
    }
    return own | row.to_dict() | curves


def _curve(steps: Sequence[TrainStep], losses: Sequence[float]) -> list[list[float]]:
    kept = thin(range(len(steps)), losses, MOST_POINTS)
    return [[steps[i].step, steps[i].seconds, losses[i]] for i in kept]
