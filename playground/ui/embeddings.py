"""Embeddings and positions in the Attention tab: what the page asks of a model's tables."""

from collections.abc import Callable

from playground.embeddings import neighbours, positions, token_map
from playground.errors import BadInput
from playground.ui.components.downloads import pack_figure
from playground.ui.components.embedding_map import pack_map, pack_neighbours, pack_positions
from playground.ui.shown import Inspections
from playground.ui.site import Site, answer


def functions(site: Site, inspections: Inspections) -> dict[str, Callable]:
    """The server functions of the part, by their names. Both look at the model of a trace that is shown, by its id."""

    @answer(str)
    def embeddings(key):
        shown = inspections.get(key)
        checkpoint = shown.checkpoint
        with site.visit():
            tokens, places = token_map(checkpoint), positions(checkpoint)
        packed_places = pack_positions(places, checkpoint.config.position)
        return pack_map(tokens, checkpoint.tokenizer, shown.ids) | {"positions": packed_places}

    @answer(str, int)
    def nearest(key, id):
        checkpoint = inspections.get(key).checkpoint
        if not 0 <= id < checkpoint.config.vocab_size:
            raise BadInput("The model has no such token: choose one of the picture.")
        with site.visit():
            found = neighbours(checkpoint, id)
        return pack_neighbours(found, checkpoint.tokenizer)

    @answer(str, str, str)
    def figure(key, what, kind):
        shown = inspections.get(key)
        checkpoint = shown.checkpoint
        if what == "positions":
            places = positions(checkpoint)
            if places is None:
                raise BadInput("This model has no positions to draw: only the mask tells it the order.")
            return pack_figure("positions", kind, lambda figures: figures.positions_figure(places, shown.caption))
        with site.visit():
            tokens = token_map(checkpoint)
        texts = [checkpoint.tokenizer.token_text(i) for i in range(len(tokens.points))]
        return pack_figure(
            "embeddings", kind, lambda figures: figures.token_map_figure(tokens, texts, shown.ids, shown.caption)
        )

    return {function.__name__: function for function in (embeddings, nearest, figure)}
