"""Compressed sizes against files as the compressors themselves write them, and against what no compressor can do."""

import bz2
import lzma
import math
import random
import zlib

import pytest

from playground.compression import compressed_bits_per_char
from playground.errors import BadInput

TEXT = "To be, or not to be: that is the question.\n" * 50


@pytest.mark.parametrize("text", ["a", TEXT, "naïve 東京 😀 " * 100], ids=["one character", "ASCII", "all of Unicode"])
def test_bits_per_character_are_those_of_a_file(text, tmp_path):
    data, path = text.encode(), tmp_path / "compressed"
    deflated = len(zlib.compress(data, 9)) - 6  # without zlib's header of 2 bytes and checksum of 4
    sizes = {"gzip": 10 + deflated + 8}
    for name, library in {"bz2": bz2, "xz": lzma}.items():
        with library.open(path, "wb") as file:
            file.write(data)
        sizes[name] = path.stat().st_size
    assert compressed_bits_per_char(text) == {name: 8 * size / len(text) for name, size in sizes.items()}


def test_random_letters_cannot_be_compressed_below_their_entropy():
    letters = "".join(random.Random(0).choices("abcdefghijklmnop", k=50_000))
    assert all(math.log2(16) < bits < 5 for bits in compressed_bits_per_char(letters).values())


def test_what_is_repeated_costs_next_to_nothing():
    assert all(bits < 0.5 for bits in compressed_bits_per_char(TEXT * 20).values())


def test_no_text_is_refused():
    with pytest.raises(BadInput, match="no text to compress"):
        compressed_bits_per_char("")
