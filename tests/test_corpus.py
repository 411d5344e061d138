"""Reading uploads, splitting, batching, and the losses of models that only count."""

import hashlib
import math
import random
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from playground.corpus import (
    MAX_BYTES,
    Corpus,
    Text,
    Unknown,
    decode,
    get_batch,
    pasted,
    read_text,
    reference_losses,
    split,
    unknown,
)
from playground.errors import BadInput
from playground.tokenizer import BPETokenizer, CharTokenizer, WordTokenizer

ENGLISH = "It was spring, and a warm wind blew from the south.\n" * 20
RUSSIAN = "Была весна, и тёплый ветер дул с юга.\n" * 20

# --- Reading: what is decoded -----------------------------------------------------------------------------------------


def test_utf8_needs_no_note():
    assert decode("Grüße, 你好 🙂\n".encode(), "a.txt") == Text("a.txt", "Grüße, 你好 🙂\n", "")


@pytest.mark.parametrize("text", [ENGLISH, RUSSIAN])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"\xef\xbb\xbf", "utf-8"),
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
        (b"\xff\xfe\x00\x00", "utf-32-le"),
        (b"\x00\x00\xfe\xff", "utf-32-be"),
    ],
)
def test_a_byte_order_mark_is_obeyed_dropped_and_told(text, mark, encoding):
    read = decode(mark + text.encode(encoding), "a.txt")
    assert read.text == text
    assert encoding.upper() in read.note and "byte-order mark" in read.note


@pytest.mark.parametrize("text", [ENGLISH, RUSSIAN, "a\n"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_guessed_and_told(text, encoding):
    read = decode(text.encode(encoding), "a.txt")
    assert read.text == text
    assert encoding.upper() in read.note and "guess" in read.note


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_latin1_is_decoded_and_told(encoding):
    read = decode("Größe, façade, señor\n".encode(encoding), "a.txt")
    assert read.text == "Größe, façade, señor\n"
    assert read.note == "Read as Windows-1252, since it is not UTF-8."


def test_windows_quotation_marks_are_decoded():
    assert decode(b"\x93Hello\x94 \x80 5", "a.txt").text == "“Hello” € 5"


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(str.strip))
def test_any_utf8_text_comes_back(text):
    if text[0] != "\ufeff" and not text.startswith(("GIF8", "%PDF-")):
        assert decode(text.encode(), "a.txt") == Text("a.txt", text, "")


def test_a_stray_control_character_is_no_reason_to_refuse():
    text = ENGLISH + "\x1a"  # how old DOS files end
    assert decode(text.encode(), "a.txt").text == text


# --- Reading: what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf\n"])
def test_empty_is_refused(data):
    with pytest.raises(BadInput, match=r"a\.txt is empty"):
        decode(data, "a.txt")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00", "a PNG image"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "a JPEG image"),
        (b"GIF89a" + b"some words " * 50, "a GIF image"),
        (b"%PDF-1.4\n" + b"1 0 obj << /Type /Catalog >> endobj\n" * 50, "a PDF document"),
        (b"PK\x03\x04" + b"some words " * 50, "a ZIP archive"),
        (b"\x1f\x8b" + b"some words " * 50, "a gzip archive"),
    ],
)
def test_known_files_renamed_txt_are_refused_by_name(data, what):
    with pytest.raises(BadInput, match=rf"photo\.txt is {what}"):
        decode(data, "photo.txt")


def test_control_characters_are_refused():
    """Valid UTF-8 and free of NULs, but no text."""
    with pytest.raises(BadInput, match="binary"):
        decode(bytes(range(1, 9)) + b"some words" * 2, "a.txt")


def test_bytes_of_no_encoding_are_refused():
    with pytest.raises(BadInput, match="binary"):
        decode(b"words and \x81\x8d\x9d and more words", "a.txt")


def test_binary_with_nuls_everywhere_is_refused():
    with pytest.raises(BadInput, match="binary"):
        decode(np.random.default_rng(0).integers(0, 256, 2_000, dtype=np.uint8).tobytes() + bytes(100), "a.bin")


@pytest.mark.parametrize("n_nuls", [1, 2])  # two make an even length, as UTF-16 has
def test_nul_bytes_in_a_text_are_refused(n_nuls):
    data = ENGLISH.replace("wind", "wind\0", n_nuls).encode()
    with pytest.raises(BadInput, match="NUL bytes"):
        decode(data, "a.txt")


@pytest.mark.parametrize("data", [b"\xff\xfea\x00b", b"\xfe\xff\xd8\x00\x00a", b"\xef\xbb\xbf\xff words"])
def test_a_damaged_text_with_a_byte_order_mark_is_refused(data):
    with pytest.raises(BadInput, match="damaged"):
        decode(data, "a.txt")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_bad_input(data):
    for start in (b"", b"\xff\xfe", b"\xff\xfe\0\0", b"\xef\xbb\xbf"):
        try:
            assert decode(start + data, "a.txt").text
        except BadInput as error:
            assert "a.txt" in str(error)


# --- Reading files ----------------------------------------------------------------------------------------------------


def test_a_file_is_read_under_its_own_or_a_given_name(tmp_path):
    path = tmp_path / "<b>.txt"
    path.write_bytes(b"Hello\r\nyou\n")
    assert read_text(path) == Text("<b>.txt", "Hello\r\nyou\n", "")
    assert read_text(str(path), "mine").name == "mine"


def test_a_60_mb_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        file.truncate(60 * 2**20)

    def read(*_):
        raise AssertionError("the file was read")

    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setattr(Path, "open", read)
    with pytest.raises(BadInput, match=r"big\.txt is 60\.0 MB long, and at most 20 MB"):
        read_text(path)


def test_bytes_above_the_limit_are_refused_and_at_the_limit_not():
    assert len(decode(b"ab" * (MAX_BYTES // 2), "a.txt").text) == MAX_BYTES
    with pytest.raises(BadInput, match=r"20\.1 MB"):
        decode(b"a" * (MAX_BYTES + 1), "a.txt")


@pytest.mark.parametrize("name", ["missing.txt", ".", "nul\0.txt", "x" * 5_000])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(BadInput):
        read_text(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device here")
def test_an_endless_device_is_refused():
    with pytest.raises(BadInput, match="not a file"):
        read_text("/dev/zero")


def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("words")

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BadInput, match=r"Permission denied"):
        read_text(path)


# --- Pasting ----------------------------------------------------------------------------------------------------------


def test_pasted_text_is_kept_but_for_surrogates():
    assert pasted("a 🙂\ud83d b").text == "a 🙂\ufffd b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n", "empty"),
        (ENGLISH + "\0", "NUL"),
        ("\x01\x02" * 9, "binary"),
        ("é" * (MAX_BYTES // 2 + 1), "MB"),  # 2 bytes each, so the characters alone would still pass
    ],
)
def test_pasted_text_that_cannot_be_used(text, message):
    with pytest.raises(BadInput, match=message):
        pasted(text)


# --- Splitting and building -------------------------------------------------------------------------------------------


def test_split_is_by_characters():
    assert split("abcdefghij") == ("abcdefghi", "j")
    assert split("äöüß" * 5 + "x") == ("äöüß" * 4 + "äö", "üßx")


def char_corpus(text, block_size):
    return Corpus.build(Text("a.txt", text), CharTokenizer.train(split(text)[0]), block_size)


def test_build_keeps_the_facts():
    text = "abcab" * 20 + "abcabXé"  # 107 characters, the last 11 for validation, two of them never seen in training
    corpus = char_corpus(text, 8)
    assert (corpus.name, corpus.n_chars, corpus.unknown) == ("a.txt", 107, 2)
    assert corpus.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert corpus.train.dtype == corpus.val.dtype == torch.int64
    assert corpus.train.tolist() == ["abc".index(c) for c in text[:96]]
    assert corpus.val.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 0, 1, 3, 3][-11:]


def test_byte_pairs_leave_nothing_unknown():
    text = ENGLISH + "Ω≈ç√∫" * 20
    corpus = Corpus.build(Text("a.txt", text), BPETokenizer.train(split(text)[0], 300), 8)
    assert corpus.unknown == 0


def test_what_a_tokenizer_does_not_know_of_a_text_by_hand():
    chars = CharTokenizer.train("bets, rules")
    found = unknown(Text("", "über, süße"), chars)  # ü twice and ß, of ten characters
    assert (found.share, found.examples) == (0.3, ("ü", "ß"))
    assert unknown(Text("", "bet"), chars) == Unknown(0.0, ())
    words = WordTokenizer.train("to be or not to be", vocab_size=7)
    found = unknown(Text("", "to be a b c d d"), words)
    assert (found.share, found.examples) == (5 / 7, (" d", " a", " b"))  # of seven words; the most frequent three


@pytest.mark.parametrize("kind", [CharTokenizer, WordTokenizer, BPETokenizer])
def test_the_share_that_is_unknown_is_that_of_the_ids(kind):
    how = () if kind is CharTokenizer else (300,)
    tokenizer, text = kind.train(ENGLISH, *how), Text("", ENGLISH + RUSSIAN)
    ids = tokenizer.encode(text.text)
    assert unknown(text, tokenizer).share == (ids.count(tokenizer.unk_id) / len(ids) if tokenizer.unk_id else 0.0)
    assert bool(unknown(text, tokenizer).examples) == (kind is not BPETokenizer)


def test_one_character_repeated_is_refused():
    with pytest.raises(BadInput, match="one character repeated"):
        char_corpus("a" * 1_000, 8)


def test_shorter_than_two_blocks_is_refused():
    assert len(char_corpus("ab" * 32, 32).train) == 57
    with pytest.raises(BadInput, match=r"only 62 tokens, and a context length of 32 needs at least 64"):
        char_corpus("ab" * 31, 32)


def test_one_validation_token_is_too_few():
    assert len(char_corpus("ab" * 10, 4).val) == 2
    with pytest.raises(BadInput, match=r"leaves 1 for validation"):
        char_corpus("ab" * 5, 4)


def test_a_training_part_without_one_whole_window_is_refused():
    class Merging:
        """The training part becomes few tokens and the validation part many, as byte pairs can make it."""

        unk_id, vocab = None, [b"a"]

        def encode(self, text):
            return [0] * (8 if text.startswith("a") else 50)

    text = Text("a.txt", "a" * 90 + "b" * 10)
    assert len(Corpus.build(text, Merging(), 7).train) == 8
    with pytest.raises(BadInput, match=r"only 8 tokens, and a context length of 8 needs more than 8"):
        Corpus.build(text, Merging(), 8)


# --- Batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_windows_and_what_follows():
    ids = torch.arange(100)
    x, y = get_batch(ids, 5, 8, torch.Generator().manual_seed(0))
    assert x.shape == y.shape == (5, 8)
    assert x.dtype == y.dtype == torch.int64
    assert torch.equal(x, x[:, :1] + torch.arange(8))
    assert torch.equal(y, x + 1)


def test_every_position_can_be_drawn():
    x, y = get_batch(torch.arange(12), 1_000, 8, torch.Generator().manual_seed(0))
    assert x[:, 0].unique().tolist() == [0, 1, 2, 3]
    assert y.max() == 11


def test_the_generator_decides_the_batch():
    draw = [get_batch(torch.arange(100), 4, 8, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


def test_one_window_is_enough():
    x, y = get_batch(torch.arange(9), 2, 8, torch.Generator())
    assert x.tolist() == [list(range(8))] * 2 and y.tolist() == [list(range(1, 9))] * 2


# --- What counting alone reaches --------------------------------------------------------------------------------------


def corpus_of(train, val):
    return Corpus("a.txt", 0, "", torch.tensor(train), torch.tensor(val), 0, 0)


def test_references_by_hand():
    """train 0 1 0 1 1, val 0 1 0, V = 3. p(0) = 3/8, p(1) = 4/8; after 0 came 1, 1; after 1 came 0, 1."""
    references = reference_losses(corpus_of([0, 1, 0, 1, 1], [0, 1, 0]), 3)
    assert references.uniform == pytest.approx(math.log(3))
    assert references.unigram == pytest.approx(-(math.log(4 / 8) + math.log(3 / 8)) / 2)
    after_0, after_1 = (2 + 4 / 8) / (2 + 1), (1 + 3 / 8) / (2 + 1)
    assert references.bigram == pytest.approx(-(math.log(after_0) + math.log(after_1)) / 2)


def test_references_equal_a_plain_loop():
    rng = random.Random(0)
    train, val = rng.choices(range(9), k=60), rng.choices(range(11), k=50)  # 9 and 10 are never seen in training
    ones, pairs, contexts = Counter(train), Counter(pairwise(train)), Counter(train[:-1])
    unigram = bigram = 0.0
    for a, b in pairwise(val):
        p = (ones[b] + 1) / (60 + 12)
        unigram -= math.log(p) / 49
        bigram -= math.log((pairs[a, b] + p) / (contexts[a] + 1)) / 49
    references = reference_losses(corpus_of(train, val), 12)
    assert (references.unigram, references.bigram) == (pytest.approx(unigram), pytest.approx(bigram))


@pytest.mark.parametrize("a", [0, 2, 4])  # 2 is the last token of the training part, 4 is not in it
def test_reference_probabilities_sum_to_one(a):
    references = [reference_losses(corpus_of([0, 1, 1, 0, 3, 2], [a, b]), 5) for b in range(5)]
    assert sum(math.exp(-r.unigram) for r in references) == pytest.approx(1)
    assert sum(math.exp(-r.bigram) for r in references) == pytest.approx(1)


def test_references_need_no_table_of_all_pairs():
    rng = np.random.default_rng(0)
    corpus = corpus_of(rng.integers(0, 8_192, 50_000), rng.integers(0, 8_192, 5_000))
    tracemalloc.start()
    reference_losses(corpus, 8_192)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20  # 8,192 x 8,192 counts would take 512 MB
