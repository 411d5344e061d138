"""The words of the course, a section at a time: where to go, what was seen, and what every term means."""

import html

import gradio as gr

from playground.course import GLOSSARY, SECTIONS, Piece, Section, pieces
from playground.ui.components.base import component


def course_words(**kwargs) -> gr.HTML:
    """The component. Its value is `{"sentence", "shipped"}`, for the address, or None.

    Which section is shown stands as data-section on the nearest element of the class "course"; other parts of the
    page follow it (see `whileSection` in look.js). What was seen and answered stays in the browser.
    """
    return component("course", TEMPLATE, "look", **kwargs)


def _section(number: int, section: Section) -> str:
    paragraphs = "".join(
        f"<p>{''.join(map(_piece, pieces(text)))}</p>" for text in (*section.paragraphs, section.on_the_page) if text
    )
    return f"""<section class="co-section" data-slug="{section.slug}" hidden>
      <h3 tabindex="-1">{number}. {section.title}</h3>
      {paragraphs}
    </section>"""


def _piece(piece: Piece) -> str:
    text = html.escape(piece.text)
    if piece.kind == "code":
        return f"<code>{text}</code>"
    if piece.kind == "term":
        meaning = html.escape("".join(part.text for part in pieces(GLOSSARY[piece.term])), quote=True)
        return f'<button type="button" class="co-term look-plain" data-meaning="{meaning}">{text}</button>'
    return text


def _step(number: int, section: Section) -> str:
    return f"""<li><button type="button" class="look-button" data-slug="{section.slug}" title="{section.title}">
      {number}<span class="co-name"> {section.title}</span></button></li>"""


TEMPLATE = f"""
<div class="look co">
  <nav class="co-way" aria-label="Sections of the course">
    <ol>{"".join(_step(number, section) for number, section in enumerate(SECTIONS, 1))}</ol>
    <div>
      <button type="button" class="co-back look-button">Back</button>
      <button type="button" class="co-next look-button">Next</button>
      <span class="co-progress" role="status"></span>
    </div>
  </nav>
  {"".join(_section(number, section) for number, section in enumerate(SECTIONS, 1))}
  <p class="co-meaning" role="tooltip" id="course-meaning" hidden></p>
</div>
"""
