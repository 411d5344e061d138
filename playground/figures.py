"""Figures to keep: what the page shows, drawn by matplotlib as PNG or SVG, each with a caption that says of what."""

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from playground.checkpoint import MAX_NAME, Beginning, TrainStep
from playground.comparison import Compared
from playground.corpus import References
from playground.embeddings import PositionTable, Rotations, TokenMap
from playground.evaluation import Evaluation
from playground.heads import CLEAR, EVEN
from playground.inspection import HeadStages, Inspection, Lens, averaged
from playground.life import LEVELS, SCORES, Life
from playground.merging import Replay
from playground.model import causal_mask
from playground.tokenizer import visible

MOST_LABELS = 64  # tokens that can still be told apart along an axis
MOST_INCHES, LETTERS_AN_INCH = 16, 13
ORANGE, BLUE, VIOLET = "#ea580c", "#2563eb", "#a21caf"  # as on the page
RUN_COLOURS = ("#0072b2", "#c2410c", "#00795a", "#a8457f", "#8a6a00", "#4a4a4a")  # of run 1, 2, … as in run_table.css
RUN_DASHES = ("-", ":")  # of the first six runs, of the next, and so on
LOWER_BOUND = {"ls": "--", "alpha": 0.6}  # of a run with tokens that it does not know
OWN = "This model"  # what the one is called that a figure is about
LINE, MOST_LETTERS = 36, 1_500  # letters of a passage in a line, and in all
LETTER = {"family": "monospace", "fontsize": 9, "parse_math": False, "in_layout": False}
MOST_NATS = 8  # as on the page: what surprises more has the colour of that
MOST_NAMED = 400  # tokens of a map that are written out; the rest are dots


def attention_figure(inspection: Inspection, layer: int | None, head: int | None, caption: str) -> Figure:
    """The weights (T, T) of one head as a heat map; None averages over the layer's heads, or over all layers."""
    weights, labels = averaged(inspection.attention, layer, head), _labels(inspection)
    side = 3.2 + 0.14 * min(len(labels), MOST_LABELS)  # inches
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    picture = _draw_weights(axes, np.ma.array(weights, mask=~causal_mask(len(labels)).numpy()), labels)
    figure.colorbar(picture, ax=axes, shrink=0.7, label="attention weight")
    axes.set(xlabel="key (attended to)", ylabel="query (attends from)")
    _title(axes, f"Attention, {_head_name(layer, head)}\n{caption}")
    return figure


def mask_figure(
    inspection: Inspection, unmasked: np.ndarray, layer: int | None, head: int | None, caption: str
) -> Figure:
    """One head, or average, with the causal mask and without: `unmasked` are all weights (L, nh, T, T) without it."""
    labels = _labels(inspection)
    seen = causal_mask(len(labels)).numpy()
    side = 2.8 + 0.12 * min(len(labels), MOST_LABELS)  # inches
    figure = Figure(figsize=(2 * side, side), layout="constrained")
    parts = {
        "with the mask": np.ma.array(averaged(inspection.attention, layer, head), mask=~seen),
        "without it": averaged(unmasked, layer, head),
    }
    for axes, (what, weights) in zip(figure.subplots(1, 2), parts.items(), strict=True):
        picture = _draw_weights(axes, weights, labels)
        _title(axes, f"{_head_name(layer, head)}, {what}".capitalize())
    figure.colorbar(picture, ax=figure.axes, shrink=0.7, label="attention weight")
    figure.suptitle(caption, fontsize=9, parse_math=False)
    return figure


def stages_figure(stages: HeadStages, labels: Sequence[str], caption: str) -> Figure:
    """How one head came to its output: a row a token, from queries and keys over the weights to the output."""
    T, hs = stages.query.shape
    vectors, squares = 0.6 + 0.06 * min(hs, MOST_LABELS), 0.8 + 0.12 * min(T, MOST_LABELS)  # inches
    widths = (vectors, vectors, squares, squares, vectors, vectors)
    figure = Figure(figsize=(1.5 + sum(widths), 1.6 + squares), layout="constrained")
    parts = {
        "Q": stages.query,
        "K": stages.key,
        "masked (Q Kᵀ / √hs)": np.ma.masked_invalid(stages.masked),
        "softmax": np.ma.array(stages.weights, mask=~causal_mask(T).numpy()),
        "V": stages.value,
        "output": stages.output,
    }
    for axes, (what, table) in zip(figure.subplots(1, 6, width_ratios=widths), parts.items(), strict=True):
        largest = np.abs(table).max() or 1.0
        colours = {"cmap": "viridis", "vmin": 0, "vmax": 1} if what == "softmax" else _signed(largest)
        axes.imshow(table, aspect="auto", **colours)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(f"{what}\n{table.shape[0]} × {table.shape[1]}", fontsize=8, parse_math=False)
    if T <= MOST_LABELS:
        figure.axes[0].set_yticks(range(T), labels, family="monospace", fontsize=7, parse_math=False)
    figure.suptitle(_wrapped(caption, 90), fontsize=9, parse_math=False)
    return figure


def lens_figure(lens: Lens, token_text: Callable[[int], str], caption: str) -> Figure:
    """The most likely next tokens at each place of the residual stream, the last on top, and what was added there."""
    n_places, n_top = lens.top_ids.shape
    figure = Figure(figsize=(3 + 1.2 * n_top, 1.2 + 0.3 * n_places), layout="constrained")
    words, added = figure.subplots(1, 2, width_ratios=(4, 1), sharey=True)
    words.imshow(lens.top_probs, cmap="Oranges", vmin=0, vmax=1, aspect="auto")
    for place, rank in np.ndindex(lens.top_ids.shape):
        p = lens.top_probs[place, rank]
        text = f"{visible(token_text(int(lens.top_ids[place, rank])))} {100 * p:.1f} %"
        colour = "white" if p > 0.6 else "black"
        words.text(rank, place, text, ha="center", va="center", fontsize=7, color=colour, parse_math=False)
    words.set_yticks(range(n_places), lens.places, fontsize=7)
    words.set_xticks([])
    words.set(xlabel="what it would say, the likeliest on the left")
    words.invert_yaxis()
    added.barh(range(n_places), lens.length, color=BLUE)
    added.set(xlabel="length added")
    _title(words, caption)
    return figure


def _signed(largest: float) -> dict:
    """Colours of numbers below and above zero."""
    return {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}


def life_figure(life: Life, i: int, caption: str) -> Figure:
    """All heads in one snapshot, a row a layer, with their badges."""
    side, badges = len(life.ids) + 2, life.head_scores(i).badges  # two cells between the heads
    n_layer, n_head = life.attention.shape[1:3]
    seen = causal_mask(len(life.ids)).numpy()
    # One picture of all of them: a set of axes for each of 192 heads takes eleven seconds.
    roots = np.ma.masked_all((n_layer * side, n_head * side))
    for layer, head in np.ndindex(n_layer, n_head):
        tile = roots[layer * side :, head * side :][: side - 2, : side - 2]
        tile[seen] = life.attention[i, layer, head].numpy() / LEVELS
    width = min(1.4 * n_head + 0.4, MOST_INCHES)
    figure = Figure(figsize=(width, min(1.4 * n_layer + 0.8, MOST_INCHES)), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(roots, vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(picture, ax=axes, shrink=0.7, label="root of the attention weight")
    for layer, head in np.ndindex(n_layer, n_head) if n_layer * n_head <= MOST_LABELS else ():
        place = ((head + 0.96) * side - 2.5, layer * side)  # where the mask leaves room
        axes.text(*place, badges[layer][head], ha="right", va="top", fontsize=6)
    names = [[f"{part} {i + 1}" for i in range(n)] for part, n in (("head", n_head), ("layer", n_layer))]
    axes.set_xticks(np.arange(n_head) * side + side / 2 - 1.5, names[0], fontsize=7)
    axes.set_yticks(np.arange(n_layer) * side + side / 2 - 1.5, names[1], fontsize=7)
    axes.spines[:].set_visible(False)
    _title(axes, caption)
    return figure


def scores_figure(life: Life, score: str, layer: int, head: int, caption: str) -> Figure:
    """How one score of every head went, and of one among them: from 0 to 1 over the steps, which grow further apart."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    scores = life.scores[:, SCORES.index(score)].numpy()  # (S, L, nh)
    axes.plot(life.steps, scores.reshape(len(life.steps), -1), lw=0.6, color="0.6")
    axes.plot(life.steps, scores[:, layer, head], lw=2, color=ORANGE)
    axes.axhline(EVEN if score == "uniform" else CLEAR, ls="--", lw=0.8, color="0.5")
    axes.set_xscale("symlog", linthresh=1)  # a run's first step is 0
    axes.set(xlabel="step", ylabel=f"{score} score", ylim=(0, 1.02), xlim=(0, max(1, life.steps[-1])))
    _title(axes, f"{_head_name(layer, head).capitalize()}, among all heads\n{caption}")
    return figure


def passage_figure(life: Life, i: int, texts: Sequence[str], caption: str) -> Figure:
    """The passage in the colours of its losses, side by side: before training, in the snapshot `i`, and after it."""
    places, letters = sorted({0, i, len(life.steps) - 1}), _in_lines(texts)
    n_lines = 1 + max(line for line, *_ in letters)
    figure = Figure(figsize=(0.8 + 4.2 * len(places), 1.2 + 0.24 * n_lines), layout="constrained")
    for axes, place in zip(figure.subplots(1, len(places), squeeze=False)[0], places, strict=True):
        losses = np.append(np.nan, life.losses[place])  # nothing predicts the first token
        cells = np.full((n_lines, LINE), np.nan)
        for line, column, token, letter in letters:
            cells[line, column] = losses[token]
            colour = "white" if losses[token] > 0.55 * MOST_NATS else "black"
            axes.text(column, line, letter, ha="center", va="center", color=colour, **LETTER)
        picture = axes.imshow(cells, cmap="YlGnBu", vmin=0, vmax=MOST_NATS, aspect="auto")
        axes.set_axis_off()
        _title(axes, f"step {life.steps[place]:,}: {losses[1:].mean():.3f} nats a token")
    figure.colorbar(picture, ax=figure.axes, shrink=0.8, label="loss (nats)", extend="max")
    figure.suptitle(_wrapped(caption, 90), fontsize=9, parse_math=False)
    return figure


def _in_lines(texts: Sequence[str]) -> list[tuple[int, int, int, str]]:
    """Line and column of each letter of these tokens, and the token that it is of; the first MOST_LETTERS of them."""
    letters, line, column = [], 0, 0
    for token, text in enumerate(texts):
        for letter in " ".join(map(visible, text.split(" "))):  # a space is seen as one in a running text
            if column == LINE:
                line, column = line + 1, 0
            letters.append((line, column, token, letter))
            column += 1
        if text.endswith("\n"):
            line, column = line + 1, 0
    return letters[:MOST_LETTERS]


def loss_figure(
    history: Sequence[TrainStep], references: References | None, caption: str, beginning: Beginning | None = None
) -> Figure:
    """The losses of a run, of fine-tuning also those on the text learned before, and what counting alone reaches."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    before = [(0, beginning)] if beginning else []
    evaluated = before + [(step.step, step) for step in history if step.val_loss is not None]
    axes.plot([step.step for step in history], [step.train_loss for step in history], lw=0.6, color=ORANGE)
    steps = [step for step, _ in evaluated]
    axes.plot(steps, [seen.val_loss for _, seen in evaluated], "o-", ms=3, color=BLUE)
    names = ["training", "validation, new text" if beginning else "validation"]
    if beginning and beginning.first_text:
        axes.plot(steps, [seen.first_val_loss for _, seen in evaluated], "o--", ms=3, color=VIOLET)
        names.append(_wrapped(f"validation, earlier text: {beginning.first_text[:MAX_NAME]}", 40))
    for text in axes.legend(names, frameon=False).get_texts():
        text.set_parse_math(False)
    for i, name in enumerate(("uniform", "unigram", "bigram") if references else ()):
        loss, place = getattr(references, name), 0.99 - 0.2 * i  # side by side, since two may be about as high
        axes.axhline(loss, ls="--", lw=0.8, color="0.5")
        label = f"{name} {loss:.2f}"
        axes.text(place, loss, label, transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    _title(axes, caption)
    return figure


def comparison_figure(
    runs: Mapping[int, Compared], told: Mapping[int, str], reference: int | None, axis: str, title: str
) -> Figure:
    """The validation losses of runs by their numbers, that of the reference thicker, with what is `told` of each.

    In bits per character if that is known of all of them. `axis` is "step", "tokens" or "seconds", called `title`.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    in_bits = all(run.bits_per_nat for run in runs.values())
    for number, run in runs.items():
        at = [getattr(step, "step" if axis == "tokens" else axis) for step in run.evaluations]
        x = [run.tokens_per_step * step for step in at] if axis == "tokens" else at
        y = [step.val_loss * (run.bits_per_nat if in_bits else 1) for step in run.evaluations]
        colour, width = RUN_COLOURS[(number - 1) % 6], 3 if number == reference else 1.4
        line = LOWER_BOUND if run.n_unknown else {"ls": RUN_DASHES[(number - 1) // 6 % 2]}
        bound = [f"lower bound, {100 * run.unknown_share:.1f} % of tokens unknown"] if run.n_unknown else []
        label = _wrapped(" · ".join([run.name, told[number], *bound]), 32)
        axes.plot(x, y, color=colour, lw=width, label=f"{number}  {label}", **line)
        axes.annotate(number, (x[-1], y[-1]), xytext=(4, 0), textcoords="offset points", va="center", color=colour)
    for text in figure.legend(loc="outside right upper", fontsize=7, frameon=False).get_texts():
        text.set_parse_math(False)
    axes.set(xlabel=title, ylabel=f"validation loss ({'bits per character' if in_bits else 'nats per token'})")
    return figure


def merges_figure(seen: Replay, at: int, caption: str) -> Figure:
    """How a text falls from bytes to fewer and fewer tokens, a merge at a time; the merge `at` is marked."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    per_char = seen.n_tokens / max(1, seen.n_chars)  # (M + 1,)
    axes.plot(per_char, lw=2, color=ORANGE)
    axes.plot(at, per_char[at], "o", ms=6, color=ORANGE, clip_on=False)
    label = f"after {at:,} merges: {seen.n_tokens[at]:,} tokens, {per_char[at]:.3f} per character"
    side = {"ha": "left", "xytext": (8, 8)} if 2 * at < len(seen.times) else {"ha": "right", "xytext": (-8, -16)}
    axes.annotate(label, (at, per_char[at]), textcoords="offset points", fontsize=8, **side)
    axes.set(xlabel="merges", ylabel="tokens per character", ylim=(0, None), xlim=(0, len(seen.times)))
    _title(axes, f"Byte-pair merges\non {caption}")
    return figure


def token_map_figure(tokens: TokenMap, texts: Sequence[str], prompt: Sequence[int], caption: str) -> Figure:
    """Every token at its place, those of the prompt in frames; of a large vocabulary the first are written out."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*tokens.points.T, s=2, color=BLUE, alpha=0.5)
    frame = {"boxstyle": "round,pad=0.2", "facecolor": "white", "linewidth": 0.6}
    for i in {*range(min(MOST_NAMED, len(texts))), *prompt}:
        box = frame if i in prompt else None
        axes.annotate(visible(texts[i]), tokens.points[i], fontsize=6, family="monospace", parse_math=False, bbox=box)
    first, second = (f"{100 * share:.1f} % of the variance" for share in tokens.explained)
    axes.set(xlabel=f"1st component: {first}", ylabel=f"2nd component: {second}")
    axes.set_aspect("equal", "datalim")
    _title(axes, f"Token embeddings\n{caption}")
    return figure


def positions_figure(places: PositionTable | Rotations, caption: str) -> Figure:
    """What tells positions apart, a row each, and beside it how alike every two of them are."""
    rotations = isinstance(places, Rotations)
    table = np.cos(places.angles) if rotations else places.vectors  # (T, hs/2) or (T, C)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    largest = np.abs(table).max()
    T, width = table.shape
    place = (0.5, width + 0.5, T + 0.5, 0.5)  # counted from 1, as on the page
    picture = left.imshow(table, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto", extent=place)
    figure.colorbar(picture, ax=left, shrink=0.7)
    left.set(xlabel="pair of numbers" if rotations else "number", ylabel="position")
    _title(left, "Cosine of the angle by which a pair is turned" if rotations else "What is added to the embeddings")
    picture = right.imshow(places.similarity, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0.5, T + 0.5, T + 0.5, 0.5))
    figure.colorbar(picture, ax=right, shrink=0.7)
    right.set(xlabel="position", ylabel="position")
    _title(right, "How alike two positions are")
    figure.suptitle(caption, fontsize=9, parse_math=False)
    return figure


def rises_figure(rises: np.ndarray, caption: str) -> Figure:
    """By how many nats a token the loss rises without each head alone, and in the last column without the MLP.

    `rises` is (L, nh + 1). The colours go by the root of a rise, as on the page: one part may outweigh all others.
    """
    n_layer, n_columns = rises.shape
    figure = Figure(figsize=(1.6 + 0.8 * n_columns, 1.2 + 0.5 * n_layer), layout="constrained")
    axes = figure.subplots()
    roots = np.sign(rises) * np.sqrt(np.abs(rises))
    largest = np.abs(roots).max() or 1.0
    axes.imshow(roots, cmap="PuOr_r", vmin=-largest, vmax=largest, aspect="auto")
    for place in np.ndindex(rises.shape):
        colour = "white" if abs(roots[place]) > 0.7 * largest else "black"
        axes.text(*reversed(place), f"{rises[place]:+.3f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(n_columns), [*(f"head {i + 1}" for i in range(n_columns - 1)), "MLP"], fontsize=7)
    axes.set_yticks(range(n_layer), [f"layer {i + 1}" for i in range(n_layer)], fontsize=7)
    _title(axes, caption)
    return figure


def next_token_figure(texts: Sequence[str], probs: np.ndarray, uncut: np.ndarray, caption: str) -> Figure:
    """The likeliest next tokens with their probabilities (n,), and those at temperature 1 with nothing cut."""
    figure = Figure(figsize=(6, 0.8 + 0.3 * len(texts)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(texts))
    axes.barh(rows, uncut, fill=False, edgecolor="0.5", label="at temperature 1, nothing cut")
    axes.barh(rows, probs, color=ORANGE, alpha=0.8, label="with these settings")
    axes.set_yticks(rows, [visible(text) for text in texts], family="monospace", parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="probability")
    axes.legend(frameon=False, fontsize=7)
    _title(axes, f"The next token\n{caption}")
    return figure


def evaluation_figure(evaluation: Evaluation, others: Mapping[str, float], caption: str) -> Figure:
    """Bits per character of a model and of `others` by their names, the fewest on top; and the model's reliability."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    bits = {OWN: evaluation.bits_per_char} | others
    names = sorted(bits, key=bits.get)
    colours = [ORANGE if name == OWN else "0.7" for name in names]
    bars = left.barh(range(len(names)), [bits[name] for name in names], color=colours)
    left.bar_label(bars, fmt="%.3f", padding=3, fontsize=7)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.margins(x=0.12)
    left.set(xlabel="bits per character")
    filled = [bin for bin in evaluation.bins if bin.count]
    right.bar([bin.confidence for bin in filled], [bin.accuracy for bin in filled], width=0.06, color=BLUE, alpha=0.7)
    right.plot([0, 1], [0, 1], "--", lw=1, color=ORANGE)
    right.set(xlabel="probability of the likeliest token", ylabel="how often it came", xlim=(0, 1), ylim=(0, 1))
    _title(right, f"Calibration error {100 * evaluation.calibration_error:.1f} %")
    figure.suptitle(_wrapped(f"{caption}, {evaluation.n_tokens:,} tokens", 110), fontsize=9, parse_math=False)
    return figure


def to_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a "png" or "svg" file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=200)
    return buffer.getvalue()


def caption_of(figure: Figure) -> str:
    """What a figure says of itself, line by line as it reads in its file."""
    return figure.get_suptitle() or figure.axes[0].get_title()


def _draw_weights(axes: Axes, weights: np.ndarray, labels: list[str]) -> AxesImage:
    if len(labels) <= MOST_LABELS:
        axes.set_xticks(range(len(labels)), labels, rotation=90, family="monospace", fontsize=7)
        axes.set_yticks(range(len(labels)), labels, family="monospace", fontsize=7)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)  # a "$" in a token does not begin a formula
    return axes.imshow(weights, vmin=0, vmax=1, cmap="viridis")


def _title(axes: Axes, text: str) -> None:
    """In as many lines as it takes; a fixed width, since other letters melt into one, such as f and l."""
    n = int(
        LETTERS_AN_INCH
        * axes.get_figure().get_size_inches()[0]
        * axes.get_subplotspec().get_position(axes.figure).width
    )
    axes.set_title(_wrapped(text, max(20, n)), fontsize=8, family="monospace", parse_math=False)


def _wrapped(text: str, width: int) -> str:
    """Each of its lines in as many as it takes."""
    return "\n".join(wrapped for line in text.split("\n") for wrapped in textwrap.wrap(line, width))


def _labels(inspection: Inspection) -> list[str]:
    return [visible(token.text) for token in inspection.tokens]


def _head_name(layer: int | None, head: int | None) -> str:
    if layer is None:
        return "average over all heads"
    if head is None:
        return f"layer {layer + 1}, average over its heads"
    return f"layer {layer + 1}, head {head + 1}"
