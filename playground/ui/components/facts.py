"""A line of labelled figures, such as a model's size and loss. Any of them may be a stranger's words."""

import gradio as gr

from playground.ui.components.base import component

TEMPLATE = """
<div class="facts" aria-live="polite" hidden>
  <p class="title"></p>
  <dl></dl>
  <p class="note"></p>
</div>
"""


def facts(**kwargs) -> gr.HTML:
    """The component. Its value is None, which shows nothing, or what `pack_facts` returns."""
    return component("facts", TEMPLATE, **kwargs)


def pack_facts(title: str, pairs: dict[str, str], note: str = "", warning: bool = False) -> dict:
    """A title, figures by their labels, and a sentence below them, which `warning` sets off."""
    return {"title": title, "pairs": list(pairs.items()), "note": note, "warning": warning}
