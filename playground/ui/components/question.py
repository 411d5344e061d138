"""The question that ends a section of the course, with what answers it in one look, and the way to the next section."""

import html
from collections.abc import Callable

import gradio as gr

from playground.course import SECTIONS, Section
from playground.tries import TRIES, Answer
from playground.ui.components.base import component

BUTTONS = {  # what is done when one is pressed
    "last_token": "Hide all but the last token",
    "neighbours": "Compare the table with random rows",
    "temperature": "Compare three temperatures",
}


def question(by_a_look: Callable, **kwargs) -> gr.HTML:
    """The component. Its value is what the course looks at (see learn.py), or None.

    It asks `by_a_look([id, name])`, a name of TRIES, for `pack_answer(…)` or `{"error": sentence}`.
    """
    return component("question", TEMPLATE, "look", server_functions=[by_a_look], **kwargs)


def pack_answer(answer: Answer, token_text: Callable[[int], str]) -> dict:
    columns = [
        {"title": column.title, "rows": [[token_text(i), x] for i, x in zip(column.ids, column.numbers, strict=True)]}
        for column in answer.columns
    ]
    return {"columns": columns, "measure": answer.measure, "sentence": answer.sentence}


def _question(section: Section) -> str:
    tries = [name for name in section.experiments if name in TRIES]
    buttons = "".join(
        f'<button type="button" class="look-button" data-try="{name}">{BUTTONS[name]}</button>' for name in tries
    )
    return f"""<section class="qu-question" data-slug="{section.slug}" hidden>
      <h4>Question</h4>
      <p class="qu-words">{html.escape(section.question)}</p>
      {buttons}
    </section>"""


TEMPLATE = f"""
<div class="look qu">
  {"".join(map(_question, SECTIONS))}
  <p class="look-note" role="status"></p>
  <div class="qu-answer" hidden>
    <div class="qu-columns"></div>
    <p class="qu-sentence" role="status"></p>
  </div>
</div>
"""
