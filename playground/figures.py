"""Figures to keep: what the page shows, drawn by matplotlib as PNG or SVG."""

import io

import numpy as np
from matplotlib.figure import Figure

from playground.inspection import Inspection
from playground.tokenizer import visible

MOST_LABELS = 64  # tokens that can still be told apart along an axis


def attention_figure(inspection: Inspection, layer: int | None, head: int | None, caption: str) -> Figure:
    """The weights (T, T) of one head as a heat map; None averages over the layer's heads, or over all layers."""
    weights = inspection.attention[slice(layer, None if layer is None else layer + 1)]  # (layers, nh, T, T)
    weights = weights[:, slice(head, None if head is None else head + 1)].mean(axis=(0, 1))  # (T, T)
    labels = [visible(token.text) for token in inspection.tokens]
    side = 3.2 + 0.14 * min(len(labels), MOST_LABELS)  # inches
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    masked = np.ma.array(weights, mask=np.triu(np.ones_like(weights, dtype=bool), k=1))  # the future is not drawn
    picture = axes.imshow(masked, vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(picture, ax=axes, shrink=0.7, label="attention weight")
    axes.set(title=f"{_heads(layer, head)}\n{caption}", xlabel="key (attended to)", ylabel="query (attends from)")
    axes.title.set_fontsize(9)
    if len(labels) <= MOST_LABELS:
        axes.set_xticks(range(len(labels)), labels, rotation=90, family="monospace", fontsize=7)
        axes.set_yticks(range(len(labels)), labels, family="monospace", fontsize=7)
    for text in (axes.title, *axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)  # a "$" in a name or a token does not begin a formula
    return figure


def to_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a "png" or "svg" file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=200)
    return buffer.getvalue()


def _heads(layer: int | None, head: int | None) -> str:
    if layer is None:
        return "Attention, average over all heads"
    if head is None:
        return f"Attention, layer {layer + 1}, average over its heads"
    return f"Attention, layer {layer + 1}, head {head + 1}"
