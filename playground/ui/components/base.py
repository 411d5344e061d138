"""What all page components share: a script and a style that stand in files of their own."""

import base64
from pathlib import Path

import gradio as gr
import numpy as np

HERE = Path(__file__).parent
COMMON_JS = (HERE / "common.js").read_text()


def component(name: str, template: str, *shared: str, **kwargs) -> gr.HTML:
    """A `gr.HTML` drawn by `<name>.js` and `<name>.css` beside this file, after those named in `shared`.

    `template` is static: Gradio evaluates `${…}` in a template, so text of a visitor's must never become part of
    one. It reaches the page through the component's value or its server functions, and there only through
    `textContent` or `fillText`.
    """
    return gr.HTML(
        html_template=template,
        css_template=_read(*shared, name, ending=".css"),
        js_on_load=COMMON_JS + _read(*shared, name, ending=".js"),
        apply_default_css=False,
        **kwargs,
    )


def packed(array: np.ndarray) -> str:
    """An array's bytes as base64, many times faster for the page to read than nested lists: see `unpack` there."""
    return base64.b64encode(array.tobytes()).decode("ascii")


def _read(*names: str, ending: str) -> str:
    files = [HERE / f"{name}{ending}" for name in names]
    return "".join(file.read_text() for file in files if file.exists())  # arithmetic has a script and no style
