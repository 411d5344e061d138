"""The page that a model has on the Hugging Face Hub: what it is, what it learned from, how, and how to use it.

Names in a checkpoint may be a stranger's. They stand as code in the page's Markdown, where no sign has a meaning.
"""

from collections.abc import Sequence
from math import ceil, exp

from playground.checkpoint import Checkpoint, TrainStep, clean_name

LOSS_PICTURE = "loss.svg"
MAX_ROWS = 12  # of the table of losses
MAX_POINTS = 500  # of the curve
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 300, 48, 36  # of the picture and its margins, in pixels
TICKS = 5

HEAD = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- transformer-playground
---
"""
USE = """## How to use it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")  # of the folder with these files
model = AutoModelForCausalLM.from_pretrained("PATH")
text = tokenizer("the beginning of a text", return_tensors="pt")
print(tokenizer.decode(model.generate(**text)[0]))
```
"""


def model_card(checkpoint: Checkpoint, kind: str) -> str:
    """The card in Markdown, of a model that is opened as this class of `transformers`."""
    parts = [HEAD, f"# {as_code(checkpoint.name)}\n", _what(checkpoint, kind), USE, _limits(checkpoint)]
    parts += [_data(checkpoint)] if checkpoint.provenance else []
    parts += [_training(checkpoint)] if checkpoint.history else []
    return "\n".join(parts)


def as_code(name: str) -> str:
    """A name as Markdown shows it letter by letter, whatever is in it.

    >>> as_code("*a* <b>`x`</b>")
    "`*a* <b>'x'< b>`"
    """
    return f"`{clean_name(name).replace('`', chr(39))}`"


def _what(checkpoint: Checkpoint, kind: str) -> str:
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    pieces = {"char": "single characters", "word": "words"}.get(tokenizer.kind, "byte-pair subwords")
    return f"""A decoder-only transformer from the Transformer Playground. In `transformers` it is a `{kind}`.

- {config.n_params:,} parameters: {config.n_layer} layers of {config.n_head} heads, {config.n_embd} wide
- context: {config.block_size:,} tokens
- vocabulary: {tokenizer.vocab_size:,} tokens, which are {pieces}
"""


def _limits(checkpoint: Checkpoint) -> str:
    loses = checkpoint.tokenizer.unk_id is not None
    unknown = " What its vocabulary lacks becomes one unknown token, `�`." if loses else ""
    return f"""Text and answer together have at most {checkpoint.config.block_size:,} tokens.{unknown} The model goes on
with a text in the manner of what it learned from. It follows no instructions, and what it says is not to be relied on.

All of these files together open in the playground again, with the history of the training.
"""


def _data(checkpoint: Checkpoint) -> str:
    texts = [
        f"- {as_code(text.name)}: {text.n_chars:,} characters, SHA-256 {as_code(text.sha256)}"
        for text in checkpoint.provenance
    ]
    order = " It learned from the first, and was then fine-tuned, in this order." if len(texts) > 1 else ""
    return "\n".join([f"## Data\n\nThe text is not among these files; this tells which it was.{order}\n", *texts, ""])


def _training(checkpoint: Checkpoint) -> str:
    train = checkpoint.train_config
    shape = f"{train.batch_size} × {checkpoint.config.block_size} tokens"
    lines = [
        "## Training\n",
        f"{checkpoint.step:,} steps of {shape} by {train.optimizer}, learning rate {train.learning_rate:g}, seed "
        f"{train.seed}. Losses are in nats a token; the last 10 % of the text were held out to validate.\n",
    ]
    if checkpoint.val_loss is not None:
        loss, perplexity = checkpoint.val_loss, exp(min(checkpoint.val_loss, 700))
        lines.append(f"Loss over all of the validation text: **{loss:.4f}**, a perplexity of {perplexity:.2f}.")
    if known := checkpoint.references:
        lines.append(
            f"By counting single tokens it would be {known.unigram:.4f}, by counting pairs {known.bigram:.4f}, by "
            f"guessing {known.uniform:.4f}."
        )
    lines.append(f"\n![Loss while training]({LOSS_PICTURE})\n\n| step | training | validation |\n| --: | --: | --: |")
    measured = [step for step in checkpoint.history if step.val_loss is not None]
    lines += [f"| {s.step:,} | {s.train_loss:.4f} | {s.val_loss:.4f} |" for s in _thinned(measured, MAX_ROWS)]
    return "\n".join([*lines, ""])


def _thinned(steps: Sequence[TrainStep], most: int) -> Sequence[TrainStep]:
    """Some of the steps, evenly: the last one is always there.

    >>> _thinned("abcdefg", 3)
    'adg'
    """
    return steps[::-1][:: max(1, ceil(len(steps) / most))][::-1]


# --- The curve --------------------------------------------------------------------------------------------------------


def loss_picture(history: Sequence[TrainStep]) -> str:
    """The losses by steps as an SVG: of each batch as a line, and of the evaluations as a line with points."""
    measured = [(step.step, step.val_loss) for step in history if step.val_loss is not None]
    batches = [(step.step, step.train_loss) for step in _thinned(history, MAX_POINTS)]
    losses = [loss for _, loss in batches + measured]
    low, high, last = min(losses), max(losses), max(1, history[-1].step)
    high = high if high > low else low + 1

    def place(step: float, loss: float) -> tuple[float, float]:
        across, up = step / last, (loss - low) / (high - low)
        return round(LEFT + across * (WIDTH - 2 * LEFT), 1), round(HEIGHT - BOTTOM - up * (HEIGHT - 2 * BOTTOM), 1)

    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'font-family="sans-serif" font-size="12" fill="#555">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            *(_line_of(low + (high - low) * i / (TICKS - 1), place) for i in range(TICKS)),
            *(_step_at(last * i // (TICKS - 1), place) for i in range(TICKS)),
            f'<text x="{LEFT}" y="20">loss in nats a token, by steps: <tspan fill="#767676">training</tspan>, '
            '<tspan fill="#c2410c">validation</tspan></text>',
            _curve([place(*point) for point in batches], "#767676", 1),
            _curve([place(*point) for point in measured], "#c2410c", 2),
            *(f'<circle cx="{x}" cy="{y}" r="3" fill="#c2410c"/>' for x, y in (place(*point) for point in measured)),
            "</svg>\n",
        ]
    )


def _line_of(loss: float, place) -> str:
    _, y = place(0, loss)
    return (
        f'<path d="M{LEFT} {y}H{WIDTH - LEFT}" stroke="#e5e5e5"/>'
        f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{loss:.3g}</text>'
    )


def _step_at(step: int, place) -> str:
    x, _ = place(step, 0)
    return f'<text x="{x}" y="{HEIGHT - 12}" text-anchor="middle">{step:,}</text>'


def _curve(points: Sequence[tuple[float, float]], colour: str, width: int) -> str:
    drawn = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
