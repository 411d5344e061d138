"""The Generate tab: text as it is written, and the distribution that its next token is drawn from."""

from dataclasses import fields, replace

import gradio as gr
import numpy as np

from playground.checkpoint import Checkpoint
from playground.config import is_whole
from playground.errors import BadInput
from playground.generation import (
    Sampling,
    encode_prompt,
    next_logits,
    next_token_probs,
    stream_generate,
)
from playground.tokenizer import without_surrogates
from playground.ui.components.downloads import pack_figure
from playground.ui.components.next_token import FOLLOW_SETTINGS, ROWS, next_token, pack_next
from playground.ui.site import QUIET, Site, Tab, answer, fitting_prompt, shortened, tell, unless_same
from playground.workspaces import Workspace

YIELD_SECONDS = 0.05  # the page shows about twenty updates a second; more only cost


def build(site: Site) -> Tab:
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            prompt = gr.Textbox(label="Prompt", lines=2, max_lines=6, elem_id="prompt")
            with gr.Row():
                write = gr.Button("Generate", variant="primary", elem_id="generate", min_width=120)
                stop = gr.Button("Stop", elem_id="stop-generating", min_width=80)
            output = gr.Textbox(
                label="Text",
                lines=12,
                max_lines=24,
                interactive=False,
                buttons=["copy"],
                placeholder="What the model writes appears here.",
                elem_id="generated",
            )
        with gr.Column(scale=2, min_width=320):
            temperature = gr.Slider(
                0, 2, 0.8, step=0.05, label="Temperature", info="0 always takes the likeliest", elem_id="temperature"
            )
            top_p = gr.Slider(
                0.01,
                1,
                1,
                step=0.01,
                label="Top-p",
                info="only the likeliest that reach this; 1 is off",
                elem_id="top-p",
            )
            with gr.Row():
                top_k = gr.Number(0, label="Top-k", precision=0, info="0 is off", elem_id="top-k", min_width=90)
                length = gr.Number(300, label="Tokens", precision=0, info="to write", elem_id="length", min_width=90)
                seed = gr.Number(
                    0, label="Seed", precision=0, info="same, same text", elem_id="sampling-seed", min_width=90
                )
            gr.Markdown("**The next token after the prompt**")
            bars = next_token(_figure(site), elem_id="next-token")

    settings = [temperature, top_k, top_p]

    @tell
    def stream(key, prompt, temperature, top_k, top_p, length, seed):
        checkpoint = site.workspace(key).current
        sampling = Sampling(temperature, top_k, top_p)
        steps = stream_generate(checkpoint, prompt, length, sampling, seed)
        written = without_surrogates(prompt)
        while burst := site.burst(steps, YIELD_SECONDS):
            written += "".join(step.text for step in burst)
            yield written

    @tell
    def follow(key, prompt, temperature, top_k, top_p):
        with site.visit():
            return _distribution(key, site.workspace(key).current, prompt, temperature, top_k, top_p)

    writing = gr.on(
        [write.click, prompt.submit],
        stream,
        [site.visitor, prompt, *settings, length, seed],
        output,
        concurrency_limit=16,
        **QUIET,
    )
    stop.click(None, None, None, cancels=[writing], **QUIET)
    # Not `input`: Gradio's text box sends that for printable keys alone, not when text is pasted or deleted.
    prompt.change(follow, [site.visitor, prompt, *settings], bars, queue=False, trigger_mode="always_last", **QUIET)
    # In the page alone: the bars hold the logits.
    gr.on(
        [control.change for control in settings],
        None,
        [bars, *settings],
        bars,
        js=FOLLOW_SETTINGS,
        queue=False,
        **QUIET,
    )

    def show(_: Workspace, checkpoint: Checkpoint, key, prompt, temperature, top_k, top_p):
        fitting = fitting_prompt(checkpoint, prompt, longest=5)  # the shorter, the more is open
        return [unless_same(fitting, prompt), _distribution(key, checkpoint, fitting, temperature, top_k, top_p)]

    return Tab([site.visitor, prompt, *settings], [prompt, bars], show)


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


def _figure(site: Site):
    @answer(str, str, list, str)
    def figure(key, prompt, settings, kind):
        if len(settings) != len(fields(Sampling)):
            raise BadInput("The page asked for a figure of nothing: reload it.")
        checkpoint, sampling = site.workspace(key).current, Sampling(*settings)
        vocab_size = checkpoint.config.vocab_size
        if is_whole(sampling.top_k):  # as for the bars: beyond the vocabulary nothing is cut
            sampling = replace(sampling, top_k=max(0, min(sampling.top_k, vocab_size)))
        sampling.validate(vocab_size)
        with site.visit():
            logits = next_logits(checkpoint.model, encode_prompt(checkpoint.tokenizer, prompt))
        uncut, probs = (next_token_probs(logits, chosen).numpy() for chosen in (Sampling(), sampling))
        likeliest = np.argsort(-uncut, kind="stable")[:ROWS]
        texts = [checkpoint.tokenizer.token_text(int(i)) for i in likeliest]
        cuts = f"temperature {sampling.temperature:g}, top-k {sampling.top_k:g}, top-p {sampling.top_p:g}"
        caption = f"{checkpoint.name}, step {checkpoint.step:,}, “{shortened(prompt)}”\n{cuts}"
        return pack_figure(
            "next-token",
            kind,
            lambda figures: figures.next_token_figure(texts, probs[likeliest], uncut[likeliest], caption),
        )

    return figure
