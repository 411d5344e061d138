"""Looking at a text: what a page's parts are told of a trace, and how they follow a head that is picked in one of them.

A look is what those parts have as their value: `{"visitor", "id", "model", "layer", "head", "shipped", "prompt"}`. It
says whose page it is, which trace, model and head to look at, and for links the text, and the model's name if everybody
has it.
"""

import weakref
from collections.abc import Sequence

import gradio as gr
from gradio.components import Component

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.inspection import Inspection, inspect
from playground.tokenizer import without_surrogates
from playground.ui.components.facts import pack_facts
from playground.ui.shown import Inspections, Shown
from playground.ui.site import QUIET, Site, shortened, tell

NOTHING_PICKED = "The page asked for a figure of nothing: press Show attention."


def look_at(
    site: Site, inspections: Inspections, key: str, checkpoint: Checkpoint, text: str
) -> tuple[dict, dict | None]:
    """Traces the model on a text. Returns the look, and a note where not all of it fits. `BadInput` for no text."""
    inspection, caption = inspect(checkpoint, text), checkpoint.title
    text = without_surrogates(text)  # which no answer could carry
    trace = inspections.add(Shown(f"{caption}, “{shortened(text)}”", weakref.ref(checkpoint), inspection))
    shipped = checkpoint.name if site.workspace(key).ships(checkpoint) else None
    look = {"visitor": key, "id": trace, "model": caption, "layer": 0, "head": 0}
    return look | {"shipped": shipped, "prompt": text}, _note(inspection)


def follow_picks(heads: gr.HTML, inspections: Inspections, parts: Sequence[Component]) -> None:
    """Has parts that show one head follow the one that is picked in a map of all of them."""

    @tell
    def pick(look):
        match look:
            case {"id": str(trace), "layer": int(layer), "head": int(head)}:
                inspections.get(trace).check(layer, head)
                return [look] * len(parts)
        raise BadInput(NOTHING_PICKED)

    heads.pick(pick, heads, list(parts), queue=False, trigger_mode="always_last", **QUIET)


def _note(inspection: Inspection) -> dict | None:
    kept, n = len(inspection.tokens), len(inspection.tokens) + inspection.n_dropped
    unknown = sum(token.kind == "unknown" for token in inspection.tokens)
    said = []
    if inspection.n_dropped:
        said.append(f"The prompt has {n:,} tokens. The model sees, and the picture shows, the last {kept:,}.")
    if unknown:
        said.append(f"The model does not know {unknown:,} of the {kept:,} tokens: each of them is the same to it.")
    return pack_facts("", {}, " ".join(said)) if said else None
