"""What the tabs share: how they fit into the page, and how a bad input's sentence reaches the visitor."""

import functools
import html
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.runs import Workspace, Workspaces

# For events of the page itself: no spinner over what they change, and no place among the API's endpoints.
QUIET = {"show_progress": "hidden", "api_visibility": "private"}

TOKENIZER_TITLES = {"char": "Characters", "word": "Words", "bpe": "Byte-pair subwords"}


@dataclass(frozen=True)
class Tab:
    """How a tab shows another checkpoint: `show(workspace, *values of inputs)` returns the values of `outputs`."""

    inputs: list[Component]
    outputs: list[Component]
    show: Callable[..., list]
    changes: list[Dependency] = field(default_factory=list)  # events after which the checkpoint in use may be another


@dataclass(frozen=True)
class Site:
    """All visitors' workspaces, and the browser's memory of which is this visitor's."""

    workspaces: Workspaces
    visitor: gr.BrowserState

    def workspace(self, key: object) -> Workspace:
        return self.workspaces.get(key)


def tell(function: Callable) -> Callable:
    """An event handler whose `BadInput` becomes a message on the page; what the page shows stays as it was."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream(*args):
            try:
                yield from function(*args)
            except BadInput as error:
                raise _message(error) from None

        return stream

    @functools.wraps(function)
    def handle(*args):
        try:
            return function(*args)
        except BadInput as error:
            raise _message(error) from None

    return handle


def answer(function: Callable) -> Callable:
    """A server function whose `BadInput` becomes data: to the page an exception would be a bare "undefined".

    All its arguments come as one list from a browser; a list of another shape is a bad input as well.
    """

    @functools.wraps(function)
    def handle(args):
        try:
            return function(args)
        except BadInput as error:
            return {"error": str(error)}
        except (TypeError, ValueError, KeyError, IndexError, OverflowError):
            return {"error": "The page asked for something that is not there: reload it."}

    return handle


def _message(error: BadInput) -> gr.Error:
    # Gradio shows messages as HTML, and the sentence may quote a visitor's file.
    return gr.Error(html.escape(str(error)), title="Please check", print_exception=False)


def suggest_prompt(checkpoint: Checkpoint, longest: int) -> str:
    """Some text that the model knows: how its own last sample begins, or else the start of its vocabulary."""
    samples = [step.sample for step in checkpoint.history if step.sample and step.sample.strip()]
    if not samples:
        return checkpoint.tokenizer.token_text(0)
    line = samples[-1].strip().splitlines()[0]
    return line if len(line) <= longest else line[:longest].rpartition(" ")[0] or line[:longest]


def fitting_prompt(checkpoint: Checkpoint, prompt: str, longest: int = 48) -> str:
    """The visitor's prompt if this model knows all of it, else one that it knows, of at most `longest` characters."""
    unknown = checkpoint.tokenizer.unk_id
    if prompt and unknown not in checkpoint.tokenizer.encode(prompt):
        return prompt
    return suggest_prompt(checkpoint, longest)
