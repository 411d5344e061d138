"""Generation against a slow rule in plain Python, the exact distribution (chi-square) and the page's own arithmetic."""

import doctest
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from itertools import cycle, islice, pairwise
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
from playground.config import ACTIVATIONS, NORMS, POSITIONS
from playground.errors import BadInput
from playground.generation import (
    GenerationStep,
    Sampling,
    encode_prompt,
    generate_ids,
    next_logits,
    next_token_probs,
    next_window,
    stream_generate,
)
from playground.model import GPT
from playground.reader import Reader
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

DISTRIBUTION_JS = Path(__file__).parents[1] / "playground/ui/components/distribution.js"
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
    script = [node, "-e", DISTRIBUTION_JS.read_text(encoding="utf-8") + RUN_CASES]
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


def plain_logits(checkpoint: Checkpoint, ids: list[int]) -> torch.Tensor:
    """The logits (V,) after `ids` by a new model with the same weights, which reads all of them at once."""
    model = GPT(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    return model.eval()(torch.tensor([ids]))[0, -1].detach()


def n_in_sight(n_prompt: int, block_size: int) -> Iterator[int]:
    """How many tokens the model sees when it draws the first, the second, …: to a full context, half, up again."""
    yield from range(min(n_prompt, block_size), block_size + 1)
    yield from cycle(range(block_size // 2, block_size + 1))


def plain_generation(
    checkpoint: Checkpoint, prompt: str, sampling: Sampling, seed: int, n: int
) -> tuple[list[int], list[float]]:
    """Ids and their probabilities, without a cache: for each token all that is in sight is read again."""
    ids, probabilities, generator = checkpoint.tokenizer.encode(prompt), [], torch.Generator().manual_seed(seed)
    n_prompt = len(ids)
    for n_seen in islice(n_in_sight(n_prompt, checkpoint.config.block_size), n):
        probs = next_token_probs(plain_logits(checkpoint, ids[-n_seen:]), sampling)
        ids.append(int(torch.multinomial(probs, 1, generator=generator)))
        probabilities.append(probs[ids[-1]].item())
    return ids[n_prompt:], probabilities


def assert_plain(checkpoint: Checkpoint, prompt: str, sampling: Sampling, seed: int = 5, n: int = 20) -> None:
    """Exactly the same tokens as the plain way; and so they were drawn with the same probabilities."""
    steps = list(stream_generate(checkpoint, prompt, n, sampling, seed))
    ids, probabilities = plain_generation(checkpoint, prompt, sampling, seed, n)
    assert ids_of(steps) == ids
    assert [step.probability for step in steps] == pytest.approx(probabilities, rel=0, abs=1e-6)


PROMPTS = ["t", "to be, o", "to be, or not to be"]  # for a context of 8: shorter, full, longer


@pytest.mark.parametrize("qk_norm", [True, False], ids=["qk_norm", ""])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("position", POSITIONS)
def test_a_model_of_any_kind_writes_what_it_writes_without_a_cache(position, norm, activation, qk_norm):
    kind = {"position": position, "norm": norm, "activation": activation, "qk_norm": qk_norm}
    for prompt, bias in zip(PROMPTS, (False, True, False), strict=True):
        assert_plain(random_checkpoint(CHARS, scale=0.3, **kind, bias=bias), prompt, Sampling(1.3))


@pytest.mark.parametrize("block_size", [4, 5, 7, 16])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_any_context_writes_what_it_writes_without_a_cache(block_size, prompt):
    checkpoint = random_checkpoint(CHARS, block_size=block_size)
    assert_plain(checkpoint, prompt, Sampling(1.3), n=3 * block_size)


@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(0.7, top_k=5), Sampling(top_p=0.8)], ids=str)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_any_sampling_writes_what_it_writes_without_a_cache(sampling, prompt):
    for seed in range(3):
        assert_plain(make_checkpoint(), prompt, sampling, seed)


@pytest.mark.parametrize(
    ("n_prompt", "in_sight"),
    [
        (1, [1, 2, 3, 4, 5, 6, 7, 8, 4, 5, 6, 7, 8, 4]),
        (8, [8, 4, 5, 6, 7, 8, 4, 5]),
        (19, [8, 4, 5, 6, 7, 8, 4, 5]),
    ],
)
def test_the_window_worked_out_by_hand(n_prompt, in_sight):
    assert list(islice(n_in_sight(n_prompt, 8), len(in_sight))) == in_sight
    text = list(range(100))
    window = text[:n_prompt][-8:]
    for n_drawn, n_seen in enumerate(in_sight):
        assert window == text[: n_prompt + n_drawn][-n_seen:]
        window = next_window(window, text[n_prompt + n_drawn], block_size=8)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_first_token_is_drawn_from_what_the_page_shows(prompt):
    checkpoint = make_checkpoint()
    shown = next_token_probs(next_logits(checkpoint.model, CHARS.encode(prompt)), Sampling(1.3))
    for seed in range(20):
        first = next(stream_generate(checkpoint, prompt, 5, Sampling(1.3), seed))
        assert first.probability == pytest.approx(shown[first.id].item(), abs=1e-6)


def test_what_was_read_is_not_read_again(monkeypatch):
    reads, read = [], Reader.read
    monkeypatch.setattr(Reader, "read", lambda reader, ids: reads.append(len(ids)) or read(reader, ids))
    checkpoint = make_checkpoint()  # with a context of 8
    list(stream_generate(checkpoint, "to be", 12, Sampling(), seed=0))
    # The prompt, three more that fill the context, and half a context anew whenever it is full.
    assert reads == [5, 1, 1, 1, 4, 1, 1, 1, 1, 4, 1, 1]
    reads.clear()
    list(stream_generate(checkpoint, "to be", 1_000, Sampling(), seed=0))
    assert sum(reads) < 2 * 1_000  # and so it goes on


def test_the_next_logits_are_the_models():
    checkpoint, ids = make_checkpoint(), CHARS.encode("to be, or not")
    torch.testing.assert_close(next_logits(checkpoint.model, ids), plain_logits(checkpoint, ids[-8:]))


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
