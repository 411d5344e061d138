"""What all page components share: a script and a style that stand in files of their own."""

from pathlib import Path

import gradio as gr

HERE = Path(__file__).parent
COMMON_JS = (HERE / "common.js").read_text()


def component(name: str, template: str, **kwargs) -> gr.HTML:
    """A `gr.HTML` drawn by `<name>.js` and `<name>.css` beside this file.

    `template` is static: Gradio evaluates `${…}` in a template, so text of a visitor's must never become part of
    one. It reaches the page through the component's value or its server functions, and there only through
    `textContent` or `fillText`.
    """
    return gr.HTML(
        html_template=template,
        css_template=(HERE / f"{name}.css").read_text(),
        js_on_load=COMMON_JS + (HERE / f"{name}.js").read_text(),
        apply_default_css=False,
        **kwargs,
    )
