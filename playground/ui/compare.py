"""Below the columns of the Train tab: the visit's runs side by side, as a table, as curves, and as files to keep."""

import json
from collections.abc import Callable, Mapping, Sequence

import gradio as gr

from playground.comparison import Compared, compare, distinctions, to_csv
from playground.errors import BadInput
from playground.ui.components.downloads import pack_figure, pack_file
from playground.ui.components.run_table import AXES, pack_run, pack_runs, run_table
from playground.ui.curve import MOST_EVALUATIONS, thin
from playground.ui.site import Site, answer

NO_RUNS = "There is no run yet: train two with different settings, and they stand here side by side."

# What no control of the page is for.
TITLES = {
    "text": "Text",
    "text_sha256": "SHA-256 of the text",
    "start": "Goes on from",
    "vocab_size": "Vocabulary size",
    "learning_rate_changed": "Learning rate changed on the way",
}


def build(site: Site, controls: Mapping[str, gr.components.Component]) -> gr.HTML:
    """The component, on runs whose settings are called as the page's `controls` are, by the names of the settings."""
    return run_table(_runs(site, titles_of(controls)), _table(site), _figure(site), elem_id="compare")


def titles_of(controls: Mapping[str, gr.components.Component]) -> dict[str, tuple[str, dict]]:
    """What each setting is called on the page, and each of its values that is called something else."""
    values = {name: {value: title for title, value in getattr(c, "choices", ())} for name, c in controls.items()}
    own = {name: (control.label, values[name]) for name, control in controls.items()}
    return {name: (title, {}) for name, title in TITLES.items()} | own


def _all(site: Site, key: str) -> list[Compared]:
    with site.visit():
        rows = compare(list(site.workspace(key).runs.values()))
    if not rows:
        raise BadInput(NO_RUNS)
    return rows


def _chosen(rows: Sequence[Compared], run_id: str) -> Compared:
    """The reference: the run that the visitor has chosen, or else the first."""
    return next((row for row in rows if row.id == run_id), rows[0])


def _runs(site: Site, titles: Mapping[str, tuple[str, dict]]) -> Callable:
    @answer(str, str, str)
    def runs(key, run_id, reference):
        if run_id:
            with site.visit():
                return {"runs": [pack_run(row) for row in compare([site.workspace(key).run(run_id)])]}
        rows = _all(site, key)
        with site.visit():
            return pack_runs(rows, _chosen(rows, reference), titles)

    return runs


def _table(site: Site) -> Callable:
    @answer(str, str)
    def table(key, kind):
        rows = _all(site, key)
        if kind == "csv":
            return pack_file("runs.csv", to_csv(rows).encode())
        if kind == "json":
            return pack_file("runs.json", json.dumps([_with_curve(row) for row in rows], indent=1).encode())
        raise BadInput("The table is a CSV or a JSON file: choose one of the two.")

    return table


def _with_curve(row: Compared) -> dict[str, object]:
    """A run for a JSON file. Of a very long curve there are some points, the lowest and the highest among them."""
    steps = thin(row.evaluations, [step.val_loss for step in row.evaluations], MOST_EVALUATIONS)
    named = [
        {"step": s.step, "tokens": s.step * row.tokens_per_step, "seconds": s.seconds, "val_loss": s.val_loss}
        for s in steps
    ]
    return row.to_dict() | {"bits_per_nat": row.bits_per_nat, "curve": named}


def _figure(site: Site) -> Callable:
    @answer(str, str, str, str, list)
    def figure(key, kind, axis, reference, shown):
        rows = _all(site, key)
        chosen = _chosen(rows, reference)
        told = dict(enumerate(distinctions(rows, chosen), 1))
        drawn = {i: row for i, row in enumerate(rows, 1) if row.id in shown and row.evaluations}
        if axis not in AXES or not drawn:
            raise BadInput("There is no curve to draw: show one of the runs first.")
        curves = drawn, told, rows.index(chosen) + 1, axis, AXES[axis]
        return pack_figure("runs", kind, lambda figures: figures.comparison_figure(*curves))

    return figure
