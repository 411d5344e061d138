"""The embedding table as a map of tokens with each one's nearest neighbours, and below it what tells positions apart.

Letters: V vocabulary, T positions (the context length), C embedding size, hs head size.
"""

from collections.abc import Callable, Sequence

import gradio as gr
import numpy as np

from playground.embeddings import Neighbours, PositionTable, Rotations, TokenMap
from playground.tokenizer import Tokenizer, show
from playground.ui.components.base import component, packed

MOST_TOKENS = 2_000  # on the map, beside those of the prompt
MOST_CELLS = 256  # a side of a heat map
KINDS = ("letter", "digit", "space", "sign", "part")

TEMPLATE = """
<details class="look em">
  <summary>Embeddings and positions</summary>
  <p class="look-note" role="status"></p>
  <div class="look-body" hidden>
    <div class="look-part em-which">
    <p class="em-about"></p>
    <div class="em-tokens">
      <section class="em-picture" aria-label="Map of the tokens">
        <div class="em-stage look-stage">
          <canvas class="em-map"></canvas>
          <canvas class="em-light look-light" tabindex="0" role="application"
            aria-label="Map of the tokens. The arrow keys go to the next token in their direction."></canvas>
        </div>
        <p class="em-legend">
          <span class="em-letter"><i></i>letters</span> <span class="em-digit"><i></i>digits</span>
          <span class="em-space"><i></i>spaces</span> <span class="em-sign"><i></i>punctuation and signs</span>
          <span class="em-part"><i></i>part of a character, or unknown</span>
          <span class="em-prompt"><i></i>in the prompt</span>
        </p>
        <div class="figure-buttons" data-what="tokens"></div>
      </section>
      <section class="em-beside" aria-label="Nearest neighbours">
        <label class="look-choose">Find a token <input class="em-search" type="search" maxlength="64"></label>
        <p class="em-chosen" role="status"></p>
        <div class="look-scroll" tabindex="0" role="region" aria-label="The nearest tokens by cosine">
          <table>
            <thead>
              <tr><th scope="col">nearest</th><th scope="col">id</th><th scope="col">cosine</th></tr>
            </thead>
            <tbody></tbody>
          </table>
        </div>
      </section>
    </div>
    </div>
    <div class="look-part em-where">
    <h4>Positions</h4>
    <p class="em-places"></p>
    <div class="em-turn">
      <label>Position <input class="em-position" type="range" min="0" value="0"> <output></output></label>
      <div class="em-dials" role="img"></div>
    </div>
    <div class="figure-buttons em-positions" data-what="positions"></div>
    <div class="em-heats">
      <figure class="hm em-table"></figure>
      <figure class="hm em-similarity"></figure>
    </div>
    </div>
  </div>
</details>
"""


def embedding_map(embeddings: Callable, nearest: Callable, figure: Callable, **kwargs) -> gr.HTML:
    """The component, closed at first. Its value is what the tab looks at (see attention.py), or None.

    While it is open it asks `embeddings(id)` for `pack_map(...) | {"positions": pack_positions(...)}`, and
    `nearest([id, token id])` for `pack_neighbours(...)` of the token that is pointed at; `figure([id, what, kind])`
    is the map ("tokens") or the heat maps ("positions") as a PNG or SVG file. Each may return `{"error": sentence}`.

    On its element stand the facts that tests read: data-drawn, the number of tokens on the map, and data-chosen, the
    id of the one whose neighbours are listed; on a heat map's readout data-row, -column and -value.
    """
    functions = [embeddings, nearest, figure]
    return component("embedding_map", TEMPLATE, "look", "heat_map", "figure", server_functions=functions, **kwargs)


def pack_map(tokens: TokenMap, tokenizer: Tokenizer, prompt: Sequence[int]) -> dict:
    """The first MOST_TOKENS of the vocabulary by id, and all of the prompt's, with their places on the map.

    Of words and byte-pair entries the first are the most frequent ones; nothing tells how often a model saw a token.
    """
    V = len(tokens.points)
    ids = np.unique([*range(min(V, MOST_TOKENS)), *prompt])  # rising
    return {
        "vocab_size": V,
        "ids": ids.tolist(),
        "texts": [tokenizer.token_text(i) for i in ids],
        "kinds": [KINDS.index(kind_of(tokenizer, i)) for i in ids],
        "points": packed(tokens.points[ids].astype("<f4")),  # (n, 2)
        "explained": tokens.explained.tolist(),
        "prompt": list(prompt),
    }


def pack_neighbours(found: Neighbours, tokenizer: Tokenizer) -> dict:
    """The nearest tokens, the nearest first."""
    return {
        "ids": found.ids.tolist(),
        "texts": [tokenizer.token_text(i) for i in found.ids],
        "cosines": found.cosines.tolist(),
    }


def pack_positions(places: PositionTable | Rotations | None, kind: str) -> dict | None:
    """The table, of rotations their angles, and the similarity of positions, thinned to at most MOST_CELLS a side.

    `kind` is the model's `position`; "rows" are the positions and "columns" the numbers (or pairs of numbers) that are
    shown, counted from 0.
    """
    if places is None:
        return None
    table = places.angles if isinstance(places, Rotations) else places.vectors  # (T, C), of rotations (T, hs/2)
    rows = np.arange(len(table))[:: _stride(len(table))]
    # An odd stride, so that of sines and cosines in turn neither is lost.
    columns = np.arange(table.shape[1])[:: _stride(table.shape[1]) | 1]
    return {
        "kind": kind,
        "T": len(table),
        "width": table.shape[1],
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "table": packed(table[np.ix_(rows, columns)].astype("<f4")),
        "similarity": packed(places.similarity[np.ix_(rows, rows)].astype("<f4")),
    }


def kind_of(tokenizer: Tokenizer, id: int) -> str:
    """What sort of token an entry of the vocabulary is, by its first character that is not a space; one of KINDS."""
    text, kind = show(tokenizer.vocab[id])
    if kind == "bytes" or id == tokenizer.unk_id:
        return "part"
    first = text.strip()[:1]
    if not first:
        return "space"
    return "letter" if first.isalpha() else "digit" if first.isdigit() else "sign"


def _stride(n: int) -> int:
    return -(-n // MOST_CELLS)
