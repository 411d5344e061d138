"""Texts as models write them, one or two side by side: token by token, with what else could have stood there."""

from collections.abc import Callable, Sequence

import gradio as gr

from playground.ui.components.base import component
from playground.writing import MAX_TYPED, Alternatives, Token

TEMPLATE = f"""
<section class="look wr">
  <div class="wr-bar">
    <button type="button" class="wr-stop look-button" disabled>Stop</button>
    <button type="button" class="wr-one look-button" disabled>One token</button>
    <button type="button" class="wr-on look-button" disabled>Go on</button>
    <span class="wr-state" role="status"></span>
  </div>
  <div class="wr-sides"><div class="wr-empty look-text">What the model writes appears here.</div></div>
  <section class="wr-place" aria-label="The token that is pointed at" hidden>
    <p class="look-note">Point at a token to see what else could have stood there. Click it to hold it, then choose
      another in its place, and the text goes on from there.</p>
    <p class="wr-told" role="status"></p>
    <table><thead><tr><th scope="col">token</th><th scope="col">temperature 1, nothing cut</th>
      <th scope="col">with the settings</th></tr></thead><tbody></tbody></table>
    <form class="wr-type"><label class="look-choose">or type it <input maxlength="{MAX_TYPED}" autocomplete="off"
      spellcheck="false"></label> <button class="look-button">Put it there</button></form>
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
    """The component. Its value is None or `{"seq", "prompt", "seed", "length", "write", "sides", "settings"}`: which
    texts, whether to begin to write at once, `{"id", "title"}` and `[temperature, top_k, top_p]` of each side.

    The server functions get what the browser sends, which is not to be trusted, and return `pack_tokens(…)` or
    `{"error": sentence}`: `more([id, cursor, count, settings])` up to so many tokens from the cursor on, newly drawn if
    it is the end; `choose([id, place, token id, settings])` and `put([id, place, text, settings])` those that stand
    from there on when one or more have been put there.
    """
    return component("writing_view", TEMPLATE, "look", "distribution", server_functions=[more, choose, put], **kwargs)


def pack_tokens(tokens: Sequence[Token], ahead: Alternatives, token_text: Callable[[int], str]) -> dict:
    """Tokens on their way to the page, and what could come after all that are there."""
    return {"tokens": [_token(token, token_text) for token in tokens], "ahead": _alternatives(ahead, token_text)}


def _token(token: Token, token_text: Callable[[int], str]) -> dict:
    return {
        "id": token.id,
        "text": token.text,
        "name": token_text(token.id),
        "rank": token.rank,
        "uncut": _rounded(token.uncut),
        "p": _rounded(token.probability),
        "chosen": token.chosen,
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
