"""Writing text: ours beside `transformers` on the same weights, and beside a loop without a cache; the first token.

The model has the shape of the Small preset and random weights. `transformers` gets it exported, which makes it a Qwen3,
and writes with its own `generate` and its cache. All write in turns, several times.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, Qwen3ForCausalLM

from benchmarks.row import Row, at_most, more_is_better
from playground.checkpoint import Checkpoint
from playground.config import PRESETS
from playground.export import export_files
from playground.files import write_folder
from playground.generation import Sampling, generate_ids, next_logits, next_token_probs, stream_generate
from playground.model import GPT
from playground.tokenizer import CharTokenizer

PROMPT_TOKENS = 64
NEW_TOKENS = 256
ROUNDS = 7
FIRST_TOKENS = 50  # how often the first token is waited for

SHAPE = PRESETS["small"].model
CHARS = CharTokenizer.train("".join(map(chr, range(ord("!"), ord("!") + SHAPE.vocab_size - 1))))
PROMPT = CHARS.decode([7 * i % (SHAPE.vocab_size - 1) for i in range(PROMPT_TOKENS)])
SAMPLING = Sampling()


def rows() -> Iterator[Row]:
    checkpoint = random_checkpoint(block_size=PROMPT_TOKENS + NEW_TOKENS)
    qwen = in_transformers(checkpoint)
    for n_threads in sorted({1, torch.get_num_threads()}):
        with threads(n_threads):
            yield beside_transformers(checkpoint, qwen, n_threads)
    with threads(1):  # as on the page
        for block_size in (SHAPE.block_size, 256):
            yield beside_no_cache(random_checkpoint(block_size).model)
        yield first_token(random_checkpoint(SHAPE.block_size))


def beside_transformers(checkpoint: Checkpoint, qwen: Qwen3ForCausalLM, n_threads: int) -> Row:
    ids = torch.tensor([CHARS.encode(PROMPT)])
    settings = {
        "do_sample": True,
        "temperature": SAMPLING.temperature,
        "use_cache": True,
        "attention_mask": torch.ones_like(ids),
    }

    def ours() -> None:
        assert len(list(stream_generate(checkpoint, PROMPT, NEW_TOKENS, SAMPLING, seed=0))) == NEW_TOKENS

    def theirs() -> None:
        text = qwen.generate(ids, max_length=PROMPT_TOKENS + NEW_TOKENS, **settings)
        assert text.shape == (1, PROMPT_TOKENS + NEW_TOKENS)

    our_rate, their_rate = tokens_per_second(ours, theirs)
    on = "1 thread" if n_threads == 1 else f"{n_threads} threads"
    what = f"writing {NEW_TOKENS} tokens on {on}, transformers with its cache"
    return more_is_better(what, "tokens/s", our_rate, their_rate, goal=5)


def beside_no_cache(model: GPT) -> Row:
    """Both go on from a prompt that fills the context."""
    block_size = model.config.block_size
    prompt = [i % SHAPE.vocab_size for i in range(block_size)]
    drawn = generate_ids(model, prompt, SAMPLING, seed=0)

    def ours() -> None:
        for _ in islice(drawn, NEW_TOKENS):
            pass

    def theirs() -> None:
        ids, generator = list(prompt), torch.Generator().manual_seed(0)
        for _ in range(NEW_TOKENS):
            probs = next_token_probs(next_logits(model, ids), SAMPLING)
            ids.append(int(torch.multinomial(probs, 1, generator=generator)))

    our_rate, their_rate = tokens_per_second(ours, theirs)
    what = f"writing beyond a full context of {block_size} tokens, a loop without a cache"
    return more_is_better(what, "tokens/s", our_rate, their_rate, goal=10)


def first_token(checkpoint: Checkpoint) -> Row:
    def wait() -> None:
        next(stream_generate(checkpoint, PROMPT, NEW_TOKENS, SAMPLING, seed=0))

    wait()
    milliseconds = 1_000 * median(seconds(wait) for _ in range(FIRST_TOKENS))
    return at_most(f"first token after a prompt of {PROMPT_TOKENS}", "ms", milliseconds, goal=20)


def tokens_per_second(ours: Callable[[], None], theirs: Callable[[], None]) -> tuple[float, float]:
    """Of each, the median of several rounds in turn; a first one, in which memory and threads are made, is left out."""
    rounds = [(seconds(ours), seconds(theirs)) for _ in range(1 + ROUNDS)][1:]
    our_rate, their_rate = (NEW_TOKENS / median(times) for times in zip(*rounds, strict=True))
    return our_rate, their_rate


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    yield
    torch.set_num_threads(before)


# ---- The model, ours and theirs --------------------------------------------------------------------------------------


def random_checkpoint(block_size: int) -> Checkpoint:
    """All matrices random, none zero as at the start of training, so that every layer counts."""
    config, generator = replace(SHAPE, block_size=block_size), torch.Generator().manual_seed(0)
    weights = GPT(config, generator).state_dict()
    for weight in weights.values():
        if weight.dim() == 2:
            weight.normal_(0.0, weight.size(1) ** -0.5, generator=generator)
    return Checkpoint("Random", config, CHARS, weights, PRESETS["small"].train)


@torch.inference_mode()
def in_transformers(checkpoint: Checkpoint) -> Qwen3ForCausalLM:
    """The same model, exported and opened there."""
    with TemporaryDirectory() as folder:
        write_folder(Path(folder) / "model", export_files(checkpoint))
        qwen = AutoModelForCausalLM.from_pretrained(Path(folder) / "model").eval()
    config = checkpoint.config
    ids = torch.arange(config.block_size)[None] % config.vocab_size
    torch.testing.assert_close(qwen(ids).logits, checkpoint.model(ids), rtol=0, atol=1e-4)
    return qwen
