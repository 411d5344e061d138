"""The Attention tab: a prompt, every head's weights on it, and figures to download."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

import gradio as gr

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.inspection import Inspection, inspect
from playground.runs import Workspace
from playground.ui.components.attention_map import attention_map, pack_grid, pack_head
from playground.ui.components.downloads import downloads, pack_file
from playground.ui.site import QUIET, Site, Tab, answer, fitting_prompt, tell

MAX_INSPECTIONS = 32  # kept for the page to ask about; a page whose own is gone is told to show it again
AVERAGE = -1


@dataclass(frozen=True)
class Shown:
    """An inspection that a page is looking at."""

    checkpoint: Checkpoint
    inspection: Inspection


class Inspections:
    """The latest inspections, by ids that cannot be guessed: the page asks for one head at a time."""

    def __init__(self):
        self._kept: OrderedDict[str, Shown] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, shown: Shown) -> str:
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[key] = shown
            while len(self._kept) > MAX_INSPECTIONS:
                self._kept.popitem(last=False)
        return key

    def get(self, key: object) -> Shown:
        with self._lock:
            if not isinstance(key, str) or key not in self._kept:
                raise BadInput("This picture is not kept any more: press Show attention.")
            self._kept.move_to_end(key)
            return self._kept[key]


def build(site: Site) -> Tab:
    inspections = Inspections()
    prompt = gr.Textbox(label="Prompt", lines=1, max_lines=6, submit_btn="Show attention", elem_id="attention-prompt")
    heads = attention_map(*_server_functions(inspections), elem_id="heads")
    figure = downloads(
        _figure_file(inspections), {"png": "Download as PNG", "svg": "Download as SVG"}, elem_id="figure"
    )

    def traced(workspace: Workspace, prompt: str):
        key = inspections.add(Shown(workspace.current, inspect(workspace.current, prompt)))
        return {"id": key}, [key, 0, 0]

    @tell
    def show_prompt(key, prompt):
        return traced(site.workspace(key), prompt)

    def pick(value, event: gr.EventData):
        return value and [value[0], event.layer, event.head]

    prompt.submit(show_prompt, [site.visitor, prompt], [heads, figure], **QUIET)
    heads.pick(pick, figure, figure, queue=False, **QUIET)

    def show(workspace: Workspace, key, prompt):
        prompt = fitting_prompt(workspace.current, prompt)
        return [prompt, *traced(workspace, prompt)]

    return Tab([site.visitor, prompt], [prompt, heads, figure], show)


def _server_functions(inspections: Inspections):
    @answer
    def grid(key):
        inspection = inspections.get(key).inspection
        return pack_grid(inspection.attention, inspection.tokens)

    @answer
    def head(args):
        key, layer, head = args
        inspection = inspections.get(key).inspection
        return pack_head(inspection.attention, *_checked(inspection, layer, head))

    return grid, head


def _figure_file(inspections: Inspections):
    @answer
    def file(args):
        (key, layer, head), kind = args
        shown = inspections.get(key)
        layer, head = _checked(shown.inspection, layer, head)
        if kind not in ("png", "svg"):
            raise BadInput("A figure is a PNG or an SVG: choose one of the two.")
        # Imported here: it takes most of a second, and only a download needs it.
        from playground.figures import attention_figure, to_bytes

        caption = f"{shown.checkpoint.name}, step {shown.checkpoint.step:,}"
        figure = attention_figure(
            shown.inspection, None if layer == AVERAGE else layer, None if head == AVERAGE else head, caption
        )
        return pack_file(f"attention-layer{layer + 1}-head{head + 1}.{kind}", to_bytes(figure, kind))

    return file


def _checked(inspection: Inspection, layer: object, head: object) -> tuple[int, int]:
    """Layer and head as the page names them: from 0, or -1 for an average."""
    n_layer, n_head = inspection.attention.shape[:2]
    whole = type(layer) is int and type(head) is int
    if not whole or not AVERAGE <= layer < n_layer or not AVERAGE <= head < n_head or (layer == AVERAGE != head):
        raise BadInput("The model has no such head: choose one of the list.")
    return layer, head
