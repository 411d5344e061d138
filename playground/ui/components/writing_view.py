"""Texts as models write them, one or two side by side: token by token, with what else could have stood there."""

from collections.abc import Callable, Sequence
from dataclasses import astuple

import gradio as gr

from playground.ui.components.base import component
from playground.writing import MAX_TYPED, Alternatives, Token

# Half of what could stand at a place: two such tables are read one after the other.
TABLE = """<table><thead><tr><th scope="col">token</th><th scope="col">at temperature 1</th>
  <th scope="col">with the settings</th></tr></thead><tbody></tbody></table>"""

TEMPLATE = f"""
<section class="look wr">
  <div class="wr-bar">
    <button type="button" class="wr-stop look-button" aria-disabled="true">Stop</button>
    <button type="button" class="wr-one look-button" aria-disabled="true">One token</button>
    <button type="button" class="wr-on look-button" aria-disabled="true">Go on</button>
    <span class="wr-state" role="status"></span>
    <label class="wr-tint"><input type="checkbox"> colour what was unlikely</label>
  </div>
  <div class="wr-sides"><div class="wr-empty look-text">What the model writes appears here.</div></div>
  <section class="wr-place" aria-label="The token that is pointed at" hidden>
    <p class="wr-told" role="status"></p>
    <div class="wr-rows">{2 * TABLE}</div>
    <form class="wr-type"><label class="look-choose">or type it <input maxlength="{MAX_TYPED}" autocomplete="off"
      spellcheck="false"></label> <button class="look-button">Put it there</button>
      <span class="wr-hint">“·” is a space: type that, too.</span></form>
    <p class="wr-hint">Point at a token to see what else could have stood there. Click it to hold it, then choose
      another in its place, and the text goes on from there; Esc lets go.</p>
  </section>
  <details class="wr-history">
    <summary></summary>
    <p class="look-note">Kept in this browser, the newest first. <button type="button" class="wr-clear look-link">Remove
      all</button></p>
    <ol></ol>
  </details>
</section>
"""

# Has what is written next follow the settings: the js of an event with fn=None, whose inputs are this component and
# temperature, top-k and top-p of each side, and whose output is this component.
FOLLOW_SETTINGS = "(value, ...s) => value && ({...value, settings: [s.slice(0, 3), s.slice(3)]})"


def writing_view(more: Callable, choose: Callable, put: Callable, **kwargs) -> gr.HTML:
    """The component. Its value is None or `{"seq", "id", "prompt", "seed", "length", "write", "titles", "settings"}`:
    which texts, whether to begin to write at once, the title and `[temperature, top_k, top_p]` of each side.

    The server functions get what the browser sends, which is not to be trusted, and return `pack_tokens(…)` or
    `{"error": sentence}`: `more([id, side, edition, cursor, count, settings])` up to so many tokens from the cursor on,
    newly drawn if it is the end; `choose([id, side, edition, place, token id, settings])` and
    `put([id, side, edition, place, text, settings])` those that stand from there on when one or more have been put
    there. To a page with another edition of the text than stands there, each gives the whole text and does no more.
    """
    return component("writing_view", TEMPLATE, "look", "distribution", server_functions=[more, choose, put], **kwargs)


def pack_tokens(
    edition: int, place: int, tokens: Sequence[Token], ahead: Alternatives, token_text: Callable[[int], str]
) -> dict:
    """All tokens from a place on, on their way to the page, and what could come after them."""
    packed = [_token(token, token_text) for token in tokens]
    return {"edition": edition, "place": place, "tokens": packed, "ahead": _alternatives(ahead, token_text)}


def _token(token: Token, token_text: Callable[[int], str]) -> dict:
    return {
        "id": token.id,
        "text": token.text,
        "name": token_text(token.id),
        "rank": token.rank,
        "uncut": _rounded(token.uncut),
        "p": _rounded(token.probability),
        "chosen": token.chosen,
        "settings": astuple(token.sampling),
        **_alternatives(token.alternatives, token_text),
    }


def _alternatives(found: Alternatives, token_text: Callable[[int], str]) -> dict:
    rows = zip(found.ids.tolist(), found.uncut.tolist(), found.probs.tolist(), strict=True)
    return {
        "rows": [[i, token_text(i), _rounded(uncut), _rounded(p)] for i, uncut, p in rows],
        "n": found.n_drawable,
        "lost": _rounded(found.lost),
    }


def _rounded(probability: float) -> float:
    """To what the page shows of it; thousands of them are sent. What can be drawn never becomes 0.

    >>> _rounded(0.123456789), _rounded(1.23e-9)
    (0.12346, 1.23e-09)
    """
    return float(f"{probability:.5g}")
