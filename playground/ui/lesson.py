"""A model as a page to hand out: one HTML file with the course, this model's pictures and its run, opened from disk.

It asks nobody for anything: pictures stand in it as data, and its own rules forbid any request. All words of visitors
and strangers are escaped, or reach the page through `textContent`.
"""

import base64
import html
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from playground.ablation import unmask
from playground.checkpoint import SMALL, Checkpoint
from playground.course import GLOSSARY, SECTIONS, Piece, Section, pieces
from playground.embeddings import positions, token_map
from playground.errors import BadInput
from playground.generation import SAMPLE_TOKENS, Sampling, generate_ids, next_token_probs
from playground.inspection import Inspection, attention_weights, head_stages, inspect, logit_lens
from playground.life import begin_life, look
from playground.tokenizer import visible
from playground.tries import TRIES
from playground.ui.checkpoints import describe_fully
from playground.ui.components.base import COMMON_JS, HERE
from playground.ui.components.head_life import TEMPLATE, pack_life
from playground.ui.components.next_token import ROWS
from playground.ui.site import shortened

CSS, JS = (Path(__file__).with_name(f"lesson.{ending}").read_text() for ending in ("css", "js"))
SHARED = ("look", "figure", "head_life")  # of the components, for the slider
RULES = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; form-action 'none'"
MAX_SAMPLES = 64  # that travel along
PRINTED_SAMPLES = 6  # that stand there to be read, however the page is shown
MANY_TOKENS = 2_000  # in a map; as an SVG so many dots would be large
MAX_SAMPLE = 5_000  # characters of one; those of a stranger's file may have any length
TOO_LARGE_A_MODEL = (
    "This model has {:,} weights, and a lesson page is drawn of models of at most {:,}, so that nobody else has to "
    "wait: take a smaller one into use."
)
BY_TRAINING = "An experiment on the playground's Learn tab answers it, by training two models beside each other."
NO_LIFE = "What the heads did while this model learned was not kept, so there is nothing to move through here."
NO_RUN = "This model was trained elsewhere, so its losses on the way are not known."
NO_POSITIONS = "This model has no positional encoding: only the mask tells it the order of its tokens."


@dataclass(frozen=True)
class Lesson:
    """A model and a prompt, and what is seen of the two. `figures` is the module that draws."""

    checkpoint: Checkpoint
    prompt: str
    figures: ModuleType

    @cached_property
    def inspection(self) -> Inspection:
        return inspect(self.checkpoint, self.prompt)

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.inspection.tokens]

    @property
    def labels(self) -> list[str]:
        return [visible(token.text) for token in self.inspection.tokens]

    @property
    def caption(self) -> str:
        return f"{self.checkpoint.title}, “{shortened(self.prompt)}”"


def lesson_page(checkpoint: Checkpoint, prompt: str) -> Iterator[str]:
    """The page of a model, tried on the prompt, piece by piece: each takes a moment to draw.

    `BadInput` if the model knows nothing in the prompt, or is so large that a piece would take seconds.
    """
    if checkpoint.config.n_params > SMALL:
        raise BadInput(TOO_LARGE_A_MODEL.format(checkpoint.config.n_params, SMALL))
    from playground import figures  # it takes most of a second, and only a download needs it

    lesson = Lesson(checkpoint, prompt, figures)
    yield _beginning(checkpoint, prompt)
    for number, section in enumerate(SECTIONS, 1):
        words = "".join(map(_paragraph, section.paragraphs))
        yield f'<section id="{section.slug}"><h2>{number}. {section.title}</h2>{words}'
        yield f'{PICTURES[section.slug](lesson)}<p class="question">{section.question}</p>'
        yield f"{_answers(lesson, section)}</section>\n"
    meanings = "".join(
        f'<dt id="{_anchor(term)}">{term}</dt><dd>{_words(told)}</dd>' for term, told in GLOSSARY.items()
    )
    yield f'<section id="glossary"><h2>Glossary</h2><dl>{meanings}</dl></section>\n</main>\n'
    yield f"<footer>Made with the Transformer Playground.</footer>\n{_scripts(checkpoint)}</body>\n</html>\n"


def _beginning(checkpoint: Checkpoint, prompt: str) -> str:
    name = html.escape(checkpoint.name)
    contents = "".join(f'<li><a href="#{section.slug}">{section.title}</a></li>' for section in SECTIONS)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{RULES}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: a transformer in ten sections</title>
<style>#life {{{_components(".css")}}}
{CSS}</style>
</head>
<body>
<header><h1>{name}</h1><p>A transformer in ten sections, each on this very model.</p>{_facts(checkpoint)}
<p>The sentence that it is tried on: <q>{html.escape(prompt)}</q></p></header>
<nav aria-label="Sections"><ol>{contents}</ol></nav>
<main>
"""


def _components(ending: str) -> str:
    files = [HERE / f"{name}{ending}" for name in SHARED]
    return "".join(file.read_text() for file in files if file.exists())


def _scripts(checkpoint: Checkpoint) -> str:
    """What moves the slider, where there is one."""
    if not _has_life(checkpoint):
        return ""
    life = pack_life(checkpoint.life, checkpoint.tokenizer.token_text, due=None)
    samples = [{"step": step, "text": text} for step, text in _spread(_samples(checkpoint), MAX_SAMPLES)]
    data = json.dumps({"life": life, "samples": samples}).replace("<", "\\u003c")  # nothing ends the element early
    return (
        f'<script type="application/json" id="data">{data}</script>\n'
        f"<script>(() => {{\n{JS}{COMMON_JS}{_components('.js')}start();\n}})();</script>"
    )


def _has_life(checkpoint: Checkpoint) -> bool:
    return bool(checkpoint.life and checkpoint.life.steps)


def _samples(checkpoint: Checkpoint) -> list[tuple[int, str]]:
    """What the model wrote on the way, by its steps."""
    begun = [(0, checkpoint.beginning.sample)] if checkpoint.beginning else []
    written = [*begun, *((step.step, step.sample) for step in checkpoint.history)]
    return [(step, text[:MAX_SAMPLE]) for step, text in written if text]


def _spread(things: Sequence, most: int) -> list:
    """At most so many, evenly spread, the first and the last among them."""
    if len(things) <= most:
        return list(things)
    return [things[round(i * (len(things) - 1) / (most - 1))] for i in range(most)]


# ---- Words -----------------------------------------------------------------------------------------------------------


def _paragraph(text: str) -> str:
    return f"<p>{_words(text)}</p>"


def _words(text: str) -> str:
    return "".join(map(_piece, pieces(text)))


def _piece(piece: Piece) -> str:
    match piece.kind:
        case "term":
            meaning = html.escape(GLOSSARY[piece.term].replace("`", ""))
            return f'<a class="term" href="#{_anchor(piece.term)}" title="{meaning}">{html.escape(piece.text)}</a>'
        case "code":
            return f"<code>{html.escape(piece.text)}</code>"
    return html.escape(piece.text)


def _anchor(term: str) -> str:
    return f"term-{term.replace(' ', '-')}"


def _facts(checkpoint: Checkpoint) -> str:
    pairs = describe_fully(checkpoint)["pairs"]
    return f"<dl class='facts'>{''.join(f'<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>' for k, v in pairs)}</dl>"


def _answers(lesson: Lesson, section: Section) -> str:
    """What one look at the model says to a section's question; others take a training."""
    try:
        found = [TRIES[name](lesson.checkpoint, lesson.ids).sentence for name in section.experiments if name in TRIES]
    except BadInput as error:
        found = [str(error)]
    return "".join(map(_note, map(html.escape, found))) or _note(BY_TRAINING)


# ---- Pictures --------------------------------------------------------------------------------------------------------


def _picture(lesson: Lesson, figure: object, words: str, kind: str = "svg") -> str:
    """A figure of the playground, with words for who cannot see it and for below it."""
    data = base64.b64encode(lesson.figures.to_bytes(figure, kind)).decode("ascii")
    source = f"data:image/{'svg+xml' if kind == 'svg' else kind};base64,{data}"
    words = html.escape(words)
    return f'<figure><img src="{source}" alt="{words}"><figcaption>{words}</figcaption></figure>'


def _introduction(lesson: Lesson) -> str:
    model, tokenizer = lesson.checkpoint.model, lesson.checkpoint.tokenizer
    drawn = islice(generate_ids(model, lesson.ids, Sampling(temperature=0.8), seed=0), SAMPLE_TOKENS)
    written = tokenizer.decode([token for token, _ in drawn])
    return f'<pre class="sample"><b>{html.escape(lesson.prompt)}</b>{html.escape(written)}</pre>' + _note(
        "The sentence, and how this model goes on from it at temperature 0.8."
    )


def _tokenizer(lesson: Lesson) -> str:
    tokens = "".join(
        f'<li><bdi>{html.escape(label)}</bdi><span class="id">{id}</span></li>'
        for label, id in zip(lesson.labels, lesson.ids, strict=True)
    )
    return f'<ol class="tokens">{tokens}</ol>' + _note("The sentence in tokens, with their ids.")


def _embedding(lesson: Lesson) -> str:
    checkpoint = lesson.checkpoint
    texts = [checkpoint.tokenizer.token_text(i) for i in range(checkpoint.config.vocab_size)]
    figure = lesson.figures.token_map_figure(token_map(checkpoint), texts, lesson.ids, lesson.caption)
    kind = "png" if len(texts) > MANY_TOKENS else "svg"
    return _picture(lesson, figure, "Every token at its place; those of the sentence in frames.", kind)


def _positions(lesson: Lesson) -> str:
    places = positions(lesson.checkpoint)
    if places is None:
        return _note(NO_POSITIONS)
    figure = lesson.figures.positions_figure(places, lesson.caption)
    return _picture(lesson, figure, "What tells positions apart, and how alike every two of them are.")


def _masking(lesson: Lesson) -> str:
    unmasked = attention_weights(unmask(lesson.checkpoint), lesson.ids)
    figure = lesson.figures.mask_figure(lesson.inspection, unmasked, 0, 0, lesson.caption)
    return _picture(lesson, figure, "One head with the causal mask, and the same head without it.")


def _attention(lesson: Lesson) -> str:
    stages = head_stages(lesson.checkpoint, lesson.ids, 0, 0)
    figure = lesson.figures.stages_figure(stages, lesson.labels, f"Layer 1, head 1, step by step\n{lesson.caption}")
    return _picture(lesson, figure, "One head step by step, from queries and keys to its output.")


def _heads(lesson: Lesson) -> str:
    """All heads on the sentence: a life of one snapshot."""
    ids = lesson.ids
    now = look(begin_life(lesson.checkpoint.config, ids, 2 * ids[:1]), lesson.checkpoint.model, lesson.checkpoint.step)
    figure = lesson.figures.life_figure(now, 0, lesson.caption)
    seen = "the sentence" if len(now.ids) == len(ids) else f"the first {len(now.ids)} tokens of the sentence"
    return _picture(lesson, figure, f"Every head's attention to {seen}, a row for each layer.")


def _layer(lesson: Lesson) -> str:
    figure = lesson.figures.lens_figure(
        logit_lens(lesson.checkpoint, lesson.ids), lesson.checkpoint.tokenizer.token_text, lesson.caption
    )
    return _picture(lesson, figure, "What the model would say after each of its parts, the last on top.")


def _head(lesson: Lesson) -> str:
    logits = torch.from_numpy(lesson.inspection.logits[-1])
    uncut, probs = (next_token_probs(logits, sampling).numpy() for sampling in (Sampling(), Sampling(temperature=0.8)))
    likeliest = np.argsort(-uncut, kind="stable")[:ROWS]
    texts = [lesson.checkpoint.tokenizer.token_text(int(i)) for i in likeliest]
    caption = f"{lesson.caption}\ntemperature 0.8"
    figure = lesson.figures.next_token_figure(texts, probs[likeliest], uncut[likeliest], caption)
    return _picture(lesson, figure, "The likeliest tokens after the sentence.")


def _training(lesson: Lesson) -> str:
    checkpoint = lesson.checkpoint
    if not checkpoint.history:
        return _note(NO_RUN) + _note(NO_LIFE)
    losses = lesson.figures.loss_figure(
        checkpoint.history, checkpoint.references, checkpoint.title, checkpoint.beginning
    )
    picture = _picture(lesson, losses, "The losses of the run, and what models reach that only count.")
    return picture + _life(checkpoint) + _written(checkpoint)


def _written(checkpoint: Checkpoint) -> str:
    samples = "".join(
        f'<h4>Step {step:,}</h4><pre class="sample">{html.escape(text)}</pre>'
        for step, text in _spread(_samples(checkpoint), PRINTED_SAMPLES)
    )
    return f"<h3>What it wrote on the way</h3>{samples}" if samples else ""


def _life(checkpoint: Checkpoint) -> str:
    if not _has_life(checkpoint):
        return _note(NO_LIFE)
    return f'<div id="life">{TEMPLATE}</div><div id="then" hidden><h4></h4><pre class="sample"></pre></div>'


def _note(words: str) -> str:
    return f'<p class="note">{words}</p>'


PICTURES: dict[str, Callable[[Lesson], str]] = {
    "introduction": _introduction,
    "tokenizer": _tokenizer,
    "embedding": _embedding,
    "positions": _positions,
    "masking": _masking,
    "attention": _attention,
    "heads": _heads,
    "layer": _layer,
    "head": _head,
    "training": _training,
}
