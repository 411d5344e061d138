"""The way to the next section, below the one that was read."""

import json
from itertools import pairwise

import gradio as gr

from playground.course import SECTIONS
from playground.ui.components.base import component

NEXT = {a.slug: b.title for a, b in pairwise(SECTIONS)}
TEMPLATE = f"""<div class="look"><button type="button" class="look-button" data-next='{json.dumps(NEXT)}'></button>
  <p hidden>That was the last section. Train a model on a text of your own in the Train tab and go through them again:
    the numbers will be its own.</p></div>"""


def go_on(**kwargs) -> gr.HTML:
    """The component; it has no value."""
    return component("go_on", TEMPLATE, "look", **kwargs)
