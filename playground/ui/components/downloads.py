"""Buttons that download a file which is made only when one is pressed, and leaves nothing behind on the server."""

import base64
from collections.abc import Callable
from types import ModuleType

import gradio as gr

from playground.errors import BadInput
from playground.ui.components.base import component


def downloads(file: Callable[[list], dict], kinds: dict[str, str], **kwargs) -> gr.HTML:
    """A button for each of `kinds` (kind: label). Its value is any JSON that says what the file is of, or None.

    `file`, a plain function of this very name, gets `[value, kind]` (from the browser, so not to be trusted) and
    returns `pack_file(…)` or `{"error": sentence}`.
    """
    buttons = "".join(f'<button type="button" data-kind="{kind}">{label}</button>' for kind, label in kinds.items())
    template = f'<div class="downloads">{buttons}<span class="fault" role="status"></span></div>'
    return component("downloads", template, "figure", server_functions=[file], **kwargs)


def pack_file(name: str, data: bytes) -> dict:
    """A file on its way to the page."""
    return {"name": name, "data": base64.b64encode(data).decode("ascii")}


def pack_figure(name: str, kind: str, draw: Callable[[ModuleType], object]) -> dict:
    """A figure as a file of a kind that the page asks for, or its "caption" alone; `draw` gets `playground.figures`.

    That is imported here alone: it takes most of a second, and only a download needs it.
    """
    if kind not in ("png", "svg", "caption"):
        raise BadInput("A figure is a PNG or an SVG: choose one of the two.")
    from playground import figures

    if kind == "caption":
        return {"caption": figures.caption_of(draw(figures))}
    return pack_file(f"{name}.{kind}", figures.to_bytes(draw(figures), kind))
