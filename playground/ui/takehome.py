"""What a visitor takes home from the course: its model as a notebook, and as a lesson page."""

from collections.abc import Callable

import gradio as gr

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.generation import encode_prompt
from playground.notebook import notebook, to_bytes
from playground.tokenizer import without_surrogates
from playground.ui.checkpoints import file_name
from playground.ui.components.downloads import downloads, pack_file
from playground.ui.lesson import lesson_page
from playground.ui.site import Site, answer, suggest_prompt

KINDS = {"notebook": "Download as notebook", "lesson": "Download as lesson page"}
SLICE = 0.2  # seconds of drawing in a row; between two slices trainings have their turn
NOTHING_TO_TAKE = "The page asked for nothing that can be taken home: reload it."


def take_home(site: Site) -> gr.HTML:
    """Two buttons. Their value is what `to_take` returns."""
    return downloads(_file(site), KINDS, elem_id="take-home")


def to_take(key: str, version: int, sentence: str) -> dict:
    """The visitor's model in use, and the sentence that it is tried on."""
    return {"visitor": key, "version": version, "sentence": without_surrogates(sentence)}


def _file(site: Site) -> Callable:
    @answer(dict, str)
    def file(look, kind):
        match look:
            case {"visitor": str(key), "version": int(version), "sentence": str(sentence)} if kind in KINDS:
                checkpoint = site.checkpoint(key, version)
            case _:
                raise BadInput(NOTHING_TO_TAKE)
        prompt = _prompt(checkpoint, without_surrogates(sentence))
        name = file_name(checkpoint.name)
        if kind == "lesson":
            return pack_file(f"{name}.html", _lesson(site, checkpoint, prompt))
        text = site.workspace(key).text_of(checkpoint)
        with site.visit():
            return pack_file(f"{name}.ipynb", to_bytes(notebook(checkpoint, text, prompt)))

    return file


def _prompt(checkpoint: Checkpoint, sentence: str) -> str:
    """The visitor's sentence, as the page looks at it, unless the model knows nothing in it."""
    try:
        encode_prompt(checkpoint.tokenizer, sentence)
    except BadInput:
        return suggest_prompt(checkpoint, longest=48)
    return sentence


def _lesson(site: Site, checkpoint: Checkpoint, prompt: str) -> bytes:
    page, parts = [], lesson_page(checkpoint, prompt)
    while drawn := site.burst(parts, SLICE):
        page += drawn
    return "".join(page).encode()
