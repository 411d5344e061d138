"""The lines of code behind a section of the course, with what each of them made of the visitor's sentence."""

from collections.abc import Callable

import gradio as gr

from playground.listing import Listing
from playground.ui.components.base import component

TEMPLATE = """
<section class="look cl" aria-label="The code">
  <h4></h4>
  <p class="cl-key">Read from the running program. <span class="ls-made">In orange</span> stands what a line made: a
    name, its shape, its first numbers. B is the number of rows of text (here 1), T of tokens, C of <code>n_embd</code>,
    nh of heads, hs of a head's numbers, V of entries in the vocabulary.</p>
  <p class="look-note" role="status"></p>
  <div class="cl-listings"></div>
</section>
"""


def code_lines(lines: Callable, **kwargs) -> gr.HTML:
    """The component. Its value is what the course looks at (see learn.py), or None.

    For the section that is shown it asks `lines([id, slug, layer, head])` for `{"place", "listings"}`, the layer and
    head that it is of (or None) and a list of `pack_listing(…)`, or for `{"error": sentence}`.
    """
    return component("code_lines", TEMPLATE, "look", "listing", server_functions=[lines], **kwargs)


def pack_listing(listing: Listing) -> dict:
    return {
        "file": listing.file,
        "first": listing.first,
        "lines": [[line.text, list(line.made), line.n_times] for line in listing.lines],
    }
