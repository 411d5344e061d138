"""A closer look at what the Attention tab shows: what each head is for, one head step by step, and the logit lens."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.heads import HeadScores, head_scores
from playground.inspection import head_stages, logit_lens
from playground.ui.components.attention_map import AVERAGE
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

    @answer(str, int, int, int)
    def stages(key, layer, head, query):
        shown = inspections.get(key)
        shown.check(layer, head)
        if AVERAGE in (layer, head):
            raise BadInput(NO_AVERAGE)
        query = shown.position(query)
        with site.visit():
            seen = head_stages(shown.checkpoint, shown.ids, layer, head)
        return pack_stages(seen, shown.inspection.tokens, layer, head, query)

    @answer(str, int)
    def lens(key, position):
        shown = inspections.get(key)
        position = shown.position(position)
        with site.visit():
            seen = logit_lens(shown.checkpoint, shown.ids, position)
        logits, token_text = shown.inspection.logits[position], shown.checkpoint.tokenizer.token_text
        return pack_lens(seen, logits, token_text, shown.inspection.tokens, position)

    return {function.__name__: function for function in (badges, scores, stages, lens)}
