"""The Tokenizer tab: any text as tokens, by three tokenizers side by side, and the vocabulary behind them."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from weakref import WeakKeyDictionary

import gradio as gr

from playground.checkpoint import Checkpoint
from playground.config import TOKENIZER_KINDS
from playground.corpus import built_in, split
from playground.errors import BadInput
from playground.merging import Replay, replay
from playground.tokenizer import BPETokenizer, PairTokenizer, Tokenizer, train_tokenizer, visible
from playground.ui.components.downloads import pack_figure
from playground.ui.components.merge_film import merge_film, pack_replay
from playground.ui.components.token_view import pack_view, token_view
from playground.ui.site import QUIET, TOKENIZER_TITLES, Site, Tab, answer, suggest_prompt, tell, unless_same
from playground.workspaces import Workspace

MAX_TEXT = 20_000  # characters
MAX_ROWS = 8_192  # of a table; with GPT-2's 50,257 the page would stand still for a minute
VOCABULARY, MERGES = "Vocabulary of the model in use", "Byte-pair merges in the order they were learned"
COMPARED_VOCAB_SIZE = 1_024  # of the word and byte-pair tokenizers that stand beside the model's own
COMPARED_CHARS = 1_000_000  # of the text that they learn from
MOST_REPLAYED = 1_000_000  # characters in which merges are counted: 0.3 s of English, 7 s where no word ever ends
PASSAGE = 1_000  # of them that are shown merge by merge
NOT_LEARNED_HERE = (
    "The text that this model's merges were learned from is not here to replay them: choose “Byte-pair subwords” on "
    "the Train tab and train a model on a text."
)
NO_MERGES = (
    "This tokenizer has learned no merge to replay: choose “Byte-pair subwords” on the Train tab with a larger "
    "vocabulary, or a longer text."
)

_sequence = itertools.count(1)


def build(site: Site) -> Tab:
    text = gr.Textbox(label="Text", lines=3, max_lines=8, elem_id="tokenizer-text")
    views = token_view(elem_id="tokens")
    film = merge_film(*_film(site), elem_id="film")
    with gr.Accordion(VOCABULARY, open=False, elem_id="vocabulary-section") as vocabulary_section:
        vocabulary = gr.Dataframe(
            headers=["id", "token"],
            datatype=["number", "str"],
            interactive=False,
            show_search="search",
            max_height=420,
            elem_id="vocabulary",
        )
    with gr.Accordion(MERGES, open=False, elem_id="merges-section") as merges_section:
        merges = gr.Dataframe(
            headers=["merge", "left", "right", "new token", "new id"],
            datatype=["number", "str", "str", "str", "number"],
            interactive=False,
            show_search="search",
            max_height=420,
            elem_id="merges",
        )

    @tell
    def cut(key, text):
        workspace = site.workspace(key)
        return cut_by_each(workspace, workspace.current, text)

    # Not `input`: Gradio's text box sends that for printable keys alone, not when text is pasted or deleted.
    text.change(cut, [site.visitor, text], views, queue=False, trigger_mode="always_last", **QUIET)

    def show(workspace: Workspace, checkpoint: Checkpoint, key, text):
        shown = text or suggest_prompt(checkpoint, longest=48)  # a text with unknown tokens is worth a look as well
        pairs = _pair_tokenizer(workspace, checkpoint)
        return [
            unless_same(shown, text),
            cut_by_each(workspace, checkpoint, shown),
            {"visitor": key, "version": workspace.in_use[1]},
            _headed(VOCABULARY, checkpoint.tokenizer.vocab_size),
            _vocabulary(checkpoint.tokenizer),
            _headed(MERGES, len(pairs.merges)),
            _merges(pairs),
        ]

    outputs = [text, views, film, vocabulary_section, vocabulary, merges_section, merges]
    return Tab([site.visitor, text], outputs, show)


def cut_by_each(workspace: Workspace, checkpoint: Checkpoint, text: str) -> dict | None:
    """The text by the model's own tokenizer and, where they can be learned from its text, by the two others."""
    if not text:
        return None
    cut, own = text[:MAX_TEXT], checkpoint.tokenizer
    shortened = f"; of {len(text):,} characters the first {MAX_TEXT:,}" if len(text) > MAX_TEXT else ""
    shown = [_view(own, cut, f"the model's own{shortened}")]
    for kind in TOKENIZER_KINDS:
        with suppress(BadInput):  # 10,000 different characters make no vocabulary of characters
            if kind != own.kind:
                tokenizer, source = _compared(workspace, checkpoint, kind)
                shown.append(_view(tokenizer, cut, f"learned from {source} to compare", current=False))
    return {"views": shown, "seq": next(_sequence)}


def _view(tokenizer: Tokenizer, text: str, note: str, current: bool = True) -> dict:
    note = f"{tokenizer.vocab_size:,} tokens in the vocabulary, {note}"
    return pack_view(TOKENIZER_TITLES[tokenizer.kind], tokenizer.tokens(text), len(text), current, note)


def _compared(workspace: Workspace, checkpoint: Checkpoint, kind: str) -> tuple[Tokenizer, str]:
    """Another tokenizer than the model's, and what it was learned from."""
    text, source = _compared_text(workspace, checkpoint)
    return _learned(kind, text), source


def _compared_text(workspace: Workspace, checkpoint: Checkpoint) -> tuple[str, str]:
    """The text of the model in use, or the stories where that text is not here, and what it is called."""
    for run in list(workspace.runs.values()):
        if run.past.provenance and run.past.provenance == checkpoint.provenance:
            return run.text.text, "the model's text"
    return built_in("stories").text, "the built-in stories"


def prepare() -> None:
    """Learns the tokenizers that the first visitor sees beside the shipped model's, about a second's work."""
    for kind in TOKENIZER_KINDS:
        _learned(kind, built_in("stories").text)


@lru_cache(maxsize=8)
def _learned(kind: str, text: str) -> Tokenizer:
    return train_tokenizer(kind, _compared_part(text), COMPARED_VOCAB_SIZE)


def _compared_part(text: str) -> str:
    return split(text[:COMPARED_CHARS])[0]


def _headed(title: str, n_rows: int) -> dict:
    """The heading of a table, which says so if not all of its rows are there."""
    return gr.update(label=title if n_rows <= MAX_ROWS else f"{title}: the first {MAX_ROWS:,} of {n_rows:,}")


def _vocabulary(tokenizer: Tokenizer) -> list[list]:
    return [[i, visible(tokenizer.token_text(i))] for i in range(min(tokenizer.vocab_size, MAX_ROWS))]


def _pair_tokenizer(workspace: Workspace, checkpoint: Checkpoint) -> PairTokenizer:
    """The model's own tokenizer if it is one of byte pairs, else the one that stands beside it."""
    own = checkpoint.tokenizer
    return own if isinstance(own, PairTokenizer) else _compared(workspace, checkpoint, "bpe")[0]


def _merges(tokenizer: PairTokenizer) -> list[list]:
    rows, shown = [], islice(zip(tokenizer.merges, tokenizer.new_ids, strict=True), MAX_ROWS)
    for order, ((left, right), new) in enumerate(shown, 1):
        texts = [visible(tokenizer.token_text(i)) for i in (left, right, new)]
        rows.append([order, *texts, new])
    return rows


# ---- Merges replayed -------------------------------------------------------------------------------------------------


def _film(site: Site) -> tuple[Callable, Callable]:
    known: WeakKeyDictionary[Tokenizer, Replay] = WeakKeyDictionary()  # each has learned from one text

    def seen_by(key: str, version: int) -> tuple[BPETokenizer, Replay, str]:
        workspace, checkpoint = site.workspace(key), site.checkpoint(key, version)
        with site.visit():
            tokenizer, text, source = _learning(workspace, checkpoint)
            if not tokenizer.merges:
                raise BadInput(NO_MERGES)
            if tokenizer not in known:
                known[tokenizer] = replay(tokenizer, text[:MOST_REPLAYED], PASSAGE)
        return tokenizer, known[tokenizer], _about(text, source)

    @answer(str, int)
    def replayed(key, version):
        tokenizer, seen, about = seen_by(key, version)
        shown = f", of which the first {PASSAGE:,} are shown" if seen.n_chars > PASSAGE else ""
        return pack_replay(seen, tokenizer.merges, f"Here on {about}{shown}.")

    @answer(str, int, int, str)
    def figure(key, version, at, kind):
        _, seen, about = seen_by(key, version)
        if not 0 <= at <= len(seen.times):
            raise BadInput("There is no such merge: choose one with the slider.")
        return pack_figure("merges", kind, lambda figures: figures.merges_figure(seen, at, about))

    return replayed, figure


def _learning(workspace: Workspace, checkpoint: Checkpoint) -> tuple[BPETokenizer, str, str]:
    """The byte-pair tokenizer of `_pair_tokenizer`, the text that it learned from, and what that is called."""
    tokenizer = _pair_tokenizer(workspace, checkpoint)
    if tokenizer is not checkpoint.tokenizer:
        text, source = _compared_text(workspace, checkpoint)
        return tokenizer, _compared_part(text), f"{source}, to compare"
    first = checkpoint.provenance[:1]  # fine-tuning does not learn new tokens
    text = workspace.text_named(*first) if first else None
    if not text or not isinstance(tokenizer, BPETokenizer):
        raise BadInput(NOT_LEARNED_HERE)
    return tokenizer, split(text.text)[0], text.name


def _about(text: str, source: str) -> str:
    """On what the merges are replayed."""
    n = len(text)
    used = f"{n:,} characters" if n <= MOST_REPLAYED else f"the first {MOST_REPLAYED:,} of its {n:,} characters"
    return f"the training part of {source}: {used}"
