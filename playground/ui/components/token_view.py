"""Tokens as a tokenizer cuts them: the text in colours above its ids, for one tokenizer or several side by side."""

import json
from collections.abc import Sequence

import gradio as gr

from playground.ui.components.base import component

SHOWN = 5_000  # tokens of one view that reach the page

TEMPLATE = """
<p class="empty">Type or paste some text, and its tokens appear here.</p>
<div class="views"></div>
"""


def token_view(**kwargs) -> gr.HTML:
    """A `gr.HTML` whose value is None or `{"views": [pack_view(…), …], "seq": n}`, the visitor's own tokenizer first.

    Pointing at a token, or moving to it with the arrow keys, lights its id and all its other occurrences.
    """
    return component("token_view", TEMPLATE, "tokens", **kwargs)


def pack_view(title: str, tokens: Sequence[tuple[int, str, str]], n_chars: int, current: bool, note: str = "") -> dict:
    """One tokenizer's view of a text: `tokens` are (id, text, kind) as `tokenizer.tokens(text)` gives them.

    `n_chars` is the length of the text, `current` marks the visitor's own tokenizer, `note` stands below the counts.
    """
    # One JSON string: as nested lists Gradio wraps and compares every cell, about four times slower at 6,000 tokens.
    # It is ASCII, so that a lone surrogate in a text survives the way to the page.
    shown = json.dumps([tuple(token) for token in tokens[:SHOWN]])
    return {
        "title": title,
        "note": note,
        "current": current,
        "counts": _counts(tokens, n_chars),
        "count": len(tokens),
        "tokens": shown,
    }


def _counts(tokens: Sequence[tuple[int, str, str]], n_chars: int) -> str:
    parts = [f"{len(tokens):,} token{'' if len(tokens) == 1 else 's'}"]
    if tokens:
        parts.append(f"{n_chars / len(tokens):.1f} characters per token")
    if unknown := sum(kind == "unknown" for _, _, kind in tokens):
        parts.append(f"{unknown:,} unknown")
    return " · ".join(parts)
