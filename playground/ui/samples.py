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
from playground.ui.shown import Kept, alive
from playground.ui.site import QUIET, Site, answer, shortened, suggest_prompt, tell, while_in_use
from playground.workspaces import Workspace

NOT_KEPT = "This text is not kept any more: press Write and compare."
NOT_HERE = "The text that this model learned from is not here, so that copies cannot be told from inventions."
MAX_KEPT_BYTES = 2**24  # of texts that models wrote
FEWEST, MAX_TOKENS = 20, 2_000  # that are written
WRONG_LENGTH = f"Tokens must be a whole number from {FEWEST} to {MAX_TOKENS:,}."
USUAL_COPY = 20  # characters in a row that rarely come by chance
CONTEXT = 12  # tokens of the training text before and after a copied passage
TEMPERATURES, TOP_KS = (0.2, 0.5, 0.8, 1.0, 1.3), (3, 10, 40, 0)
SWEPT = 150  # tokens that are written with each pair of settings
YIELD_SECONDS = 0.1  # between two updates
TOO_SHORT = f"Fewer than {FEWEST} tokens of the text were held out, too few to compare with: train on a longer text."
FEW = "Of the text only {:,} tokens were held out: so many of what the model wrote are compared with them."


@dataclass(frozen=True, eq=False)
class Sample:
    """What a model wrote, and the text that it learned from, if that is here."""

    model: "weakref.ref[Checkpoint]"
    ids: np.ndarray  # (T,)
    learned: "weakref.ref[Learned] | None"

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes


def build(site: Site) -> list[gr.HTML]:
    """Both parts, each with its controls. Their values are None until a visitor asks for more."""
    samples: Kept[Sample] = Kept(MAX_KEPT_BYTES, NOT_KEPT)
    gr.Markdown("### Memory or invention?")
    with gr.Row(elem_classes="controls"):
        prompt = gr.Textbox(label="Prompt", info="empty: one is chosen", elem_id="judged-prompt", min_width=200)
        temperature = gr.Slider(0, 2, 0.8, step=0.05, label="Temperature", elem_id="judged-temperature", min_width=140)
        top_k = gr.Number(0, label="Top-k", precision=0, info="0 is off", elem_id="judged-top-k", min_width=80)
        length = gr.Number(400, label="Tokens", precision=0, info="to write", elem_id="judged-length", min_width=80)
        seed = gr.Number(
            0, label="Seed", precision=0, info="the same gives the same text", elem_id="judged-seed", min_width=80
        )
    with gr.Row(elem_classes="controls"):
        write = gr.Button("Write and compare", variant="primary", elem_id="write-and-compare", min_width=120)
        stop_writing = gr.Button("Stop", elem_id="stop-judged", min_width=80)
    compared = copies_view(_copies(samples), elem_id="copies")
    gr.Markdown("### Quality against diversity")
    with gr.Row(elem_classes="controls"):
        sweep = gr.Button("Try all settings", variant="primary", elem_id="sweep", min_width=120)
        stop_sweep = gr.Button("Stop", elem_id="stop-sweep", min_width=80)
    tried = sweep_view(elem_id="swept")

    @tell
    def write_and_compare(key, prompt, *settings):
        workspace = site.workspace(key)
        yield from while_in_use(workspace, comparison(workspace, prompt, *settings))

    def comparison(workspace: Workspace, prompt: str, temperature: float, top_k: int, length: int, seed: int):
        checkpoint = workspace.current
        prompt = prompt or suggest_prompt(checkpoint, longest=24)
        if not is_whole(length) or not FEWEST <= length <= MAX_TOKENS:
            raise BadInput(WRONG_LENGTH)
        written = []
        for ids in _bursts(site, checkpoint, prompt, Sampling(temperature, top_k), int(length), seed):
            written += ids
            yield {"text": checkpoint.tokenizer.decode(written)}
        learned = _learned(site.library, workspace, checkpoint)
        sample = Sample(weakref.ref(checkpoint), np.array(written), learned and weakref.ref(learned))
        at_least = _usual(checkpoint.tokenizer, sample.ids)
        yield {"id": samples.add(sample), "at_least": at_least, "about": _about(checkpoint, prompt)}

    @tell
    def try_all(key, prompt, seed):
        workspace = site.workspace(key)
        yield from while_in_use(workspace, trials(workspace, prompt, seed))

    def trials(workspace: Workspace, prompt: str, seed: int):
        checkpoint = workspace.current
        prompt = prompt or suggest_prompt(checkpoint, longest=24)
        check_seed(seed)
        top_ks = [k for k in TOP_KS if k < checkpoint.config.vocab_size]
        pairs = list(product(TEMPERATURES, top_ks))
        value = {"temperatures": TEMPERATURES, "top_ks": top_ks, "about": _about(checkpoint, prompt)}
        yield value | {"cells": [], "held_out": None, "n": 0, "share": 0}
        learned = _learned(site.library, workspace, checkpoint)
        if not learned:
            raise BadInput(NOT_HERE)
        n = min(SWEPT, len(learned.held_out))
        if n < FEWEST:
            raise BadInput(TOO_SHORT)
        value |= {"held_out": _judged(learned, learned.held_out[:n]), "n": n}
        cells = []
        for temperature, k in pairs:
            bursts = _bursts(site, checkpoint, prompt, Sampling(temperature, k), n, seed)
            cells.append(_judged(learned, np.array([i for ids in bursts for i in ids])))
            yield value | {"cells": cells, "share": len(cells) / len(pairs)}

    settings = [prompt, temperature, top_k, length, seed]
    writing = write.click(write_and_compare, [site.visitor, *settings], compared, concurrency_limit=4, **QUIET)
    stop_writing.click(None, None, None, cancels=[writing], **QUIET)
    sweeping = sweep.click(try_all, [site.visitor, prompt, seed], tried, concurrency_limit=4, **QUIET)
    stop_sweep.click(None, None, None, cancels=[sweeping], **QUIET)
    return [compared, tried]


def _about(checkpoint: Checkpoint, prompt: str) -> str:
    return f"{checkpoint.title}, after “{shortened(prompt)}”"


def _bursts(
    site: Site, checkpoint: Checkpoint, prompt: str, sampling: Sampling, length: int, seed: int
) -> Iterator[list[int]]:
    """The ids that a model writes, some at a time; others have their turn between."""
    sampling.validate(checkpoint.config.vocab_size)
    check_seed(seed)
    ids = encode_prompt(checkpoint.tokenizer, prompt)
    drawn = islice(generate_ids(checkpoint.model, ids, sampling, int(seed)), length)
    while burst := site.burst(drawn, YIELD_SECONDS):
        yield [id for id, _ in burst]


def _learned(library: Library, workspace: Workspace, checkpoint: Checkpoint) -> Learned | None:
    text = workspace.text_of(checkpoint)
    return library.get(text, checkpoint.tokenizer) if text else None


def _judged(learned: Learned, ids: np.ndarray) -> tuple[float, float]:
    """Quality: bits a token by the 5-gram model of the training text. Diversity: distinct passages of 3 tokens.

    So Caccia et al. 2020 sweep the temperature: with it quality falls and diversity rises.
    """
    return float(learned.ngrams.losses(ids)[-1].mean() / np.log(2)), diversity(ids).distinct[3]


def _usual(tokenizer: Tokenizer, ids: np.ndarray) -> int:
    """How many tokens of a text like this USUAL_COPY characters are, at least 3."""
    return max(3, round(USUAL_COPY * len(ids) / max(1, len(tokenizer.decode(ids.tolist())))))


def _copies(samples: Kept[Sample]) -> Callable:
    @answer(str, int)
    def copies(key, at_least):
        sample = samples.get(key)
        if not 1 <= at_least <= MAX_TOKENS:
            raise BadInput("The page asked for passages of no length: reload it.")
        tokenizer = alive(sample.model, NOT_KEPT).tokenizer
        if not sample.learned:
            return {"note": NOT_HERE, "texts": [_packed(tokenizer, sample.ids, None, at_least)]}
        learned = alive(sample.learned, NOT_KEPT)
        n = min(len(sample.ids), len(learned.held_out))  # figures of diversity compare at one length alone
        texts = [_packed(tokenizer, ids[:n], learned, at_least) for ids in (sample.ids, learned.held_out)]
        return {"note": FEW.format(n) if n < len(sample.ids) else "", "texts": texts}

    return copies


def _packed(tokenizer: Tokenizer, ids: np.ndarray, learned: Learned | None, at_least: int) -> dict:
    tokens = [tokenizer.token_text(id) for id in ids.tolist()]
    found = copying(learned.suffixes, ids, at_least) if learned else None

    def context(where: int, length: int) -> list[str]:
        text, end = learned.suffixes.text[:-1], where + length
        parts = (text[max(0, where - CONTEXT) : where], text[where:end], text[end : end + CONTEXT])
        return [tokenizer.decode(part.tolist()) for part in parts]

    return pack_text(tokens, diversity(ids), found, context)
