"""Memory against invention: what a model wrote, with what stands in its training text marked, beside held-out text."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import gradio as gr

from playground.copies import Copying
from playground.diversity import Diversity
from playground.ui.components.base import component

TEMPLATE = """
<section class="look cv">
  <p class="cv-empty look-note" role="status">Press Write and compare: what the model writes appears here, and what of
    it stands word for word in the text that it learned from.</p>
  <p class="cv-written look-text" hidden></p>
  <div class="cv-shown" hidden>
    <p class="cv-about"></p>
    <p class="cv-note look-note" role="status"></p>
    <label class="cv-slider">Mark passages of at least <input type="range" min="2" max="60">
      <output></output> tokens that stand in the training text</label>
    <div class="cv-texts">
      <section><h4>What the model wrote</h4>
        <div class="cv-text look-text" tabindex="0" role="group" aria-label="What the model wrote"></div></section>
      <section><h4>Held-out text, as long</h4>
        <div class="cv-text look-text" tabindex="0" role="group" aria-label="Held-out text, as long"></div></section>
    </div>
    <p class="cv-told" role="status"></p>
    <p class="cv-verdict"></p>
    <table class="cv-table"><thead><tr><th></th><th>the model</th><th>held out</th></tr></thead><tbody></tbody></table>
  </div>
</section>
"""


def copies_view(copies: Callable, **kwargs) -> gr.HTML:
    """The component. Its value is None, `{"text": …}` while the model writes, or `{"id", "at_least", "about"}`.

    `copies`, a plain function of this very name, gets `[id, at_least]` (from the browser, so not to be trusted) and
    returns `{"note": …, "texts": [pack_text(…), …]}`, the model's first, or `{"error": sentence}`.
    """
    return component("copies_view", TEMPLATE, "look", server_functions=[copies], **kwargs)


def pack_text(
    tokens: Sequence[str], diversity: Diversity, copying: Copying | None, context: Callable[[int, int], list[str]]
) -> dict:
    """A text with its figures. `context(where, length)` is what stands before, in and after a passage of the training
    text.

    Without a training text to compare it with there is no `copying`.
    """
    packed = {"tokens": list(tokens), "diversity": asdict(diversity) | {"distinct": _named(diversity.distinct)}}
    if copying:
        spans = [asdict(span) | {"context": context(span.where, span.end - span.start)} for span in copying.spans]
        about = {"share": copying.share, "longest": copying.longest, "novelty": _named(copying.novelty)}
        packed |= {"copying": about | {"spans": spans}}
    return packed


def _named(by_size: dict[int, float]) -> dict[str, float]:
    """As JSON has it: there all names are text."""
    return {str(n): share for n, share in by_size.items()}
