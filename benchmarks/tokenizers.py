"""Byte-pair encoding of one megabyte: ours beside the textbook's loop and beside the `tokenizers` library, in Rust.

Both cut the text by the same pattern. Rust gets it in the way that it is fastest at: in lines to train, which it counts
in parallel, and as a whole and without character offsets to encode. Every encoder is new, so that none remembers words.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from statistics import median

import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

from benchmarks.row import Row, less_is_better
from playground.config import N_BYTES
from playground.tokenizer import BPETokenizer, Pair

TEXT = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"
VOCAB_SIZE = 1_024
N_STEPS = 8  # of the textbook's 768
ROUNDS = 5

CHUNK = r" ?\w{1,32}| ?[^\s\w]{1,32}|\s{1,32}(?!\S)|\s{1,32}"  # as in playground/tokenizer.py, on one line


def rows() -> Iterator[Row]:
    if not TEXT.exists():
        raise SystemExit(f"There is no {TEXT.name} in {TEXT.parent}: put it there, it is the text that is measured.")
    text = TEXT.read_text(encoding="utf-8")[:1_000_000]
    lines = text.splitlines(keepends=True)
    merges = BPETokenizer.train(text, VOCAB_SIZE).merges
    middles = range(len(merges) // N_STEPS // 2, len(merges), len(merges) // N_STEPS)
    on_the_way = [BPETokenizer(merges[:middle]).encode(text) for middle in middles]
    if BPETokenizer(merges).encode(text) != encode_in_rust(merges, text):
        raise SystemExit("The two encoders do not give the same ids, so their times cannot be compared.")

    seconds = median_seconds(
        {
            "textbook": lambda: [textbook_step(ids) for ids in on_the_way],
            "train": lambda: BPETokenizer.train(text, VOCAB_SIZE),
            "Rust train": lambda: train_in_rust(lines),
            "encode": lambda: BPETokenizer(merges).encode(text),
            "Rust encode": lambda: encode_in_rust(merges, text),
        }
    )
    training, encoding = f"byte-pair training, 1 MB, {VOCAB_SIZE:,} tokens", "byte-pair encoding, 1 MB"
    textbook = seconds["textbook"] / N_STEPS * len(merges)
    what = f"{training}, the textbook's loop (reckoned from {N_STEPS} of its {len(merges)} steps)"
    yield less_is_better(what, "s", seconds["train"], textbook, goal=100)
    yield less_is_better(f"{training}, tokenizers in Rust", "s", seconds["train"], seconds["Rust train"], goal=1 / 5)
    yield less_is_better(f"{encoding}, tokenizers in Rust", "s", seconds["encode"], seconds["Rust encode"], goal=1 / 5)


def median_seconds(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """How long each takes: all of them in turn, several times, so that a busy minute is bad for all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def textbook_step(ids: list[int]) -> list[int]:
    """One merge as textbooks make it: count all pairs of the whole text, replace the most frequent one everywhere.

    All the steps of a megabyte take a minute, so only the middle one of each eighth is timed, on a list that is as long
    as the text is by then. The list gets shorter with every merge, so that the middle stands for its eighth.
    """
    counts = Counter(pairwise(ids))
    left, right = max(counts, key=counts.get)
    merged: list[int] = []
    for id in ids:
        if id == right and merged and merged[-1] == left:
            merged[-1] = VOCAB_SIZE  # any id that is not in use
        else:
            merged.append(id)
    return merged


def rust_tokenizer(model: BPE) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    by_pattern = Split(tokenizers.Regex(CHUNK), behavior="isolated")
    tokenizer.pre_tokenizer = Sequence([by_pattern, ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


def train_in_rust(lines: list[str]) -> tokenizers.Tokenizer:
    tokenizer = rust_tokenizer(BPE())
    trainer = BpeTrainer(vocab_size=VOCAB_SIZE, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def encode_in_rust(merges: list[Pair], text: str) -> list[int]:
    """With our merges, where an entry of the vocabulary is a string with one sign for each byte."""
    entries = byte_signs()
    pairs = []
    for left, right in merges:
        pairs.append((entries[left], entries[right]))
        entries.append(entries[left] + entries[right])
    tokenizer = rust_tokenizer(BPE({entry: id for id, entry in enumerate(entries)}, pairs))
    (encoding,) = tokenizer.encode_batch_fast([text])
    return encoding.ids


def byte_signs() -> list[str]:
    """How ByteLevel writes the bytes: as the character of that number if it is visible, else as one from 256 on."""
    visible, others = set(ByteLevel.alphabet()), count(N_BYTES)
    return [chr(byte) if chr(byte) in visible else chr(next(others)) for byte in range(N_BYTES)]
