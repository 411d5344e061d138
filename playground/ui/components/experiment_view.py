"""Experiments that break a model: a card each, where two twins learn side by side when its button is pressed."""

import math
from collections.abc import Callable, Sequence

import gradio as gr

from playground.course import SECTIONS
from playground.experiments import EXPERIMENTS, Experiment, Result, Step, setting
from playground.ui.components.base import component

TEMPLATE = """
<section class="look ev" aria-label="Experiments that break a model">
  <p>Two small models learn side by side for some seconds, alike in all but one thing. Guess first, then run both.</p>
  <div class="ev-cards"></div>
</section>
<template class="ev-template">
  <section class="ev-card">
    <h4 class="ev-title"></h4>
    <p class="ev-question"></p>
    <div class="ev-bar">
      <button type="button" class="ev-run look-button"></button>
      <button type="button" class="ev-stop look-button" hidden>Stop</button>
      <span class="ev-status look-note" role="status"></span>
    </div>
    <div class="ev-shown" hidden>
      <progress class="ev-progress" aria-label="Steps taken"></progress>
      <ul class="ev-legend"></ul>
      <canvas class="ev-curves" role="img"></canvas>
      <p class="ev-setting look-note"></p>
      <div class="ev-outcome" hidden>
        <table class="ev-table"><thead><tr></tr></thead><tbody></tbody></table>
        <div class="ev-samples"></div>
        <section class="ev-notice" aria-live="polite"></section>
      </div>
    </div>
  </section>
</template>
"""


def experiment_view(begin: Callable, more: Callable, stop: Callable, **kwargs) -> gr.HTML:
    """The component, for a course. Its value is `pack_experiments(…)`, or None; shown are those of the present section.

    A click asks `begin([visitor, name, seed])` for `{"id"}`, then `more([visitor, id])` for `pack_events(…)` until both
    results are there; `stop([visitor, id])` ends it before. Each may answer `{"error": sentence}`.
    """
    return component("experiment_view", TEMPLATE, "look", "plot", server_functions=[begin, more, stop], **kwargs)


def pack_experiments(visitor: str) -> dict:
    """What stands on the cards before anything is run: no word of what will come out."""
    asked = [(section.slug, name) for section in SECTIONS for name in section.experiments if name in EXPERIMENTS]
    return {"visitor": visitor, "experiments": [_pack_card(slug, name, EXPERIMENTS[name]) for slug, name in asked]}


def _pack_card(slug: str, name: str, experiment: Experiment) -> dict:
    return {
        "section": slug,
        "name": name,
        "title": experiment.title,
        "question": experiment.question,
        "twins": [twin.name for twin in experiment.twins],
        "setting": setting(experiment),
        "prompt": experiment.prompt,
        "n_steps": experiment.twins[0].train.max_iters,
    }


def pack_events(experiment: Experiment, events: Sequence[Step | Result]) -> dict:
    """What has happened: `[twin, step, loss]` of each step, and the results; with the last one what to notice.

    A loss or a figure that is not finite is None, as JSON has no such number.
    """
    steps = [[event.twin, event.step, _finite(event.loss)] for event in events if isinstance(event, Step)]
    results = [event for event in events if isinstance(event, Result)]
    packed = {"steps": steps, "results": [_pack_result(result) for result in results]}
    if any(result.twin == len(experiment.twins) - 1 for result in results):
        packed |= {"measures": [measure.title for measure in experiment.measures], "notice": experiment.notice}
    return packed


def _pack_result(result: Result) -> dict:
    return {"twin": result.twin, "figures": [_finite(figure) for figure in result.figures], "sample": result.sample}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
