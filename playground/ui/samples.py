"""What the model in use writes, judged: how much of it is copied, how varied it is, what the settings make of it."""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, product

import gradio as gr
import numpy as np

from playground.checkpoint import Checkpoint
from playground.config import is_whole
from playground.copies import copying
from playground.diversity import diversity
from playground.errors import BadInput
from playground.generation import Sampling, check_seed, encode_prompt, generate_ids
from playground.learned import Learned, Library
from playground.tokenizer import Tokenizer
from playground.ui.components.copies_view import copies_view, pack_text
from playground.ui.components.sweep_view import sweep_view
from playground.ui.shown import Kept
from playground.ui.site import QUIET, Site, answer, suggest_prompt, tell

NOT_KEPT = "This text is not kept any more: press Write and compare."
NOT_HERE = "The text that this model learned from is not here, so that copies cannot be told from inventions."
MAX_KEPT_BYTES = 2**24  # of texts that models wrote
FEWEST, MAX_TOKENS = 20, 2_000  # that are written
WRONG_LENGTH = f"Tokens must be a whole number from {FEWEST} to {MAX_TOKENS:,}."
USUAL_COPY = 20  # characters in a row that rarely come by chance
CONTEXT = 12  # tokens of the training text before and after a copied passage
TEMPERATURES, TOP_KS = (0.2, 0.5, 0.8, 1.0, 1.3), (3, 10, 40, 0)
SWEPT = 150  # tokens that are written with each pair of settings
BURST = 40  # tokens between two updates


@dataclass(frozen=True, eq=False)
class Sample:
    """What a model wrote, and the text that it learned from, if that is here."""

    tokenizer: Tokenizer
    ids: np.ndarray  # (T,)
    learned: "weakref.ref[Learned] | None"

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes


def build(site: Site, library: Library) -> list[gr.HTML]:
    """Both parts, each with its controls. Their values are None until a visitor asks for more."""
    samples: Kept[Sample] = Kept(MAX_KEPT_BYTES, NOT_KEPT)
    gr.Markdown("### Memory or invention?")
    with gr.Row():
        prompt = gr.Textbox(label="Prompt", info="empty: one is chosen", elem_id="judged-prompt", min_width=200)
        temperature = gr.Slider(0, 2, 0.8, step=0.05, label="Temperature", elem_id="judged-temperature", min_width=140)
        top_k = gr.Number(0, label="Top-k", precision=0, info="0 is off", elem_id="judged-top-k", min_width=80)
        length = gr.Number(400, label="Tokens", precision=0, info="to write", elem_id="judged-length", min_width=80)
        seed = gr.Number(0, label="Seed", precision=0, info="same, same text", elem_id="judged-seed", min_width=80)
    write = gr.Button("Write and compare", variant="primary", elem_id="write-and-compare")
    compared = copies_view(_copies(samples), elem_id="copies")
    gr.Markdown("### Quality against diversity")
    sweep = gr.Button("Try all temperatures and top-k", elem_id="sweep")
    tried = sweep_view(elem_id="swept")

    @tell
    def write_and_compare(key, prompt, temperature, top_k, length, seed):
        workspace = site.workspace(key)
        checkpoint, sampling = workspace.current, Sampling(temperature, top_k)
        if not is_whole(length) or not FEWEST <= length <= MAX_TOKENS:
            raise BadInput(WRONG_LENGTH)
        written = []
        for ids in _bursts(site, checkpoint, prompt, sampling, length, seed):
            written += ids
            yield {"text": checkpoint.tokenizer.decode(written)}
        learned = _learned(site, library, key, checkpoint)
        sample = Sample(checkpoint.tokenizer, np.array(written), learned and weakref.ref(learned))
        yield {"id": samples.add(sample), "at_least": _usual(sample)}

    @tell
    def try_all(key, prompt, seed):
        checkpoint = site.workspace(key).current
        learned = _learned(site, library, key, checkpoint)
        if not learned:
            raise BadInput(NOT_HERE)
        top_ks = [k for k in TOP_KS if k < checkpoint.config.vocab_size]
        pairs = list(product(TEMPERATURES, top_ks))
        value = {"temperatures": TEMPERATURES, "top_ks": top_ks, "held_out": _judged(learned, learned.held_out[:SWEPT])}
        cells = []
        for temperature, k in pairs:
            bursts = _bursts(site, checkpoint, prompt, Sampling(temperature, k), SWEPT, seed)
            cells.append(_judged(learned, np.array([i for ids in bursts for i in ids])))
            yield value | {"cells": cells, "share": len(cells) / len(pairs)}

    settings = [prompt, temperature, top_k, length, seed]
    write.click(write_and_compare, [site.visitor, *settings], compared, concurrency_limit=4, **QUIET)
    sweep.click(try_all, [site.visitor, prompt, seed], tried, concurrency_limit=4, **QUIET)
    return [compared, tried]


def _bursts(
    site: Site, checkpoint: Checkpoint, prompt: str, sampling: Sampling, length: int, seed: int
) -> Iterator[list[int]]:
    """The ids that a model writes, some at a time; others have their turn between."""
    sampling.validate(checkpoint.config.vocab_size)
    check_seed(seed)
    ids = encode_prompt(checkpoint.tokenizer, prompt or suggest_prompt(checkpoint, longest=24))
    drawn = islice(generate_ids(checkpoint.model, ids, sampling, seed), length)
    for _ in range(0, length, BURST):
        with site.visit():
            burst = [id for id, _ in islice(drawn, BURST)]
        yield burst


def _learned(site: Site, library: Library, key: str, checkpoint: Checkpoint) -> Learned | None:
    text = site.workspace(key).text_of(checkpoint)
    return library.get(text, checkpoint.tokenizer) if text else None


def _judged(learned: Learned, ids: np.ndarray) -> tuple[float, float]:
    """Quality: bits a token by the 5-gram model of the training text. Diversity: distinct passages of 3 tokens.

    So Caccia et al. 2020 sweep the temperature: with it quality falls and diversity rises.
    """
    return float(learned.ngrams.losses(ids)[-1].mean() / np.log(2)), diversity(ids).distinct[3]


def _usual(sample: Sample) -> int:
    """How many tokens USUAL_COPY characters are, at least 3."""
    n_chars = len(sample.tokenizer.decode(sample.ids.tolist()))
    return max(3, round(USUAL_COPY * len(sample.ids) / max(1, n_chars)))


def _copies(samples: Kept[Sample]) -> Callable:
    @answer(str, int)
    def copies(key, at_least):
        sample = samples.get(key)
        if not 1 <= at_least <= MAX_TOKENS:
            raise BadInput("The page asked for passages of no length: reload it.")
        if not sample.learned:
            return {"note": NOT_HERE, "texts": [_packed(sample.tokenizer, sample.ids, None, at_least)]}
        learned = sample.learned()
        if not learned:
            raise BadInput(NOT_KEPT)
        texts = (sample.ids, learned.held_out[: len(sample.ids)])
        return {"note": "", "texts": [_packed(sample.tokenizer, ids, learned, at_least) for ids in texts]}

    return copies


def _packed(tokenizer: Tokenizer, ids: np.ndarray, learned: Learned | None, at_least: int) -> dict:
    tokens = [tokenizer.token_text(id) for id in ids.tolist()]
    found = copying(learned.suffixes, ids, at_least) if learned else None

    def context(where: int, length: int) -> list[str]:
        text, end = learned.suffixes.text[:-1], where + length
        parts = (text[max(0, where - CONTEXT) : where], text[where:end], text[end : end + CONTEXT])
        return [tokenizer.decode(part.tolist()) for part in parts]

    return pack_text(tokens, diversity(ids), found, context)
