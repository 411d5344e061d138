"""What the tabs share: how they fit into the page, and how a bad input's sentence reaches the visitor."""

import functools
import html
import inspect
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.generation import MAX_PROMPT
from playground.learned import Library
from playground.workspaces import Workspace, Workspaces

# For events of the page itself: no spinner over what they change, and no place among the API's endpoints.
QUIET = {"show_progress": "hidden", "api_visibility": "private"}

ANOTHER = "Another model is in use by now: reload the page."
DEFECT = "This failed by a defect of ours; its report is in the server's log."

Step = TypeVar("Step")

COMMON = ("Once", "The", "the", "a")  # to begin with, where nothing better is known

TITLES = ("Train", "Tokenizer", "Attention", "Generate", "Evaluate", "Learn", "Checkpoints")  # of the tabs
TOKENIZER_TITLES = {"char": "Characters", "word": "Words", "bpe": "Byte-pair subwords"}


@dataclass(frozen=True)
class Tab:
    """How a tab shows another checkpoint: `show(workspace, checkpoint, *inputs)` gives the values of `outputs`.

    It never raises `BadInput`: what stands in one tab must not keep the others from the new checkpoint.
    """

    inputs: list[Component]
    outputs: list[Component]
    show: Callable[..., list]
    changes: list[Dependency] = field(default_factory=list)  # events after which the checkpoint in use may be another
    asked: dict[str, Component] = field(default_factory=dict)  # inputs that the page's address may fill, by its names


@dataclass(frozen=True)
class Site:
    """All visitors' workspaces, and the browser's memory of which is this visitor's."""

    workspaces: Workspaces
    visitor: gr.BrowserState
    server: str = field(default_factory=secrets.token_hex)  # tells a page that outlived its server
    library: Library = field(default_factory=Library)  # what the models have learned from, sorted

    def workspace(self, key: object) -> Workspace:
        return self.workspaces.get(key)

    def checkpoint(self, key: object, version: int) -> Checkpoint:
        """The visitor's checkpoint in use, if it still is the one that a page asks about; else raises `BadInput`."""
        checkpoint, current = self.workspace(key).in_use
        if version != current:
            raise BadInput(ANOTHER)
        return checkpoint

    def visit(self) -> AbstractContextManager:
        """For what a visitor waits for: training makes room while it is computed."""
        return self.workspaces.host.engine.visit()

    def burst(self, steps: Iterator[Step], seconds: float) -> list[Step]:
        """What comes in the next moment, in a visit of its own so that others have their turn; nothing at the end."""
        done, until = [], time.monotonic() + seconds
        with self.visit():
            for step in steps:
                done.append(step)
                if time.monotonic() >= until:
                    break
        return done


def while_in_use(workspace: Workspace, updates: Iterator) -> Iterator:
    """Updates of the page for as long as the same checkpoint is in use: later ones would stand under another's name."""
    version = workspace.in_use[1]
    for update in updates:
        if workspace.in_use[1] != version:
            return
        yield update


def tell(function: Callable) -> Callable:
    """An event handler whose failure becomes a message on the page; what the page shows stays as it was."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream(*args):
            with _telling(function.__name__):
                yield from function(*args)

        return stream

    @functools.wraps(function)
    def handle(*args):
        with _telling(function.__name__):
            return function(*args)

    return handle


def answer(*kinds: type) -> Callable:
    """Makes a server function of one whose arguments are of these kinds, which a browser sends as one JSON list.

    A failure becomes data, `{"error": sentence}`: to the page an exception would be a bare "undefined".
    """

    def decorate(function: Callable) -> Callable:
        def handle(sent):
            sent = sent if isinstance(sent, list) else [sent]
            if [type(argument) for argument in sent] != list(kinds):
                return {"error": "The page asked for something that is not there: reload it."}
            try:
                return function(*sent)
            except BadInput as error:
                return {"error": str(error)}
            except Exception:
                logging.exception("%s failed", function.__name__)
                return {"error": DEFECT}

        handle.__name__ = function.__name__  # by which the page calls it; Gradio must see the one parameter, though
        return handle

    return decorate


@contextmanager
def _telling(what: str) -> Iterator[None]:
    try:
        yield
    except BadInput as error:
        raise _message(str(error)) from None
    except Exception:
        logging.exception("%s failed", what)
        raise _message(DEFECT) from None


def _message(sentence: str) -> gr.Error:
    # Gradio shows messages as HTML, and the sentence may quote a visitor's file.
    return gr.Error(html.escape(sentence), duration=6, print_exception=False)


def suggest_prompt(checkpoint: Checkpoint, longest: int) -> str:
    """Some text that the model knows: how a sample of its own begins, the latest first, or else its first token."""
    trained = [step for step in checkpoint.history if step.step > 1]  # the sample of the first step is noise
    for step in reversed(trained):
        line = next(iter((step.sample or "").strip().splitlines()), "")
        short = beginning(line, longest)
        if any(i != checkpoint.tokenizer.unk_id for i in checkpoint.tokenizer.encode(short)):
            return short
    words = [word for word in COMMON if checkpoint.tokenizer.unk_id not in checkpoint.tokenizer.encode(word)]
    return words[0] if words else checkpoint.tokenizer.decode([0])


def beginning(line: str, longest: int) -> str:
    """The first words of a line, of at most `longest` characters.

    >>> beginning("To be, or not to be", 12), beginning("Nevertheless", 5)
    ('To be, or', 'Never')
    """
    return line if len(line) <= longest else line[:longest].rpartition(" ")[0] or line[:longest]


def fitting_prompt(checkpoint: Checkpoint, prompt: str, longest: int = 48) -> str:
    """The visitor's prompt if this model knows all of it, else one that it knows, of at most `longest` characters."""
    unknown = checkpoint.tokenizer.unk_id
    if prompt and len(prompt) <= MAX_PROMPT and unknown not in checkpoint.tokenizer.encode(prompt):
        return prompt
    return suggest_prompt(checkpoint, longest)


def shortened(text: str, longest: int = 48) -> str:
    """One line of a visitor's words, for a caption.

    >>> shortened("To be, or not to be: that is the question.", 20)
    'To be, or not to be…'
    """
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1].rstrip()}…"


def unless_same(new: str, old: str) -> object:
    """For a box that a visitor may be typing in: an update only if there is something new."""
    return gr.skip() if new == old else new
