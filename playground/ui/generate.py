"""The Generate tab: texts as they are written, token by token, and the distribution that the next one is drawn from."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import gradio as gr
import numpy as np

from playground.checkpoint import Checkpoint
from playground.config import is_whole
from playground.errors import BadInput
from playground.generation import Sampling, check_length, encode_prompt, next_logits, next_token_probs
from playground.tokenizer import without_surrogates
from playground.ui.components import next_token as bars_component
from playground.ui.components import writing_view as view
from playground.ui.components.downloads import pack_figure
from playground.ui.components.next_token import ROWS, next_token, pack_next
from playground.ui.components.writing_view import pack_tokens, writing_view
from playground.ui.shown import Kept
from playground.ui.site import QUIET, Site, Tab, answer, fitting_prompt, shortened, tell, unless_same
from playground.workspaces import Workspace
from playground.writing import Writer

BURST_SECONDS = 0.05  # of writing for one answer: the page shows up to twenty a second, and others have their turn
MAX_KEPT_BYTES = 2**28  # of texts that pages go on with, the models that write them included
NOT_KEPT = "This text is not kept on the server any more: press Generate to begin a new one."
NO_SETTINGS = "The page asked for a text with no settings: reload it."

_sequence = itertools.count(1)


@dataclass(frozen=True)
class Texts:
    """What a page has written at a time: one text, or two beside each other."""

    writers: list[Writer]

    @property
    def nbytes(self) -> int:
        """With the models, which may be in nobody's list any more; two settings of one are one."""
        models = {writer.checkpoint for writer in self.writers}
        return sum(model.nbytes for model in models) + sum(writer.nbytes for writer in self.writers)

    def writer(self, side: int) -> Writer:
        if not 0 <= side < len(self.writers):
            raise BadInput(NO_SETTINGS)
        return self.writers[side]


def build(site: Site) -> Tab:
    texts: Kept[Texts] = Kept(MAX_KEPT_BYTES, NOT_KEPT)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            prompt = gr.Textbox(label="Prompt", lines=2, max_lines=6, elem_id="prompt")
            with gr.Row():
                write = gr.Button("Generate", variant="primary", elem_id="generate", min_width=120)
                step = gr.Button("Step by step", elem_id="step-by-step", min_width=120)
            output = writing_view(*_writing(site, texts), elem_id="generated")
        with gr.Column(scale=2, min_width=320):
            own = _sampling_controls()
            with gr.Row():
                length = gr.Number(300, label="Tokens", precision=0, info="to write", elem_id="length", min_width=90)
                seed = gr.Number(
                    0, label="Seed", precision=0, info="same, same text", elem_id="sampling-seed", min_width=90
                )
            beside = gr.Checkbox(label="Write a second text beside it", elem_id="beside")
            with gr.Column(visible=False) as second:
                other = gr.Dropdown(label="Its model", info="prompt and seed are the same", elem_id="second-model")
                others = _sampling_controls("second-", temperature=1.2)  # or it would be the same text
            gr.Markdown("**The next token after the prompt**")
            bars = next_token(bars_figure(site), elem_id="next-token")
    beside.change(lambda on: gr.update(visible=on), beside, second, queue=False, **QUIET)

    @tell
    def follow(key, prompt, temperature, top_k, top_p):
        with site.visit():
            return _distribution(key, site.workspace(key).current, prompt, temperature, top_k, top_p)

    def composing(at_once: bool) -> Callable:
        @tell
        def compose(key, prompt, length, seed, beside, other, *settings):
            workspace, sides = site.workspace(key), [settings[:3], settings[3:]]
            check_length(length)
            models = [workspace.current, workspace.listed(other)] if beside else [workspace.current]
            for model, values in zip(models, sides, strict=False):
                _sampling(model, values)
            with site.visit():
                made = Texts([Writer(model, prompt, seed) for model in models])
            return {
                "seq": next(_sequence),
                "id": texts.add(made),
                "prompt": without_surrogates(prompt),
                "seed": int(seed),
                "length": int(length),
                "write": at_once,
                "titles": [model.title for model in models],
                "settings": sides,
            }

        return compose

    asked = [site.visitor, prompt, length, seed, beside, other, *own, *others]
    gr.on([write.click, prompt.submit], composing(at_once=True), asked, output, **QUIET)
    step.click(composing(at_once=False), asked, output, **QUIET)
    # Not `input`: Gradio's text box sends that for printable keys alone, not when text is pasted or deleted.
    prompt.change(follow, [site.visitor, prompt, *own], bars, queue=False, trigger_mode="always_last", **QUIET)
    # In the page alone: the bars hold the logits, and a text is asked for with the settings of the moment.
    for follower, js, controls in (
        (bars, bars_component.FOLLOW_SETTINGS, own),
        (output, view.FOLLOW_SETTINGS, [*own, *others]),
    ):
        moved = [control.change for control in controls]
        gr.on(moved, None, [follower, *controls], follower, js=js, queue=False, **QUIET)

    def show(workspace: Workspace, checkpoint: Checkpoint, key, prompt, other, temperature, top_k, top_p):
        fitting = fitting_prompt(checkpoint, prompt, longest=5)  # the shorter, the more is open
        listed = gr.update(choices=workspace.names, value=other if other in workspace.names else checkpoint.name)
        distribution = _distribution(key, checkpoint, fitting, temperature, top_k, top_p)
        return [unless_same(fitting, prompt), listed, distribution]

    return Tab([site.visitor, prompt, other, *own], [prompt, other, bars], show)


def _sampling_controls(prefix: str = "", temperature: float = 0.8) -> list[gr.components.Component]:
    """Temperature, top-k and top-p, as they stand in `Sampling`."""
    hint = "0 always takes the likeliest"
    heat = gr.Slider(0, 2, temperature, step=0.05, label="Temperature", info=hint, elem_id=f"{prefix}temperature")
    hint = "only the likeliest that reach this; 1 is off"
    top_p = gr.Slider(0.01, 1, 1, step=0.01, label="Top-p", info=hint, elem_id=f"{prefix}top-p")
    top_k = gr.Number(0, label="Top-k", precision=0, info="0 is off", elem_id=f"{prefix}top-k", min_width=90)
    return [heat, top_k, top_p]


def _sampling(checkpoint: Checkpoint, values: list) -> Sampling:
    """Of what a page sends. Raises `BadInput` for settings that no distribution can follow."""
    sampling = _sampling_of(values)
    sampling.validate(checkpoint.config.vocab_size)
    return sampling


def _sampling_of(values: list) -> Sampling:
    if len(values) != len(fields(Sampling)):
        raise BadInput(NO_SETTINGS)
    return Sampling(*values)


def _writing(site: Site, texts: Kept[Texts]) -> tuple[Callable, Callable, Callable]:
    """What the page asks of a text in the making. Where an answer was lost, it gets that instead of what it asks."""

    def packed(writer: Writer, place: int, sampling: Sampling) -> dict:
        token_text = writer.checkpoint.tokenizer.token_text
        return pack_tokens(writer.edition, place, writer.tokens[place:], writer.ahead(sampling), token_text)

    @answer(str, int, int, int, int, list)
    def more(key, side, edition, cursor, count, settings):
        writer = texts.get(key).writer(side)
        sampling = _sampling(writer.checkpoint, settings)
        with writer.lock:
            agreed = writer.agreed(edition, cursor)
            if agreed == len(writer.tokens):
                site.burst((writer.draw(sampling) for _ in range(min(count, writer.room or 1))), BURST_SECONDS)
            return packed(writer, agreed, sampling)

    def changed(writer: Writer, edition: int, place: int, ids: list[int], settings: list) -> dict:
        sampling = _sampling(writer.checkpoint, settings)
        with writer.lock, site.visit():
            if edition != writer.edition:
                return packed(writer, 0, sampling)
            writer.choose(place, ids, sampling)
            return packed(writer, place, sampling)

    @answer(str, int, int, int, int, list)
    def choose(key, side, edition, place, token, settings):
        return changed(texts.get(key).writer(side), edition, place, [token], settings)

    @answer(str, int, int, int, str, list)
    def put(key, side, edition, place, typed, settings):
        writer = texts.get(key).writer(side)
        return changed(writer, edition, place, writer.encode(without_surrogates(typed)), settings)

    return more, choose, put


def _distribution(
    key: str, checkpoint: Checkpoint, prompt: str, temperature: float, top_k: int, top_p: float
) -> dict | None:
    """What the bars show; nothing while the prompt holds nothing that the model knows."""
    try:
        ids = encode_prompt(checkpoint.tokenizer, prompt)
    except BadInput:
        return None
    logits = next_logits(checkpoint.model, ids).numpy()
    top_k = max(0, min(top_k or 0, len(logits)))  # beyond either nothing is cut
    token_text = checkpoint.tokenizer.token_text
    return pack_next(logits, token_text, temperature, top_k, top_p, without_surrogates(prompt), key)


def bars_figure(site: Site):
    @answer(str, str, list, str)
    def figure(key, prompt, settings, kind):
        checkpoint = site.workspace(key).current
        sampling, vocab_size = _sampling_of(settings), checkpoint.config.vocab_size
        if is_whole(sampling.top_k):  # as for the bars: beyond the vocabulary nothing is cut
            sampling = replace(sampling, top_k=max(0, min(sampling.top_k, vocab_size)))
        sampling.validate(vocab_size)
        with site.visit():
            logits = next_logits(checkpoint.model, encode_prompt(checkpoint.tokenizer, prompt))
        uncut, probs = (next_token_probs(logits, chosen).numpy() for chosen in (Sampling(), sampling))
        likeliest = np.argsort(-uncut, kind="stable")[:ROWS]
        texts = [checkpoint.tokenizer.token_text(int(i)) for i in likeliest]
        cuts = f"temperature {sampling.temperature:g}, top-k {sampling.top_k:g}, top-p {sampling.top_p:g}"
        caption = f"{checkpoint.title}, “{shortened(prompt)}”\n{cuts}"
        return pack_figure(
            "next-token",
            kind,
            lambda figures: figures.next_token_figure(texts, probs[likeliest], uncut[likeliest], caption),
        )

    return figure
