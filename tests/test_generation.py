"""Generation against a slow rule in plain Python, the exact distribution (chi-square) and the page's own arithmetic."""

import doctest
import json
import math
import shutil
import subprocess
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import checkpoint_with_logits, random_checkpoint
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.stats import chisquare

from playground import generation as generation_module
from playground.checkpoint import Checkpoint
from playground.errors import BadInput
from playground.generation import (
    GenerationStep,
    Sampling,
    encode_prompt,
    generate_ids,
    next_logits,
    next_token_probs,
    stream_generate,
)
from playground.model import GPT
from playground.tokenizer import BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer

TEXT = "to be, or not to be: that is the question."
CHARS = CharTokenizer.train(TEXT)


def make_checkpoint(tokenizer: Tokenizer = CHARS) -> Checkpoint:
    return random_checkpoint(tokenizer)


def ids_of(steps) -> list[int]:
    return [step.id for step in steps]


def text_of(steps) -> str:
    return "".join(step.text for step in steps)


def test_the_examples_in_the_lesson_are_true():
    results = doctest.testmod(generation_module)
    assert results.attempted > 0 and results.failed == 0


# --- The distribution -------------------------------------------------------------------------------------------------


def plain_probs(logits: list[float], temperature: float, top_k: int, top_p: float) -> list[float]:
    """The rule as one would explain it, id by id."""
    likeliest_first = sorted(range(len(logits)), key=lambda id: (-logits[id], id))
    if temperature == 0:
        return [1.0 if id == likeliest_first[0] else 0.0 for id in range(len(logits))]
    kept = likeliest_first[:top_k] if top_k else likeliest_first
    power = {id: math.exp((logits[id] - max(logits)) / temperature) for id in kept}
    reached, nucleus = 0.0, []
    for id in kept:
        nucleus.append(id)
        reached += power[id] / sum(power.values())
        if top_p < 1 and reached >= top_p:
            break
    total = sum(power[id] for id in nucleus)
    return [power[id] / total if id in nucleus else 0.0 for id in range(len(logits))]


one_logit = st.one_of(st.integers(-3, 3).map(float), st.floats(-30, 30, width=32))  # whole ones for many ties


@settings(deadline=None, max_examples=500)
@given(
    logits=st.lists(one_logit, min_size=1, max_size=12),
    temperature=st.one_of(st.just(0), st.just(1.0), st.floats(0.01, 5)),
    top_k=st.integers(0, 12),
    top_p=st.one_of(st.just(1), st.floats(0.001, 1)),
)
def test_the_distribution_is_that_of_the_plain_rule(logits, temperature, top_k, top_p):
    top_k = min(top_k, len(logits))
    if top_p < 1:  # on the very edge of top-p, the last digit of a sum decides
        below, above = (plain_probs(logits, temperature, top_k, top_p * near) for near in (1 - 1e-9, 1 + 1e-9))
        assume(below == above)
    expected = plain_probs(logits, temperature, top_k, top_p)
    probs = next_token_probs(torch.tensor(logits), Sampling(temperature, top_k, top_p))
    assert probs.dtype == torch.float64
    assert probs.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-300)  # what is cut off is exactly 0


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.125, 0.25, 0.5, 0.125]),
        (Sampling(temperature=0), [0, 0, 1, 0]),
        (Sampling(temperature=0.5), [1 / 22, 4 / 22, 16 / 22, 1 / 22]),  # each probability squared
        (Sampling(top_k=1), [0, 0, 1, 0]),
        (Sampling(top_k=2), [0, 1 / 3, 2 / 3, 0]),
        (Sampling(top_k=3), [1 / 7, 2 / 7, 4 / 7, 0]),  # of the equal ids 0 and 3 the lower stays
        (Sampling(top_k=4), [0.125, 0.25, 0.5, 0.125]),
        (Sampling(top_p=0.4), [0, 0, 1, 0]),
        (Sampling(top_p=0.6), [0, 1 / 3, 2 / 3, 0]),
        (Sampling(top_p=0.8), [1 / 7, 2 / 7, 4 / 7, 0]),
        (Sampling(top_p=0.9), [0.125, 0.25, 0.5, 0.125]),
        (Sampling(top_k=2, top_p=0.6), [0, 0, 1, 0]),  # top-p is of what top-k left: 2/3 is enough
    ],
)
def test_the_distribution_worked_out_by_hand(sampling, expected):
    probs = next_token_probs(torch.tensor([1.0, 2, 4, 1]).log(), sampling)
    assert probs.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("top_p", [0.25, 0.5, 0.75])
def test_a_nucleus_that_reaches_top_p_exactly_ends_there(top_p):
    n_kept = int(8 * top_p)
    probs = next_token_probs(torch.zeros(8), Sampling(top_p=top_p))  # eighths have no rounding errors
    assert probs.tolist() == [1 / n_kept] * n_kept + [0] * (8 - n_kept)


@pytest.mark.parametrize("temperature", [1e-3, 1e-100, 1e-310, 5e-324])
def test_a_tiny_temperature_is_almost_greedy(temperature):
    probs = next_token_probs(torch.tensor([1.0, 30, 30, 29]), Sampling(temperature))
    assert probs.tolist() == [0, 0.5, 0.5, 0]


def test_the_logits_are_left_as_they_were():
    logits = torch.tensor([1.0, 3, 2], dtype=torch.float64)
    next_token_probs(logits, Sampling(0.5, 2, 0.5))
    assert logits.tolist() == [1, 3, 2]


# --- The page's own arithmetic ----------------------------------------------------------------------------------------

NEXT_TOKEN_JS = Path(__file__).parents[1] / "playground/ui/components/next_token.js"
RUN_CASES = """
const cases = JSON.parse(require("fs").readFileSync(0, "utf-8"));
const answers = cases.map(([logits, ...sampling]) => Array.from(distribution(Float32Array.from(logits), ...sampling)));
console.log(JSON.stringify(answers));
"""


def test_the_page_computes_the_same_distribution():
    node = shutil.which("node")
    if not node:
        pytest.skip("Node.js is not installed, so the page's JavaScript cannot be run outside a browser.")
    rng, cases = np.random.default_rng(0), []
    for n in range(300):
        V = int(rng.integers(1, 80))
        logits = rng.normal(0, 3, V) if n % 2 else rng.integers(-2, 3, V)  # every other one is full of ties
        temperature = float(rng.choice([0, rng.uniform(0.05, 5)], p=[0.1, 0.9]))
        top_k, top_p = int(rng.choice([0, rng.integers(1, V + 1)])), float(rng.choice([1, rng.uniform(0.01, 1)]))
        cases.append((logits.astype("float32").tolist(), temperature, top_k, top_p))
    arithmetic, mark, _ = NEXT_TOKEN_JS.read_text(encoding="utf-8").partition("\n// From here on the page.")
    assert mark
    script = [node, "-e", arithmetic + RUN_CASES]
    result = subprocess.run(script, input=json.dumps(cases), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for (logits, *sampling), answer in zip(cases, json.loads(result.stdout), strict=True):
        probs = next_token_probs(torch.tensor(logits), Sampling(*sampling))
        np.testing.assert_allclose(answer, probs.numpy(), rtol=1e-9, atol=0)  # and 0 where it is 0


# --- Drawing ----------------------------------------------------------------------------------------------------------

LETTERS = CharTokenizer.train("abcdefghi")  # nine letters and the unknown one: V is 10
LETTER_LOGITS = [0.0, 2.0, -1.0, 1.5, 0.5, 1.5, -2.0, 1.0, 0.0, -0.5]


def draw_counts(sampling: Sampling, n: int = 4_000) -> np.ndarray:
    checkpoint = checkpoint_with_logits(LETTER_LOGITS, LETTERS)
    return np.bincount(ids_of(stream_generate(checkpoint, "a", n, sampling, seed=0)), minlength=10)


def p_value(counts: np.ndarray, probs: ArrayLike) -> float:
    """How often counts at least as far off as these come by chance, when `probs` is what they were drawn from."""
    possible = np.array(probs) > 0
    assert counts[~possible].sum() == 0
    return chisquare(counts[possible], counts.sum() * np.array(probs)[possible]).pvalue


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(0.7), Sampling(1.5, top_k=4), Sampling(top_p=0.8), Sampling(1.2, top_k=8, top_p=0.9)],
    ids=str,
)
def test_tokens_are_drawn_from_the_exact_distribution(sampling):
    counts = draw_counts(sampling)
    exact = plain_probs(LETTER_LOGITS, sampling.temperature, sampling.top_k, sampling.top_p)
    assert p_value(counts, exact) > 0.01
    # And the test is sharp: these draws do not pass for those of twice the temperature, from the same tokens.
    other = np.array(plain_probs(LETTER_LOGITS, 2 * sampling.temperature, 0, 1)) * (np.array(exact) > 0)
    assert p_value(counts, other / other.sum()) < 1e-6


def test_one_draw_tells_nothing_of_the_next():
    sampling = Sampling(top_k=3)
    checkpoint = checkpoint_with_logits(LETTER_LOGITS, LETTERS)
    drawn = ids_of(stream_generate(checkpoint, "a", 4_000, sampling, seed=0))
    probs = np.array(plain_probs(LETTER_LOGITS, 1, 3, 1))
    pairs = np.zeros((10, 10), int)
    np.add.at(pairs, tuple(zip(*pairwise(drawn), strict=True)), 1)
    assert p_value(pairs.ravel(), np.outer(probs, probs).ravel()) > 0.01


def test_the_probability_told_is_that_of_the_token():
    probs = plain_probs(LETTER_LOGITS, 0.8, 5, 1)
    checkpoint = checkpoint_with_logits(LETTER_LOGITS, LETTERS)
    for step in stream_generate(checkpoint, "a", 50, Sampling(0.8, top_k=5), seed=0):
        assert step.probability == pytest.approx(probs[step.id], rel=1e-6)


# --- Going on from a prompt -------------------------------------------------------------------------------------------


def cropped_logits(checkpoint: Checkpoint, ids: list[int]) -> torch.Tensor:
    """The logits (V,) after `ids`, of which a new model with the same weights sees the last `block_size`."""
    model = GPT(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    return model.eval()(torch.tensor([ids[-8:]]))[0, -1].detach()


@pytest.mark.parametrize("prompt", ["t", "to be, o", "to be, or not to be"])  # shorter than the context, full, longer
def test_temperature_0_takes_the_likeliest_and_the_window_slides(prompt):
    checkpoint = make_checkpoint()
    steps = list(stream_generate(checkpoint, prompt, 30, Sampling(temperature=0), seed=0))
    ids = CHARS.encode(prompt)
    for step in steps:
        assert (step.id, step.probability) == (int(cropped_logits(checkpoint, ids).argmax()), 1.0)
        ids.append(step.id)
    assert len(steps) == 30


def test_sampling_past_the_context_is_plain_cropping():
    checkpoint, ids = make_checkpoint(), CHARS.encode("to be")
    for step in stream_generate(checkpoint, "to be", 30, Sampling(1.3), seed=5):
        probs = plain_probs(cropped_logits(checkpoint, ids).tolist(), 1.3, 0, 1)
        assert step.probability == pytest.approx(probs[step.id], rel=1e-4)
        ids.append(step.id)
    assert len(ids) == 5 + 30 > checkpoint.config.block_size


def test_the_next_logits_are_the_models():
    checkpoint, ids = make_checkpoint(), CHARS.encode("to be, or not")
    torch.testing.assert_close(next_logits(checkpoint.model, ids), cropped_logits(checkpoint, ids))


def test_the_same_seed_gives_the_same_text_whatever_else_draws():
    checkpoint = make_checkpoint()
    assert checkpoint.model  # made before, since a new model's first weights are random too

    def text(seed: int, global_seed: int) -> str:
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        result = text_of(stream_generate(checkpoint, "to be", 40, Sampling(), seed))
        assert torch.equal(torch.get_rng_state(), before)
        return result

    assert text(7, global_seed=1) == text(7, global_seed=2)
    assert text(7, global_seed=1) != text(8, global_seed=1)


def test_two_texts_written_in_turns_are_those_written_alone():
    checkpoint = make_checkpoint()
    alone = [list(stream_generate(checkpoint, "to be", 20, Sampling(), seed)) for seed in (1, 2)]
    turns = zip(*(stream_generate(checkpoint, "to be", 20, Sampling(), seed) for seed in (1, 2)), strict=True)
    assert [list(steps) for steps in zip(*turns, strict=True)] == alone


def test_generate_ids_goes_on_without_end_and_leaves_the_prompt_alone():
    checkpoint, ids = make_checkpoint(), CHARS.encode("to be")
    pairs = list(islice(generate_ids(checkpoint.model, ids, Sampling(), seed=3), 25))
    steps = list(stream_generate(checkpoint, "to be", 25, Sampling(), seed=3))
    assert pairs == [(step.id, step.probability) for step in steps]
    assert ids == CHARS.encode("to be")


@pytest.mark.parametrize(
    "tokenizer",
    [CHARS, WordTokenizer.train(TEXT, 20), BPETokenizer.train(TEXT, 260)],
    ids=lambda tokenizer: tokenizer.kind,
)
def test_the_pieces_of_text_are_the_whole_text(tokenizer):
    # A random byte-pair model writes mostly bytes that are no characters, or halves of them, to the very last.
    for seed in range(5):
        steps = list(stream_generate(make_checkpoint(tokenizer), "to be", 30, Sampling(), seed))
        assert len(steps) == 30
        assert text_of(steps) == tokenizer.decode(ids_of(steps))


def test_a_character_comes_when_its_last_byte_does():
    bytes_only = BPETokenizer.train(TEXT, 256)
    logits = [0.0] * 256
    logits["é".encode()[0]] = 99.0  # always the first half of a character
    steps = list(stream_generate(checkpoint_with_logits(logits, bytes_only), "x", 3, Sampling(0), seed=0))
    assert steps == [
        GenerationStep(0xC3, 1.0, ""),
        GenerationStep(0xC3, 1.0, "\ufffd"),  # now it is certain that the first was no character
        GenerationStep(0xC3, 1.0, "\ufffd\ufffd"),  # and with the last token all that was held back
    ]


# --- What is refused --------------------------------------------------------------------------------------------------

V = CHARS.vocab_size
GOOD = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 3, "seed": 0, "prompt": "to be"}


def start(**changed):
    """Only starts, so a refusal must come before the first token is asked for."""
    arguments = {**GOOD, **changed}
    sampling = Sampling(*(arguments.pop(name) for name in ("temperature", "top_k", "top_p")))
    return stream_generate(make_checkpoint(), sampling=sampling, **arguments)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("temperature", [-0.1, 5.01, math.nan, math.inf, -math.inf, "1", True, None, 1j], "Temperature must be"),
        ("top_k", [-1, V + 1, 2.5, math.nan, math.inf, "3", True, None], "Top-k must be a whole number"),
        ("top_p", [0, -0.5, 1.01, math.nan, math.inf, "0.9", True, None], "Top-p must be"),
        ("max_new_tokens", [0, -1, 5_001, 2.5, math.nan, math.inf, "9", True, None], "number of tokens must be"),
        ("seed", [-1, 2**32, 1.5, math.nan, math.inf, "7", True, None], "seed must be a whole number"),
        ("prompt", [""], "prompt is empty"),
        ("prompt", ["Ω", "ΩЖ\u4e2d", "\ud800"], "knows nothing in this prompt"),
        ("prompt", ["to be " * 16_667], "has 100,002 characters"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(name, values, sentence):
    for value in values:
        with pytest.raises(BadInput, match=sentence) as refusal:
            start(**{name: value})
        assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "max_new_tokens", "seed"])
def test_a_number_too_large_for_a_float_is_refused_too(name):
    with pytest.raises(BadInput):
        start(**{name: 10**400})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [0, 5, 5e-324]),
        ("top_k", [0, 1, V, 3.0]),  # a slider may send 3.0
        ("top_p", [1, 1e-9]),
        ("max_new_tokens", [1, 3.0]),
        ("seed", [0, 2**32 - 1, 7.0]),
        ("prompt", ["t", "Ω is the question", "to be " * 16_666]),
    ],
)
def test_settings_at_their_limits_work(name, values):
    for value in values:
        arguments = {**GOOD, name: value}
        assert len(list(start(**{name: value}))) == arguments["max_new_tokens"]


def test_a_prompt_of_unknown_words_is_refused_with_words_that_are_known():
    words = WordTokenizer.train(TEXT, 20)
    with pytest.raises(BadInput, match=r"such as .*“·be”"):
        encode_prompt(words, "zebra")
    assert words.unk_id in encode_prompt(words, "to zebra")


def test_byte_pair_knows_something_in_every_prompt():
    tokenizer = BPETokenizer.train(TEXT, 256)
    assert encode_prompt(tokenizer, "Ω") == list("Ω".encode())
