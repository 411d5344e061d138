"""The code of the course: the numbers beside its lines are those of the model itself, whatever its architecture."""

from itertools import product

import pytest
import torch
from handmade import random_checkpoint

from playground import walkthrough
from playground.checkpoint import Checkpoint
from playground.config import ACTIVATIONS, NORMS, POSITIONS
from playground.course import SECTIONS
from playground.errors import BadInput
from playground.inspection import inspect
from playground.model import Trace
from playground.tokenizer import CharTokenizer, train_tokenizer
from playground.walkthrough import CALLS, walk

TEXT = "the cat sat on the mat"


def model(**settings) -> Checkpoint:
    tokenizer = CharTokenizer.train(TEXT)
    return random_checkpoint(tokenizer, **{"n_embd": 8, "block_size": 32} | settings)


def made(checkpoint: Checkpoint, slug: str, *place: int) -> list[dict[str, str]]:
    """What is told to be made in each function of a section, by name."""
    listings = walk(checkpoint, checkpoint.tokenizer.encode(TEXT), slug, *place)
    return [dict(told.split(" ", 1) for line in seen.lines for told in line.made) for seen in listings]


def begins(told: str) -> list[float]:
    """The first numbers of an array."""
    return [float(number) for number in told.split(": ")[1].removesuffix(" …").split()]


def test_every_section_has_its_code():
    assert list(CALLS) == [section.slug for section in SECTIONS]


@pytest.mark.parametrize(("position", "norm", "activation"), list(product(POSITIONS, NORMS, ACTIVATIONS)))
def test_every_architecture_can_be_walked_through(position, norm, activation):
    checkpoint = model(position=position, norm=norm, activation=activation)
    for slug in CALLS:
        listings = walk(checkpoint, checkpoint.tokenizer.encode(TEXT), slug, 1, 1)
        assert listings and all(any(line.made for line in seen.lines) for seen in listings)
        assert all(seen.file.startswith("playground/") for seen in listings)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("place", [(0, 0), (1, 1)])
def test_the_numbers_are_those_of_the_model(position, place):
    checkpoint = model(position=position)
    seen = inspect(checkpoint, TEXT)
    layer, head = place
    weights = begins(made(checkpoint, "attention", layer, head)[0]["weights"])
    assert weights == pytest.approx(seen.attention[layer, head].flatten()[:3].tolist(), abs=1e-3)
    together = begins(made(checkpoint, "heads", layer, head)[0]["weights"])
    assert together == pytest.approx(seen.attention[layer].flatten()[:3].tolist(), abs=1e-3)
    logits = torch.from_numpy(seen.logits)  # (T, V)
    assert begins(made(checkpoint, "introduction")[0]["→"]) == pytest.approx(logits.flatten()[:3].tolist(), rel=1e-3)
    assert begins(made(checkpoint, "head")[0]["→"]) == pytest.approx(logits[-1][:3].tolist(), rel=1e-3)
    targets = torch.tensor(checkpoint.tokenizer.encode(TEXT)[1:])
    loss = -logits[:-1].log_softmax(-1)[range(len(targets)), targets].mean().item()
    assert float(made(checkpoint, "training")[0]["→"]) == pytest.approx(loss, rel=1e-5)


def test_a_layer_is_given_what_the_one_before_it_returned():
    checkpoint = model()
    first, second = (made(checkpoint, "layer", layer)[0] for layer in (0, 1))
    assert second["x"].split(":")[0] == f"(1, {len(TEXT)}, 8)"
    model_ = checkpoint.model
    x = model_.h[0](model_.wpe(model_.wte(torch.tensor([checkpoint.tokenizer.encode(TEXT)]))))
    assert begins(first["→"]) == pytest.approx(x.flatten()[:3].tolist(), rel=1e-3)


def test_subwords_show_how_a_word_is_joined():
    tokenizer = train_tokenizer("bpe", TEXT * 20, 262)
    checkpoint = random_checkpoint(tokenizer, block_size=32)
    encode, chunk = walk(checkpoint, tokenizer.encode(TEXT), "tokenizer")
    assert "_encode_chunk" in chunk.lines[0].text and "encode" in encode.lines[0].text
    assert chunk.lines[0].made == ("chunk ' cat'",)
    assert chunk.lines[-1].made == (f"→ ({', '.join(map(str, tokenizer.encode(' cat')))})",)


def test_one_token_is_enough_for_every_section():
    checkpoint = model(n_layer=1)
    ids = checkpoint.tokenizer.encode("t")
    for slug in CALLS:
        if slug != "training":
            assert walk(checkpoint, ids, slug)
    with pytest.raises(BadInput, match="a loss needs two"):
        walk(checkpoint, ids, "training")


def test_a_table_too_large_to_be_drawn_again_is_not(monkeypatch):
    monkeypatch.setattr(walkthrough, "SMALL", 10)
    with pytest.raises(BadInput, match="keep others waiting"):
        walk(model(), [0], "embedding")


@pytest.mark.parametrize("place", [(0, 0), (1, 1)])
def test_tokens_places_and_mask_are_those_of_the_sentence(place):
    checkpoint = model()
    ids, (layer, head) = checkpoint.tokenizer.encode(TEXT), place
    assert made(checkpoint, "tokenizer")[0] == {"text": repr(TEXT), "→": f"{len(ids)}: {ids[0]} {ids[1]} {ids[2]} …"}
    assert made(checkpoint, "masking")[0]["length"] == str(len(ids))
    trace = Trace(("q",))
    checkpoint.model(torch.tensor([ids]), trace)
    turned = made(checkpoint, "positions", layer, head)[1]["→"]
    assert begins(turned) == pytest.approx(trace.q[layer].flatten()[:3].tolist(), rel=1e-3)
    unit = torch.nn.functional.normalize(checkpoint.weights["wte.weight"].double(), dim=-1)
    assert begins(made(checkpoint, "embedding")[1]["cosines"]) == pytest.approx(
        (unit @ unit[ids[-1]])[:3].tolist(), rel=1e-3
    )
