"""What a model does without some of its parts: server functions of the Attention tab's switches and of its mask."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from playground.ablation import held_out_ids, held_out_loss, switch_off, unmask
from playground.checkpoint import Checkpoint
from playground.config import is_number
from playground.errors import BadInput
from playground.generation import SAMPLE_TOKENS, Sampling, generate_ids, next_logits
from playground.heads import TOO_LARGE
from playground.inspection import attention_weights
from playground.ui.components.attention_map import none_for_average
from playground.ui.components.downloads import pack_figure
from playground.ui.components.mask_view import pack_mask
from playground.ui.components.switches import MLP, pack_next_tokens
from playground.ui.shown import NO_SUCH_HEAD, Inspections, Shown
from playground.ui.site import Site, answer
from playground.workspaces import Workspace


@dataclass(frozen=True)
class HeldOut:
    """Tokens to measure losses on, what they are, and the loss of the whole model on them."""

    ids: Tensor  # (N,)
    name: str
    own_text: bool  # whether the model has learned from the same text
    loss: float  # nats a token

    def compared(self, loss: float) -> dict:
        """For the page: the loss of the whole model, and another one on the same tokens."""
        _check_finite(self.loss, loss)
        about = {"name": self.name, "own_text": self.own_text, "n_tokens": len(self.ids) - 1}
        return about | {"before": self.loss, "after": loss}


def functions(site: Site, inspections: Inspections) -> dict[str, Callable]:
    """The server functions, by their names; each gets the visitor's key and the id of the trace that is shown.

    What is switched off comes as pairs of a layer and a head, from 0, or `MLP` for the layer's.
    """
    known: WeakKeyDictionary[Checkpoint, HeldOut] = WeakKeyDictionary()

    def held_out(key: str, shown: Shown) -> HeldOut:
        checkpoint = shown.checkpoint
        if checkpoint not in known:
            found = _held_out(site.workspace(key), checkpoint)
            if not found:
                return _prompt_only(checkpoint, shown.ids)
            known[checkpoint] = found
        return known[checkpoint]

    @answer(str, str, list)
    def rise(key, trace, off):
        """How many nats a token the loss rises."""
        shown = inspections.get(trace)
        with site.visit():
            measured = held_out(key, shown)
            rise = held_out_loss(_without(shown, off), measured.ids) - measured.loss
        _check_finite(rise)
        return {"rise": rise}

    @answer(str, str, list)
    def effect(key, trace, off):
        shown = inspections.get(trace)
        with site.visit():
            changed, measured = _without(shown, off), held_out(key, shown)
            loss = held_out_loss(changed, measured.ids) if off else measured.loss
            logits = [next_logits(checkpoint.model, shown.ids) for checkpoint in (shown.checkpoint, changed)]
        probs = torch.stack(logits).softmax(-1).numpy()  # (2, V)
        _check_finite(probs.sum())
        config, token_text = shown.checkpoint.config, shown.checkpoint.tokenizer.token_text
        shape = {"layers": config.n_layer, "heads": config.n_head}
        return shape | measured.compared(loss) | {"next": pack_next_tokens(probs, token_text)}

    @answer(str, str, list)
    def texts(key, trace, off):
        shown = inspections.get(trace)
        changed = _without(shown, off)
        return [_written(site, checkpoint, shown.ids) for checkpoint in (shown.checkpoint, changed)]

    @answer(str, list, str)
    def rises(trace, measured, kind):
        """What the page has measured part by part, as a figure: a row a layer, the heads' numbers and the MLP's."""
        shown = inspections.get(trace)
        n_layer, n_head = shown.inspection.attention.shape[:2]
        if len(measured) != n_layer * (n_head + 1) or not all(map(is_number, measured)):
            raise BadInput("The map is not measured to its end: press Measure each alone.")
        table = np.array(measured, dtype=np.float64).reshape(n_layer, n_head + 1)
        caption = f"Rise of the loss without each part alone, nats a token\n{shown.caption}"
        return pack_figure("switched-off", kind, lambda figures: figures.rises_figure(table, caption))

    @answer(str, str, int, int)
    def mask(key, trace, layer, head):
        shown = inspections.get(trace)
        shown.check(layer, head)
        with site.visit():
            free, measured = unmask(shown.checkpoint), held_out(key, shown)
            loss = held_out_loss(free, measured.ids)
            weights = attention_weights(free, shown.ids)
        _check_finite(weights.sum(), shown.inspection.attention.sum())
        seen = shown.inspection
        return measured.compared(loss) | pack_mask(seen.attention, weights, seen.tokens, layer, head)

    @answer(str, str, int, int, str)
    def figure(key, trace, layer, head, kind):
        shown = inspections.get(trace)
        shown.check(layer, head)
        with site.visit():
            free = attention_weights(unmask(shown.checkpoint), shown.ids)
        picked = none_for_average(layer, head)
        return pack_figure(
            f"mask-{shown.place_name(layer, head)}",
            kind,
            lambda figures: figures.mask_figure(shown.inspection, free, *picked, shown.caption),
        )

    return {function.__name__: function for function in (rise, effect, texts, rises, mask, figure)}


def _held_out(workspace: Workspace, checkpoint: Checkpoint) -> HeldOut | None:
    """The validation part of the text that the model has learned from, if that is still here."""
    text = workspace.text_of(checkpoint)
    if not text:
        return None
    ids = held_out_ids(checkpoint, text)
    return HeldOut(ids, f"the validation part of {text.name}", True, held_out_loss(checkpoint, ids))


def _prompt_only(checkpoint: Checkpoint, ids: list[int]) -> HeldOut:
    if len(ids) < 2:
        raise BadInput("The text that this model learned from is not here: give a prompt of at least two tokens.")
    prompt, name = torch.tensor(ids), "the prompt, since the text it has learned from is not here"
    return HeldOut(prompt, name, False, held_out_loss(checkpoint, prompt))


def _check_finite(*numbers: float) -> None:
    if not all(map(math.isfinite, numbers)):
        raise BadInput(TOO_LARGE)


def _without(shown: Shown, off: list) -> Checkpoint:
    """The checkpoint without what a page wants off. Raises `BadInput` for what is not there."""
    n_layer, n_head = shown.inspection.attention.shape[:2]
    for part in off:
        is_pair = isinstance(part, list) and [type(number) for number in part] == [int, int]
        if not (is_pair and 0 <= part[0] < n_layer and MLP <= part[1] < n_head):
            raise BadInput(NO_SUCH_HEAD)
    heads = {(layer, head) for layer, head in off if head != MLP}
    return switch_off(shown.checkpoint, heads, {layer for layer, head in off if head == MLP})


def _written(site: Site, checkpoint: Checkpoint, ids: list[int]) -> str:
    """How the model goes on; others have their turn after every token."""
    drawn = islice(generate_ids(checkpoint.model, ids, Sampling(temperature=0.8), seed=0), SAMPLE_TOKENS)
    tokens = []
    while burst := site.burst(drawn, seconds=0):
        tokens += [token for token, _ in burst]
    return checkpoint.tokenizer.decode(tokens)
