"""What all page components share: a script and a style that stand in files of their own."""

from pathlib import Path

import gradio as gr

HERE = Path(__file__).parent
COMMON_JS = (HERE / "common.js").read_text()


def component(name: str, template: str, shared: str = "", **kwargs) -> gr.HTML:
    """A `gr.HTML` drawn by `<name>.js` and `<name>.css` beside this file, after those named `shared`.

    `template` is static: Gradio evaluates `${…}` in a template, so text of a visitor's must never become part of
    one. It reaches the page through the component's value or its server functions, and there only through
    `textContent` or `fillText`.
    """
    return gr.HTML(
        html_template=template,
        css_template=_read(shared, name, ".css"),
        js_on_load=COMMON_JS + _read(shared, name, ".js"),
        apply_default_css=False,
        **kwargs,
    )


def _read(shared: str, name: str, ending: str) -> str:
    return "".join((HERE / f"{part}{ending}").read_text() for part in (shared, name) if part)
