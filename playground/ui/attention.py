"""The Attention tab: a prompt, every head's weights on it, one head step by step, and what each layer would say."""

import secrets
import weakref
from dataclasses import dataclass

import gradio as gr

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.inspection import Inspection, head_scores, head_stages, inspect, logit_lens
from playground.recent import Recent
from playground.ui.components.attention_map import AVERAGE, attention_map, pack_grid, pack_head
from playground.ui.components.downloads import downloads, pack_file
from playground.ui.components.facts import facts, pack_facts
from playground.ui.components.head_stages import head_stages as head_stages_view
from playground.ui.components.head_stages import pack_stages
from playground.ui.components.head_table import head_table, pack_scores
from playground.ui.components.logit_lens import logit_lens_table, pack_lens
from playground.ui.site import QUIET, Site, Tab, answer, fitting_prompt, tell, unless_same
from playground.workspaces import Workspace

NOT_KEPT = "This picture is not kept any more: press Show attention."
NOTHING_PICKED = "The page asked for a figure of nothing: press Show attention."
MAX_KEPT_BYTES = 2**25  # of inspections for pages to ask about; a page whose own is gone is told so


@dataclass(frozen=True)
class Shown:
    """An inspection that a page is looking at, and the caption of its figures. It does not keep its model in memory."""

    caption: str
    model: "weakref.ref[Checkpoint]"
    inspection: Inspection

    @property
    def checkpoint(self) -> Checkpoint:
        checkpoint = self.model()
        if not checkpoint:
            raise BadInput(NOT_KEPT)
        return checkpoint

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.inspection.tokens]


class Inspections:
    """The latest inspections, by ids that cannot be guessed: the page asks for one head at a time."""

    def __init__(self):
        self._kept: Recent[Shown] = Recent(MAX_KEPT_BYTES)

    def add(self, shown: Shown) -> str:
        key = secrets.token_urlsafe(16)
        self._kept.put(key, shown, shown.inspection.attention.nbytes + shown.inspection.logits.nbytes)
        return key

    def get(self, key: str) -> Shown:
        shown = self._kept.get(key)
        if not shown:
            raise BadInput(NOT_KEPT)
        return shown


def build(site: Site) -> Tab:
    inspections = Inspections()
    prompt = gr.Textbox(label="Prompt", lines=1, max_lines=6, submit_btn="Show attention", elem_id="attention-prompt")
    note = facts(elem_id="attention-note")
    heads = attention_map(*_server_functions(inspections), elem_id="heads")
    figure = downloads(
        _figure_file(inspections), {"png": "Download as PNG", "svg": "Download as SVG"}, elem_id="figure"
    )
    scores = head_table(_scores_function(site, inspections), elem_id="scores")
    stages = head_stages_view(_stages_function(site, inspections), elem_id="stages")
    lens = logit_lens_table(_lens_function(site, inspections), elem_id="lens")

    def traced(checkpoint: Checkpoint, prompt: str):
        inspection = inspect(checkpoint, prompt)
        key = inspections.add(
            Shown(f"{checkpoint.name}, step {checkpoint.step:,}", weakref.ref(checkpoint), inspection)
        )
        return _note(inspection), {"id": key}, [key, 0, 0], [key, 0, 0], key, key

    @tell
    def show_prompt(key, prompt):
        try:
            with site.visit():
                return traced(site.workspace(key).current, prompt)
        except BadInput as error:  # beside the prompt, since outside the queue an error is one of the server's, too
            return pack_facts("", {}, str(error), warning=True), *5 * [gr.skip()]

    @tell
    def pick(value, event: gr.EventData):
        match value, event._data:
            case None, _:  # nothing is shown yet
                return None, None
            case [str(key), _, _], {"layer": int(layer), "head": int(head)}:
                return 2 * [[key, *_checked(inspections.get(key).inspection, layer, head)]]
        raise BadInput(NOTHING_PICKED)

    # The queue would take as long as all the rest: it looks for answers every 50 ms.
    prompt.submit(
        show_prompt, [site.visitor, prompt], [note, heads, figure, stages, scores, lens], queue=False, **QUIET
    )
    heads.pick(pick, figure, [figure, stages], queue=False, **QUIET)

    def show(_: Workspace, checkpoint: Checkpoint, key, prompt):
        fitting = fitting_prompt(checkpoint, prompt)
        return [unless_same(fitting, prompt), *traced(checkpoint, fitting)]

    return Tab([site.visitor, prompt], [prompt, note, heads, figure, stages, scores, lens], show)


def _note(inspection: Inspection) -> dict | None:
    if not inspection.n_dropped:
        return None
    kept, n = len(inspection.tokens), len(inspection.tokens) + inspection.n_dropped
    return pack_facts("", {}, f"The prompt has {n:,} tokens. The model sees, and the picture shows, the last {kept:,}.")


def _server_functions(inspections: Inspections):
    @answer(str, int, int)
    def grid(key, layer, head):
        inspection = inspections.get(key).inspection
        place = (layer, head) if _has(inspection, layer, head) else (0, 0)
        return pack_grid(inspection.attention, inspection.tokens, *place)

    @answer(str, int, int)
    def head(key, layer, head):
        inspection = inspections.get(key).inspection
        return pack_head(inspection.attention, *_checked(inspection, layer, head))

    return grid, head


def _scores_function(site: Site, inspections: Inspections):
    @answer(str)
    def scores(key):
        checkpoint = inspections.get(key).checkpoint
        with site.visit():
            return pack_scores(head_scores(checkpoint))

    return scores


def _stages_function(site: Site, inspections: Inspections):
    @answer(str, int, int, int)
    def stages(key, layer, head, query):
        shown = inspections.get(key)
        if AVERAGE in _checked(shown.inspection, layer, head):
            raise BadInput("An average has no steps of its own: choose one head.")
        query = _position(shown, query)
        with site.visit():
            seen = head_stages(shown.checkpoint, shown.ids, layer, head)
        return pack_stages(seen, shown.inspection.tokens, layer, head, query)

    return stages


def _lens_function(site: Site, inspections: Inspections):
    @answer(str, int)
    def lens(key, position):
        shown = inspections.get(key)
        position = _position(shown, position)
        with site.visit():
            seen = logit_lens(shown.checkpoint, shown.ids, position)
        return pack_lens(seen, shown.checkpoint.tokenizer.token_text, shown.inspection.tokens, position)

    return lens


def _position(shown: Shown, position: int) -> int:
    """Counted from 0; -1 is the last token."""
    n = len(shown.inspection.tokens)
    if not -1 <= position < n:
        raise BadInput("The prompt has no such token: choose one of the list.")
    return position % n


def _figure_file(inspections: Inspections):
    @answer(list, str)
    def file(picked, kind):
        if [type(part) for part in picked] != [str, int, int]:
            raise BadInput(NOTHING_PICKED)
        key, layer, head = picked
        shown = inspections.get(key)
        layer, head = _checked(shown.inspection, layer, head)
        if kind not in ("png", "svg"):
            raise BadInput("A figure is a PNG or an SVG: choose one of the two.")
        # Imported here: it takes most of a second, and only a download needs it.
        from playground.figures import attention_figure, to_bytes

        figure = attention_figure(
            shown.inspection, None if layer == AVERAGE else layer, None if head == AVERAGE else head, shown.caption
        )
        names = [
            f"{part}{i + 1}" if i != AVERAGE else f"{part}s-average" for part, i in (("layer", layer), ("head", head))
        ]
        return pack_file(f"attention-{'-'.join(names)}.{kind}", to_bytes(figure, kind))

    return file


def _checked(inspection: Inspection, layer: int, head: int) -> tuple[int, int]:
    """Layer and head as the page names them: from 0, or -1 for an average."""
    if not _has(inspection, layer, head):
        raise BadInput("The model has no such head: choose one of the list.")
    return layer, head


def _has(inspection: Inspection, layer: int, head: int) -> bool:
    n_layer, n_head = inspection.attention.shape[:2]
    return AVERAGE <= layer < n_layer and AVERAGE <= head < n_head and (layer != AVERAGE or head == AVERAGE)
