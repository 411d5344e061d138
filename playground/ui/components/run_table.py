"""The visit's runs side by side: a table to sort, and their curves in one picture, one of them as the reference."""

from collections.abc import Callable, Mapping, Sequence

import gradio as gr

from playground.checkpoint import TrainStep
from playground.comparison import Compared, differing
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
      <span class="rt-key">faint: training</span>
      <div class="rt-files">
        <span class="figure-buttons rt-table"></span><span class="figure-buttons rt-figure"></span>
      </div>
    </div>
    <canvas class="rt-curves" tabindex="0" role="application" aria-label="Losses of the runs. The left and right arrow
      keys read the points of a curve, up and down go to another's."></canvas>
    <p class="rt-readout look-readout" role="status"></p>
  </div>
</details>
"""


def run_table(runs: Callable, table: Callable, figure: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is the visitor's key, or None before that is known.

    While it is open it asks for `pack_runs(…)`: `runs` gets `[visitor, ""]` whenever the loss chart tells of a run that
    has begun or ended, and `[visitor, run]` as one gets on, for that one alone. `table` gets `[visitor, kind]`
    and returns all of them as a "csv" or "json" file, `figure` with `[visitor, kind, axis, reference, runs]` their
    curves, where `axis` is one of AXES and `runs` are the ids of those that are shown, `reference` one of them or not.
    All of it comes from the browser, so it is not to be trusted; each may return `{"error": sentence}` instead.
    """
    return component("run_table", TEMPLATE, "look", "figure", "plot", server_functions=[runs, table, figure], **kwargs)


def pack_runs(rows: Sequence[Compared], titles: Mapping[str, tuple[str, dict]] | None = None) -> dict:
    """The runs in the order in which they began; where the `titles` of all settings are given, with those of the
    settings in which they differ, each `[name, title, {value: title}]`.

    A run is what `Compared.to_dict` has of it and its two curves, `[step, seconds, loss]` of some of their points.
    """
    packed = {"runs": [_pack_run(row) for row in rows]}
    return packed | {"columns": [[name, *titles[name]] for name in differing(rows)]} if titles else packed


def _pack_run(row: Compared) -> dict:
    own = {"id": row.id, "bits_per_nat": row.bits_per_nat, "tokens_per_step": row.tokens_per_step}
    averages = smooth([step.train_loss for step in row.history], 0)
    curves = {
        "val": _curve(row.evaluations, [step.val_loss for step in row.evaluations]),
        "train": _curve(row.history, averages),
    }
    return own | row.to_dict() | curves


def _curve(steps: Sequence[TrainStep], losses: Sequence[float]) -> list[list[float]]:
    kept = thin(range(len(steps)), losses, MOST_POINTS)
    return [[steps[i].step, steps[i].seconds, losses[i]] for i in kept]
