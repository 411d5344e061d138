"""The Attention tab: a prompt, every head's weights on it, and closer looks at the heads and at what the layers say."""

from collections.abc import Callable

import gradio as gr

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.ui import ablation, closer, embeddings
from playground.ui.components.attention_map import attention_map, none_for_average, pack_grid, pack_head
from playground.ui.components.downloads import downloads, pack_figure
from playground.ui.components.embedding_map import embedding_map
from playground.ui.components.facts import facts, pack_facts
from playground.ui.components.head_stages import head_stages
from playground.ui.components.head_table import head_table
from playground.ui.components.logit_lens import logit_lens_table
from playground.ui.components.mask_view import mask_view
from playground.ui.components.switches import switches
from playground.ui.looks import NOTHING_PICKED, follow_picks, look_at
from playground.ui.shown import Inspections
from playground.ui.site import QUIET, Site, Tab, answer, fitting_prompt, tell, unless_same
from playground.workspaces import Workspace

HEAD_FIGURE = {"png": "Download as PNG", "svg": "Download as SVG"}


def build(site: Site) -> Tab:
    inspections = Inspections()
    closely, without = closer.functions(site, inspections), ablation.functions(site, inspections)
    tables = embeddings.functions(site, inspections)
    prompt = gr.Textbox(
        label="Prompt",
        lines=1,
        max_lines=6,
        submit_btn="Show attention",
        elem_id="attention-prompt",
        elem_classes="controls",
    )
    note = facts(elem_id="attention-note")
    heads = attention_map(*grid_functions(inspections), closely["badges"], elem_id="heads")
    figure = downloads(head_figure(inspections), HEAD_FIGURE, elem_id="figure")
    scores = head_table(closely["scores"], elem_id="scores")
    stages = head_stages(closely["stages"], closely["stages_figure"], elem_id="stages")
    mask = mask_view(without["mask"], without["figure"], elem_id="mask")
    off = switches(without["effect"], without["rise"], without["texts"], without["rises"], elem_id="switches")
    lens = logit_lens_table(closely["lens"], closely["lens_figure"], elem_id="lens")
    vectors = embedding_map(*tables.values(), elem_id="embeddings")
    of_a_head, of_the_model = [figure, stages, mask], [scores, off, lens, vectors]
    shown = [note, heads, *of_a_head, *of_the_model]

    def traced(key: str, checkpoint: Checkpoint, prompt: str) -> list:
        """What `shown` shows."""
        look, note = look_at(site, inspections, key, checkpoint, prompt)
        return [note, *[look | {"linked": True}] * (len(shown) - 1)]

    @tell
    def show_prompt(key, prompt):
        try:
            with site.visit():
                return traced(key, site.workspace(key).current, prompt)
        except BadInput as error:  # beside the prompt, since outside the queue an error is one of the server's, too
            return [pack_facts("", {}, str(error), warning=True), *[gr.skip()] * (len(shown) - 1)]

    # The queue would take as long as all the rest: it looks for answers every 50 ms.
    prompt.submit(show_prompt, [site.visitor, prompt], shown, queue=False, **QUIET)
    follow_picks(heads, inspections, of_a_head)

    def show(_: Workspace, checkpoint: Checkpoint, key, prompt):
        fitting = fitting_prompt(checkpoint, prompt)
        return [unless_same(fitting, prompt), *traced(key, checkpoint, fitting)]

    return Tab([site.visitor, prompt], [prompt, *shown], show, asked={"prompt": prompt})


def grid_functions(inspections: Inspections) -> tuple[Callable, Callable]:
    @answer(str, int, int)
    def grid(key, layer, head):
        shown = inspections.get(key)
        place = (layer, head) if shown.has(layer, head) else (0, 0)
        return pack_grid(shown.inspection.attention, shown.inspection.tokens, *place)

    @answer(str, int, int)
    def head(key, layer, head):
        shown = inspections.get(key)
        shown.check(layer, head)
        return pack_head(shown.inspection.attention, layer, head)

    return grid, head


def head_figure(inspections: Inspections):
    @answer(dict, str)
    def file(look, kind):
        match look:
            case {"id": str(trace), "layer": int(layer), "head": int(head)}:
                shown = inspections.get(trace)
                shown.check(layer, head)
            case _:
                raise BadInput(NOTHING_PICKED)
        picked = none_for_average(layer, head)
        return pack_figure(
            f"attention-{shown.place_name(layer, head)}",
            kind,
            lambda figures: figures.attention_figure(shown.inspection, *picked, shown.caption),
        )

    return file
