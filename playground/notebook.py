"""A run as a notebook to take home: the ten sections of the course, with this project's own source in its cells.

It needs torch, NumPy, matplotlib and tqdm and nothing of this project. Its cells have one namespace, so a learner can
change any of them and run what follows again. What a visitor or a stranger's file has written stands in code cells
alone, as Python's own literals.
"""

import base64
import json
import math
import re
import textwrap
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields

from playground.checkpoint import Checkpoint, Provenance, TrainStep
from playground.config import TrainConfig
from playground.corpus import Text
from playground.course import GLOSSARY, SECTIONS, Section, pieces
from playground.errors import BadInput
from playground.excerpt import Excerpt, Passage, excerpt
from playground.tokenizer import GPT2Tokenizer
from playground.training import get_lr

MAX_TEXT = 5_000_000  # bytes of a text that travels along
MAX_READABLE = 20_000  # characters of one that stands there as it is; a longer one is compressed
MAX_RATES = 1_000  # learning rates that were chosen on the way
BASE64_LINE = 118

# What of the source stands in which section: files, or headings in them by how they begin.
PLACES = {
    "introduction": ("errors", "config"),
    "tokenizer": ("tokenizer", "corpus/Reading", "corpus/Splitting"),
    "embedding": ("model/1.",),
    "positions": ("model/2.",),
    "masking": ("model/3.",),
    "attention": ("model/4.",),
    "heads": ("model/5.",),
    "layer": ("model/6.",),
    "head": ("model/7.", "generation"),
    "training": (
        *("corpus/What counting", "heads", "life", "checkpoint", "fused", "optimizers", "parallel", "training"),
        *("inspection", "figures"),
    ),
}
FOLDED = {"errors", "config", "heads", "life", "checkpoint", "fused", "parallel", "inspection", "figures"}
# In an order in which each needs only those before it.
MODULES = ("errors", "config", "tokenizer", "corpus", "model", "heads", "life", "checkpoint", "fused", "optimizers")
MODULES += ("parallel", "training", "generation", "inspection", "figures")

IMPORTS = """
import math
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from tqdm import tqdm
"""

# What every section does with its code: short cells, written for the notebook.
DEMOS = {
    "tokenizer": '''
train_text, val_text = split(TEXT)  # the last tenth of the text is held out
tokenizer = train_tokenizer(TOKENIZER, train_text, VOCAB_SIZE)
config = replace(config, vocab_size=tokenizer.vocab_size)

ids = tokenizer.encode(PROMPT)[-config.block_size :]  # as many as the model can see
labels = [visible(tokenizer.token_text(i)) for i in ids]
print(f"{tokenizer.vocab_size:,} entries in the vocabulary; the prompt in {len(ids)} tokens:")
for i, label in zip(ids, labels):
    print(f"{i:>6}  {label}")


def show_table(table, title, rows=(), columns=(), **colours):
    """A table of numbers as a picture, with the names of its rows and columns."""
    plt.figure(figsize=(8, 4))
    plt.imshow(table, aspect="auto", **colours)
    plt.yticks(range(len(rows)), rows, parse_math=False)
    plt.xticks(range(len(columns)), columns, rotation=90, parse_math=False)
    plt.colorbar()
    plt.title(title, parse_math=False)
    plt.show()
''',
    "embedding": """
idx = torch.tensor([ids])  # (1, T)
x = TokenEmbedding(config)(idx).detach()  # (1, T, C)
print("ids", tuple(idx.shape), "become vectors", tuple(x.shape))
show_table(x[0], "the vector of each token, before anything is learned", rows=labels, cmap="RdBu_r")
""",
    "positions": """
print("the positions of this model:", config.position)
show_table(sinusoidal_table(config.block_size, 64), "sinusoidal positions: a row for each place", cmap="RdBu_r")

# Rotary positions: one vector at eight places, and its product with itself from place to place.
turned = rotate(torch.randn(64).expand(8, 64), *rotary_table(8, 64))  # (8, 64)
print("The products depend only on how far apart two places are: the same along each diagonal.")
show_table(turned @ turned.T, "query by row, key by column", rows=range(1, 9), columns=range(1, 9))
""",
    "masking": """
show_table(causal_mask(len(ids)), "who may look (row) at whom (column)", rows=labels, columns=labels)
""",
    "attention": """
q, k, v = torch.randn(3, len(ids), config.head_dim)  # (T, hs) each
gathered, shares = attention(q, k, v, causal_mask(len(ids)))  # (T, hs), (T, T)
print("every row of the weights has the sum", shares.sum(-1).tolist())
show_table(shares, "weights of random queries and keys", rows=labels, columns=labels, vmin=0, vmax=1)
""",
    "heads": """
trace = Trace(("attention",))
print("in", tuple(x.shape), "out", tuple(CausalSelfAttention(config).eval()(x, trace).shape))
_, axes = plt.subplots(1, config.n_head, figsize=(2 * config.n_head, 2), squeeze=False)
for i, head in enumerate(trace.attention[0][0].detach()):  # (T, T) each
    axes[0, i].imshow(head, vmin=0, vmax=1)
    axes[0, i].set_title(f"head {i + 1}")
    axes[0, i].axis("off")
plt.show()
""",
    "layer": """
trace = Trace(("stream",))
Block(config).eval()(x, trace)
for part, stream in zip(("attention", "the MLP"), trace.stream):
    print(f"after {part}: {tuple(stream.shape)}, length of the first token's vector {stream[0, 0].norm():.3f}")
""",
    "head": '''
model = GPT(config, torch.Generator().manual_seed(train_config.seed)).eval()
print(f"{sum(p.numel() for p in model.parameters()):,} weights, none of them trained yet")


def show_next(model):
    """The likeliest tokens after the prompt."""
    probs, best = next_token_probs(next_logits(model, ids), Sampling()).topk(min(10, config.vocab_size))
    plt.figure(figsize=(6, 3))
    plt.barh(range(len(best)), probs)
    plt.yticks(range(len(best)), [visible(tokenizer.token_text(int(i))) for i in best], parse_math=False)
    plt.gca().invert_yaxis()
    plt.title("the probability of the next token")
    plt.show()


def write(model, n_tokens=200, temperature=0.8, seed=0):
    """Goes on from the prompt: predict, draw, append, again."""
    generator, window, written = torch.Generator().manual_seed(seed), ids, []
    for _ in range(n_tokens):
        token = draw(next_token_probs(next_logits(model, window), Sampling(temperature)), generator)
        written.append(token)
        window = next_window(window, token, config.block_size)
    return PROMPT + tokenizer.decode(written)


show_next(model)
print(write(model, 50))
''',
}

# How the notebook answers the question of each section.
TO_TRY = {
    "introduction": "At the end, set `ids = ids[-1:]` before `show_next(trained.model)` and compare.",
    "tokenizer": 'Set `TOKENIZER` above to `"char"`, `"word"` or `"bpe"`, run all again, and compare the bits per '
    "character at the end; the losses themselves do not compare.",
    "embedding": "At the end, `F.cosine_similarity(trained.model.wte.weight[ids[-1]], trained.model.wte.weight)"
    ".topk(6)` has the nearest tokens; do the same with the `model` of section 9, which has learned nothing.",
    "positions": 'Set `position="none"` in the settings and run all again.',
    "masking": "Have `causal_mask` return `torch.ones(length, length, dtype=torch.bool)`, set `CHANGED` to `True` in "
    "section 10, and run all again: the loss falls to almost nothing, and what the model writes is nonsense.",
    "attention": "Set `block_size=4` in the settings and run all again.",
    "heads": "Set `n_head=1` in the settings and run all again.",
    "layer": "Have `make_norm` return `nn.Identity()`, set `CHANGED` to `True` in section 10, and run all again with a "
    "`learning_rate` ten times as high, then with the old one.",
    "head": "At the end, `print(write(trained.model, temperature=0.2))`, and the same with 2.",
    "training": "Multiply `learning_rate` in the settings by 100 and run all again.",
}

CHANGED = """
CHANGED = False  # set it to True once you have changed the model's code above

if CHANGED:  # then training asks that code, by autograd, and no longer the gradient written out in the folded cells

    def batch_loss(model, x, y, dtype=torch.float32):
        return model.loss(x, y)
"""

BATCH = """
corpus = Corpus.build(Text(NAME, TEXT), tokenizer, config.block_size)
print(f"{len(corpus.train):,} tokens to learn from, {len(corpus.val):,} held out")
inputs, targets = get_batch(corpus.train, 1, 8, torch.Generator().manual_seed(0))  # (1, 8) each
print("inputs ", tokenizer.decode(inputs[0].tolist()).__repr__())
print("targets", tokenizer.decode(targets[0].tolist()).__repr__())
"""

TRAIN = """
with second_thread() as beside:
    probe = probe_ids("", tokenizer, corpus, config.block_size)  # on which the heads are watched while they learn
    trainer = Trainer(config, train_config, corpus, tokenizer, probe=probe, device=DEVICE, beside=beside)
    for number in tqdm(range(1, N_STEPS + 1), mininterval=1):
        if number in RATES:
            trainer.set_learning_rate(RATES[number])
        step = trainer.step()
        if step.val_loss is not None:
            tqdm.write(f"step {number:,}: training loss {step.train_loss:.4f}, validation loss {step.val_loss:.4f}")
    val_loss = trainer.val_loss()  # over all of the validation part
trained = trainer.checkpoint(NAME, val_loss)
"""

# What is seen of the trained model, a cell each, with a line above.
SEEN = (
    ("The losses, and what models reach that only count:", "loss_figure(trained.history, trained.references, NAME)"),
    (
        "What comes after the prompt, and how the model goes on from it:",
        """
show_next(trained.model)
print(write(trained.model))
""",
    ),
    (
        "What the first head of the first layer looks at:",
        "attention_figure(inspect(trained, PROMPT), 0, 0, trained.title)",
    ),
    ("All heads at the end, on some held-out tokens that come twice:", "life_figure(trained.life, -1, trained.title)"),
    (
        "How every head learned, or did not, to look at what followed the same token before; the best at it in colour:",
        """
at_the_end = trained.life.scores[-1, SCORES.index("induction")]  # (L, nh)
layer, number = divmod(int(at_the_end.argmax()), config.n_head)
scores_figure(trained.life, "induction", layer, number, trained.title)
""",
    ),
    (
        "What the model would say after each of its parts:",
        "lens_figure(logit_lens(trained, ids), tokenizer.token_text, trained.title)",
    ),
    (
        "Three measures of the same loss:",
        """
n_predicted = len(corpus.val) - 1
print(f"loss                {val_loss:.4f} nats a token")
print(f"perplexity          {math.exp(val_loss):.2f}")
print(f"bits per character  {val_loss * n_predicted / math.log(2) / corpus.val_chars:.4f}")
""",
    ),
)

COMPARE = """
print(f"validation loss here         {val_loss:.6f}")
if PAGE_VAL_LOSS is not None:
    print(f"validation loss on the page  {PAGE_VAL_LOSS:.6f}")
    print(f"difference                   {val_loss - PAGE_VAL_LOSS:+.6f}")
"""

PACKED_TEXT = '''
# The text, compressed.
import base64
import zlib

TEXT = zlib.decompress(base64.b64decode("""
{packed}
""")).decode()
'''

ASK_FOR_TEXT = """
# The text does not travel along: put it beside this notebook as text.txt.
import hashlib
from pathlib import Path

WANTED = {what!r}
if not Path("text.txt").exists():
    raise FileNotFoundError(f"Put the text that the model learned from beside this notebook, as text.txt: {{WANTED}}.")
TEXT = Path("text.txt").read_bytes().decode("utf-8-sig")
if hashlib.sha256(TEXT.encode()).hexdigest() != {sha256!r}:
    print(f"This is another text than the page's model learned from ({{WANTED}}), so the loss will be another.")
"""

INTRODUCTION = (
    "This notebook trains a small transformer anew, as it was trained in the Transformer Playground, and ends at the "
    "same loss. It needs `torch`, `numpy`, `matplotlib` and `tqdm`. Its code cells are the playground's own source; "
    "what is not needed here was left out, and what is not about the model is folded.",
    "Run it from top to bottom. Then change something, a setting or the code itself, and run what follows again.",
)
MAY_DIFFER = (
    "On the same machine the loss is the same to the last digit shown. Another processor, or another version of torch, "
    "rounds differently, and over many steps that adds up."
)
NOT_TRAINED_HERE = (
    "This model was not trained from the beginning in the playground, so there is no run that a notebook could repeat: "
    "choose one that was, in the tab Checkpoints."
)
FINE_TUNED = (
    "**By what this differs:** the model of the page was fine-tuned. Its run went on from a model that had learned "
    "from another text before, and this notebook begins with random weights and a tokenizer of its own. So its loss "
    "will be another."
)


def notebook(checkpoint: Checkpoint, text: Text | None, prompt: str) -> dict:
    """The run that made a checkpoint, as a notebook in the format nbformat 4. `text` is what it learned from, if that
    is at hand; the model is tried with the `prompt`. Raises `BadInput` for a model that no run here has made.
    """
    if not checkpoint.history or not checkpoint.provenance or isinstance(checkpoint.tokenizer, GPT2Tokenizer):
        raise BadInput(NOT_TRAINED_HERE)
    source = _source()
    cells = [*_introduction(checkpoint, prompt, source)]
    for number, section in enumerate(SECTIONS[1:], 2):
        cells.append(_markdown(f"## {number}. {section.title}", *map(_prose, section.paragraphs)))
        if section.slug == "tokenizer":
            cells.append(_text_cell(checkpoint.provenance[-1], text))
        cells += _passages(source, section.slug)
        cells += _training() if section.slug == "training" else [_code(DEMOS[section.slug])]
        cells.append(_question(section))
    cells.append(_markdown("## Glossary", *(f"*{term}*: {meaning}" for term, meaning in GLOSSARY.items())))
    return {
        "cells": [cell | {"id": f"cell-{number}"} for number, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def to_bytes(notebook: dict) -> bytes:
    """The notebook as the bytes of an .ipynb file."""
    return json.dumps(notebook, indent=1).encode()


# ---- The sections ----------------------------------------------------------------------------------------------------


def _introduction(checkpoint: Checkpoint, prompt: str, source: Excerpt) -> Iterator[dict]:
    section, own = SECTIONS[0], INTRODUCTION + ((FINE_TUNED,) if _is_fine_tuned(checkpoint) else ())
    yield _markdown("# A transformer from scratch", *own)
    yield _markdown(f"## 1. {section.title}", *map(_prose, section.paragraphs))
    yield _code("\n".join(source.imports))
    yield from _passages(source, section.slug)
    yield _code(_settings(checkpoint, prompt))
    yield _question(section)


def _training() -> Iterator[dict]:
    yield _code(CHANGED)
    yield _code(BATCH)
    yield _code(TRAIN)
    for line, code in SEEN:
        yield _markdown(line)
        yield _code(code)
    yield _markdown(MAY_DIFFER)
    yield _code(COMPARE)


def _question(section: Section) -> dict:
    return _markdown(f"**{section.question}** {TO_TRY[section.slug]}")


def _passages(source: Excerpt, slug: str) -> Iterator[dict]:
    """The cells of this project's source that stand in a section."""
    for passage in source.passages:
        if _place(passage) == slug:
            yield _code(passage.text, f"# playground/{passage.module}.py", folded=passage.module in FOLDED)


def _place(passage: Passage) -> str:
    path = f"{passage.module}/{passage.heading}"
    return next(slug for slug, starts in PLACES.items() if any(path.startswith(start) for start in starts))


def _source() -> Excerpt:
    """All of this project's source that the cells need."""
    own = [IMPORTS, *DEMOS.values(), BATCH, TRAIN, *(code for _, code in SEEN)]
    return excerpt("\n".join(own), MODULES, whole=("model",))


# ---- The run ---------------------------------------------------------------------------------------------------------


def _settings(checkpoint: Checkpoint, prompt: str) -> str:
    n_steps = min(checkpoint.step, checkpoint.train_config.max_iters)
    return f"""
NAME = {checkpoint.name!r}  # the run that this notebook repeats
PROMPT = {prompt!r}
DEVICE = "cpu"  # as on the page; "auto" takes a graphics card where there is one, which rounds differently

TOKENIZER = {checkpoint.tokenizer.kind!r}  # char, word or bpe
VOCAB_SIZE = {checkpoint.config.vocab_size}  # of words or byte-pair subwords; for characters the text decides

config = {_call(checkpoint.config)}
train_config = {_call(checkpoint.train_config)}
N_STEPS = {n_steps}  # that the run took; the schedule of its learning rate is for max_iters
RATES = {_rates(checkpoint.history, checkpoint.train_config)}  # learning rates chosen on the way, by their steps

PAGE_VAL_LOSS = {checkpoint.val_loss!r}  # over all of the validation part, as the page had it at the end
"""


def _call(settings: object) -> str:
    """The expression that makes these settings."""
    values = (f"    {field.name}={getattr(settings, field.name)!r},\n" for field in fields(settings))
    return f"{type(settings).__name__}(\n{''.join(values)})"


def _rates(history: Sequence[TrainStep], config: TrainConfig) -> dict[int, float]:
    """The steps from which on the learning rate was another than the schedule's, with the rates that they had."""
    rates, scale = {}, 1.0
    for number, step in enumerate(history[: config.max_iters], 1):
        planned = get_lr(number, config)
        if planned and not math.isclose(step.learning_rate, scale * planned, rel_tol=1e-9):
            rates[number], scale = step.learning_rate, step.learning_rate / planned
    if len(rates) > MAX_RATES:
        raise BadInput(f"The learning rate of this run was changed {len(rates):,} times, too often for a notebook.")
    return rates


def _is_fine_tuned(checkpoint: Checkpoint) -> bool:
    return checkpoint.beginning is not None or len(checkpoint.provenance) > 1


def _text_cell(learned: Provenance, text: Text | None) -> dict:
    """The text itself, or what reads it from a file beside the notebook."""
    data = text.text.encode() if text and text.sha256 == learned.sha256 else b""
    if not data or len(data) > MAX_TEXT:
        return _code(ASK_FOR_TEXT.format(what=f"{learned.name}, {learned.n_chars:,} characters", sha256=learned.sha256))
    if len(text.text) <= MAX_READABLE:
        return _code(f"# The text. Put another one here to learn from that.\nTEXT = {_quoted(text.text)}")
    packed = textwrap.fill(base64.b64encode(zlib.compress(data, 9)).decode(), BASE64_LINE)
    return _code(PACKED_TEXT.format(packed=packed), folded=True)


def _quoted(text: str) -> str:
    """A text as a literal that reads like the text. It begins a line, or Jupyter would take a ">>>" out of it."""
    escaped = re.sub('"(?="|\\Z)', '\\\\"', text.replace("\\", "\\\\")).replace("\r", "\\r")
    return f'(\n"""\\\n{escaped}"""\n)'


# ---- Cells -----------------------------------------------------------------------------------------------------------


def _markdown(*paragraphs: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": "\n\n".join(paragraphs)}


def _code(code: str, above: str = "", folded: bool = False) -> dict:
    metadata = {"collapsed": True, "jupyter": {"source_hidden": True}} if folded else {}
    source = "\n".join([above, code] if above else [code.strip("\n")])
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def _prose(paragraph: str) -> str:
    """A paragraph of the course in Markdown."""
    marks = {"text": "", "term": "*", "code": "`"}
    return "".join(f"{marks[piece.kind]}{piece.text}{marks[piece.kind]}" for piece in pieces(paragraph))
