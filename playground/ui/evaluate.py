"""The Evaluate tab: how good the model in use is on a text, where it errs, and how much of what it writes is copied."""

import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import gradio as gr
import numpy as np

from playground.checkpoint import Checkpoint
from playground.compression import compressed_bits_per_char
from playground.corpus import Text, pasted, split
from playground.errors import BadInput
from playground.evaluation import Evaluation, Evaluator
from playground.learned import Learned, Library
from playground.ngrams import NAMES
from playground.surprise import most_surprising, surprises
from playground.ui import samples
from playground.ui.components.downloads import pack_figure
from playground.ui.components.passage_view import pack_foreseen, passage_view
from playground.ui.components.report import pack_report, report
from playground.ui.components.surprise_view import ORDERS, pack_passage, surprise_view
from playground.ui.shown import Kept, alive
from playground.ui.site import QUIET, Site, Tab, answer, tell, while_in_use
from playground.workspaces import Workspace

HELD_OUT, OWN = "The part held out from training", "A text of your own"
NOT_HERE = "The text that {} learned from is not here: choose “A text of your own” and paste one."
OTHERS_FOLLOW = "Simple models and compressors follow, unless Stop is pressed."
NOT_KEPT = "These figures are not kept any more: press Measure."
NO_PASSAGE = "This model brings no passage from its training to compare: one that is trained here now does."
MAX_KEPT_BYTES = 2**26  # of measured texts for pages to ask about
YIELD_SECONDS = 0.15  # between two updates of the figures
PASSAGE, AROUND = 256, 24  # tokens of the text that are shown at a time, and faintly before and after
SURPRISING, MOST_PASSAGES = 64, 50  # tokens of a passage in the order of surprise, and how many there are
MOST_MEASURED = 2_000_000  # characters: with a small model half a minute or so
MOST_COUNTED, MOST_COMPRESSED = 100_000, 1_000_000  # tokens and characters: about a second each

Other = tuple[str, float, str]  # a simple model or compressor: name, bits per character, and over how much


@dataclass(frozen=True, eq=False)
class Measured:
    """A text that has been measured, for a page to look at. It does not keep its model in memory."""

    title: str  # of the model and the text
    model: "weakref.ref[Checkpoint]"
    ids: np.ndarray  # (T,)
    losses: np.ndarray  # (T,) float32 nats; NaN for the first
    evaluation: Evaluation
    others: tuple[Other, ...] = ()

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.losses.nbytes

    @property
    def checkpoint(self) -> Checkpoint:
        return alive(self.model, NOT_KEPT)


def build(site: Site) -> Tab:
    measured: Kept[Measured] = Kept(MAX_KEPT_BYTES, NOT_KEPT)
    with gr.Row(elem_classes="controls"):
        source = gr.Radio(
            [HELD_OUT, OWN], value=HELD_OUT, label="Measure on", elem_id="measured-on", scale=3, min_width=300
        )
        begin = gr.Button("Measure", variant="primary", elem_id="measure", min_width=120)
        stop = gr.Button("Stop", elem_id="stop-measuring", min_width=80)
    own = gr.Textbox(label="Your text", lines=4, max_lines=10, visible=False, elem_id="measured-text")
    figures = report(_figure(measured), elem_id="report")
    errors = surprise_view(*_passages(site, measured), elem_id="surprise")
    on_its_way = passage_view(*_on_its_way(site), elem_id="passage")

    @tell
    def measure(key, source, own):
        workspace = site.workspace(key)
        yield from while_in_use(workspace, updates(workspace, source, own))

    def updates(workspace: Workspace, source: str, own: str) -> Iterator[tuple]:
        checkpoint = workspace.current
        text, learned_from = _text(workspace, checkpoint, source, own), workspace.text_of(checkpoint)
        title = f"{checkpoint.title}, on {text.name}"
        with site.visit():
            evaluator = Evaluator(checkpoint, text.text)
        parts, others = evaluator.parts(), ()
        while burst := site.burst(parts, YIELD_SECONDS):
            evaluation, note = burst[-1], "" if others else OTHERS_FOLLOW
            yield pack_report(title, evaluation, others, note, None), None
            others = others or _others(site.library, learned_from, checkpoint, text, evaluator)
        id = measured.add(
            Measured(title, weakref.ref(checkpoint), evaluator.ids.numpy(), evaluator.losses, evaluation, others)
        )
        yield pack_report(title, evaluation, others, _note(learned_from), id), {"id": id}

    samples_parts = samples.build(site)

    source.change(lambda chosen: gr.update(visible=chosen == OWN), source, own, queue=False, **QUIET)
    measuring = begin.click(measure, [site.visitor, source, own], [figures, errors], concurrency_limit=4, **QUIET)
    stop.click(None, None, None, cancels=[measuring], **QUIET)

    def show(workspace: Workspace, checkpoint: Checkpoint, key):
        if not workspace.ships(checkpoint):
            threading.Thread(target=_sort_ahead, args=(site.library, workspace, checkpoint), daemon=True).start()
        look = {"visitor": key, "version": workspace.in_use[1]}
        return [look, *[None] * 4]  # what was measured was another model's

    return Tab([site.visitor], [on_its_way, figures, errors, *samples_parts], show)


def _sort_ahead(library: Library, workspace: Workspace, checkpoint: Checkpoint) -> None:
    """What a model has learned from is sorted before anybody asks, if that was not done while it trained."""
    if text := workspace.text_of(checkpoint):
        library.get(text, checkpoint.tokenizer)


def _text(workspace: Workspace, checkpoint: Checkpoint, source: str, own: str) -> Text:
    learned = workspace.text_of(checkpoint)
    if source == OWN:
        name, text = "your text", pasted(own).text
    elif learned:
        name, text = f"the last tenth of {learned.name}", split(learned.text)[1]
    else:
        raise BadInput(NOT_HERE.format(checkpoint.name))
    cut = f"the first {MOST_MEASURED:,} characters of " if len(text) > MOST_MEASURED else ""
    return Text(cut + name, text[:MOST_MEASURED])


# ---- Beside the model ------------------------------------------------------------------------------------------------


def _others(
    library: Library, learned_from: Text | None, checkpoint: Checkpoint, text: Text, evaluator: Evaluator
) -> tuple[Other, ...]:
    """What needs no measuring of the model; the simple models need the text that it has learned from."""
    with ThreadPoolExecutor(1) as beside:  # compressors let Python go on
        compressed = beside.submit(_compressed, text.text)
        counted = _counted(library.get(learned_from, checkpoint.tokenizer), evaluator) if learned_from else ()
    return compressed.result() + counted


def _counted(learned: Learned, evaluator: Evaluator) -> tuple[Other, ...]:
    """What models reach that only count, over the same tokens as the model, or the first MOST_COUNTED of them."""
    ids = evaluator.ids[: MOST_COUNTED + 1].numpy()
    n_tokens, n_chars = len(ids) - 1, int(evaluator.lengths[0, 1 : len(ids)].sum())
    bits = learned.ngrams.losses(ids).sum(axis=1) / np.log(2) / max(1, n_chars)
    return tuple((name, float(n), f"{n_tokens:,} tokens") for name, n in zip(NAMES, bits, strict=True))


def _compressed(text: str) -> tuple[Other, ...]:
    text = text[:MOST_COMPRESSED]
    return tuple((name, bits, f"{len(text):,} characters") for name, bits in compressed_bits_per_char(text).items())


def _note(learned: Text | None) -> str:
    compressors = "gzip, bz2 and xz compress this text alone, without having seen another."
    if not learned:
        return f"{compressors} The text that this model learned from is not here, so nothing could be counted in it."
    return f"From uniform to 5-gram: models that only count, in the training part of {learned.name}. {compressors}"


def _figure(measured: Kept[Measured]) -> Callable:
    @answer(str, str)
    def figure(key, kind):
        done = measured.get(key)
        others = {name: bits for name, bits, _ in done.others}
        return pack_figure(
            "evaluation", kind, lambda figures: figures.evaluation_figure(done.evaluation, others, done.title)
        )

    return figure


# ---- Where it errs ---------------------------------------------------------------------------------------------------


def _passages(site: Site, measured: Kept[Measured]) -> tuple[Callable, Callable]:
    @answer(str, str)
    def passages(key, order):
        losses = measured.get(key).losses
        if order not in ORDERS:
            raise BadInput("The page asked for passages in no order: reload it.")
        if order == "first":
            return {"starts": list(range(0, len(losses), PASSAGE)), "length": PASSAGE}
        length = min(SURPRISING, len(losses) - 1)
        with site.visit():
            starts = most_surprising(-losses if order == "least" else losses, length, MOST_PASSAGES)
        return {"starts": starts, "length": length}

    @answer(str, int, int)
    def passage(key, start, length):
        done = measured.get(key)
        if not (0 <= start < len(done.ids) and 0 < length <= PASSAGE):
            raise BadInput("The text has no such passage: choose another.")
        first, end = max(0, start - AROUND), min(start + length + AROUND, len(done.ids))
        # From the beginning of a window before that, so that each token sees what it saw in the measurement.
        block_size = done.checkpoint.config.block_size
        before = max(0, (first - 1) // block_size * block_size)
        with site.visit():
            found = surprises(done.checkpoint, done.ids[before:end].tolist())
        found, token_text = found.since(first - before), done.checkpoint.tokenizer.token_text
        return pack_passage(found, done.ids[first:end], token_text, first, len(done.ids))

    return passages, passage


# ---- What it learned -------------------------------------------------------------------------------------------------


def _on_its_way(site: Site) -> tuple[Callable, Callable]:
    def learned(key: str, version: int) -> Checkpoint:
        checkpoint = site.checkpoint(key, version)
        if not (checkpoint.life and checkpoint.life.losses.numel()):
            raise BadInput(NO_PASSAGE)
        return checkpoint

    @answer(str, int)
    def passage(key, version):
        checkpoint = learned(key, version)
        return pack_foreseen(checkpoint.life, checkpoint.tokenizer.token_text)

    @answer(str, int, int, str)
    def figure(key, version, at, kind):
        checkpoint = learned(key, version)
        life, token_text = checkpoint.life, checkpoint.tokenizer.token_text
        if not 0 <= at < len(life.steps):
            raise BadInput("The model has no such snapshot: choose one with the slider.")
        texts, caption = [token_text(id) for id in life.passage], checkpoint.title
        return pack_figure("passage", kind, lambda figures: figures.passage_figure(life, at, texts, caption))

    return passage, figure
