"""For the teacher: a link to the page as a class should see it.

The address says so in its `show`, names with commas between them: the tabs to be seen (all if none is named), and
"pictures" (without titles, settings and download buttons), "large" (type for a projector), "captions" (below each
picture what stands in its downloaded figure). What is looked at is in the address anyway:
`?tab=attention&layer=2&head=1&show=…`.
"""

import gradio as gr

from playground.ui.components.base import component
from playground.ui.site import TITLES

WAYS = {
    "large": "larger type, for a projector",
    "captions": "below each picture the caption of its download",
    "pictures": "without titles, settings and download buttons",
}


def _choice(name: str, label: str) -> str:
    return f'<label><input type="checkbox" value="{name}"> {label}</label>'


TEMPLATE = f"""
<details class="look fc">
  <summary>For a class: a link to what you want to show</summary>
  <div class="look-body">
    <p>The link keeps the section and the sentence of this course, and the prompt, layer and head of the Attention tab.
      A model of your own is not in it: hand out its file, from the Checkpoints tab.</p>
    <fieldset><legend>Only these tabs (none chosen: all of them)</legend>
      {"".join(_choice(title.lower(), title) for title in TITLES)}</fieldset>
    <fieldset><legend>Shown with</legend>{"".join(_choice(name, label) for name, label in WAYS.items())}</fieldset>
    <p class="fc-link"><input type="text" readonly aria-label="The link">
      <button type="button" class="look-button">Copy</button></p>
    <p class="look-readout" role="status"></p>
  </div>
</details>
"""


def for_class(**kwargs) -> gr.HTML:
    """The component; it has no value, since the page's address has all that it needs."""
    return component("for_class", TEMPLATE, "look", **kwargs)
