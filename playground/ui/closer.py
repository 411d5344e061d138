"""A closer look at what the Attention tab shows: what each head is for, one head step by step, and the logit lens."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.heads import HeadScores, head_scores
from playground.inspection import HeadStages, Lens, head_stages, logit_lens
from playground.tokenizer import visible
from playground.ui.components.attention_map import AVERAGE
from playground.ui.components.downloads import pack_figure
from playground.ui.components.head_stages import pack_stages
from playground.ui.components.head_table import pack_scores
from playground.ui.components.logit_lens import pack_lens
from playground.ui.shown import Inspections, Shown
from playground.ui.site import Site, answer

NO_AVERAGE = "An average has no steps of its own: choose one head."


def functions(site: Site, inspections: Inspections) -> dict[str, Callable]:
    """The server functions of the parts, by their names. All of them look at a trace that is shown, by its id."""
    known: WeakKeyDictionary[Checkpoint, HeadScores] = WeakKeyDictionary()

    def scores_of(shown: Shown) -> HeadScores:
        checkpoint = shown.checkpoint
        if checkpoint not in known:
            with site.visit():
                known[checkpoint] = head_scores(checkpoint.model)
        return known[checkpoint]

    @answer(str)
    def badges(key):
        return scores_of(inspections.get(key)).badges

    @answer(str)
    def scores(key):
        return pack_scores(scores_of(inspections.get(key)))

    def stages_of(shown: Shown, layer: int, head: int) -> HeadStages:
        shown.check(layer, head)
        if AVERAGE in (layer, head):
            raise BadInput(NO_AVERAGE)
        with site.visit():
            return head_stages(shown.checkpoint, shown.ids, layer, head)

    @answer(str, int, int, int)
    def stages(key, layer, head, query):
        shown = inspections.get(key)
        query = shown.position(query)
        return pack_stages(stages_of(shown, layer, head), shown.inspection.tokens, layer, head, query)

    @answer(str, int, int, str)
    def stages_figure(key, layer, head, kind):
        shown = inspections.get(key)
        seen, labels = stages_of(shown, layer, head), [visible(token.text) for token in shown.inspection.tokens]
        caption = f"Layer {layer + 1}, head {head + 1}, step by step\n{shown.caption}"
        name = f"steps-{shown.place_name(layer, head)}"
        return pack_figure(name, kind, lambda figures: figures.stages_figure(seen, labels, caption))

    def lens_at(shown: Shown, position: int) -> Lens:
        with site.visit():
            return logit_lens(shown.checkpoint, shown.ids, position)

    @answer(str, int)
    def lens(key, position):
        shown = inspections.get(key)
        position = shown.position(position)
        seen = lens_at(shown, position)
        logits, token_text = shown.inspection.logits[position], shown.checkpoint.tokenizer.token_text
        return pack_lens(seen, logits, token_text, shown.inspection.tokens, position)

    @answer(str, int, str)
    def lens_figure(key, position, kind):
        shown = inspections.get(key)
        position = shown.position(position)
        seen, token_text = lens_at(shown, position), shown.checkpoint.tokenizer.token_text
        caption = f"After token {position + 1} “{visible(shown.inspection.tokens[position].text)}”\n{shown.caption}"
        return pack_figure("logit-lens", kind, lambda figures: figures.lens_figure(seen, token_text, caption))

    return {f.__name__: f for f in (badges, scores, stages, stages_figure, lens, lens_figure)}
