"""The tokenizers against hand-made examples, a textbook BPE that recounts everything, and all of Unicode."""

import doctest
import json
import os
import re
from collections import Counter
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from playground import tokenizer as tokenizer_module
from playground.errors import BadInput
from playground.tokenizer import (
    BPETokenizer,
    CharTokenizer,
    StreamDecoder,
    Token,
    WordTokenizer,
    split_chunks,
    tokenizer_from_dict,
    train_tokenizer,
)

settings.register_profile("no deadline", deadline=None)  # a busy machine is no defect
settings.load_profile("no deadline")

ENGLISH = "The cat sat on the mat. The other cat sat on the other mat, and then the two cats sat together!\n" * 3
MIXED = "naïve café – 東京と京都、東京 😀😀 привет, привет!\n\n  \tdef f(x):\n\t\treturn x**2  # ok\n" * 2
TEXTS = [ENGLISH, MIXED, "aaaaaaa aaa aa " * 5, "abababab bababa", "1234512345 12345", "😀" * 50, "x", ""]

# Hypothesis leaves surrogates out of text() unless it is told which characters to use.
any_text = st.text(st.characters(exclude_categories=()), max_size=80)


TRAINED = {kind: train_tokenizer(kind, ENGLISH + MIXED, vocab_size=320) for kind in ("char", "word", "bpe")}
every_tokenizer = pytest.mark.parametrize("tokenizer", TRAINED.values(), ids=TRAINED)


def without_surrogates(text: str) -> str:
    return "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)


def test_the_examples_in_the_lesson_are_true():
    results = doctest.testmod(tokenizer_module)
    assert results.attempted > 0 and results.failed == 0


# --- Chunks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("", []),
        ("To be, or", ["To", " be", ",", " or"]),
        ("a   b", ["a", "  ", " b"]),
        ("a\n\n b", ["a", "\n\n", " b"]),
        ("a\n\tb", ["a", "\n", "\t", "b"]),
        ("end  ", ["end", "  "]),
        (" ?!x", [" ?!", "x"]),
        ("w" * 70, ["w" * 32, "w" * 32, "w" * 6]),
        (" " * 40 + "x", [" " * 32, " " * 7, " x"]),
        ("." * 33, ["." * 32, "."]),
        ("a\ud800b", ["a", "\ufffd", "b"]),
    ],
)
def test_chunks_by_hand(text, chunks):
    assert list(split_chunks(text)) == chunks


@given(any_text | st.text("a \n.", max_size=200))
def test_chunks_cover_the_text_and_are_short(text):
    chunks = list(split_chunks(text))
    assert "".join(chunks) == without_surrogates(text)
    assert all(len(chunk.removeprefix(" ")) <= 32 for chunk in chunks)


# --- Characters -------------------------------------------------------------------------------------------------------


def test_char_ids_are_the_rank_of_the_character():
    tokenizer = CharTokenizer.train("hello")
    assert tokenizer.encode("hole") == [1, 3, 2, 0]
    assert (tokenizer.kind, tokenizer.vocab_size, tokenizer.unk_id) == ("char", 5, 4)


def test_an_unknown_character_is_shown_and_decodes_to_the_replacement_character():
    tokenizer = CharTokenizer.train("hello")
    assert tokenizer.tokens("hé") == [Token(1, "h", "known"), Token(4, "é", "unknown")]
    assert tokenizer.encode("hé") == [1, 4]
    assert tokenizer.decode([1, 4]) == "h\ufffd"
    assert tokenizer.token_text(4) == "‹unknown›"
    assert tokenizer.token_text(1) == "h"


def test_char_limit():
    five_thousand = "".join(map(chr, range(0x4E00, 0x4E00 + 5_000)))
    assert CharTokenizer.train(five_thousand).vocab_size == 5_001
    with pytest.raises(BadInput, match=r"20,000 different characters .* byte-pair"):
        CharTokenizer.train("".join(map(chr, range(0x20000, 0x20000 + 20_000))))


@given(any_text)
def test_char_round_trip_on_known_characters(text):
    tokenizer = CharTokenizer.train(text)
    assert tokenizer.decode(tokenizer.encode(text)) == without_surrogates(text)
    assert tokenizer.unk_id not in tokenizer.encode(text)


def test_romeo_has_the_ids_that_nanogpt_gives_it():
    data = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"
    if not data.exists():
        reason = "The text tinyshakespeare.txt is not beside the repository, so its ids cannot be checked."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    tokenizer = CharTokenizer.train(data.read_text(encoding="utf-8"))
    assert tokenizer.encode("ROMEO:") == [30, 27, 25, 17, 27, 10]
    assert tokenizer.vocab_size == 65 + 1


# --- Words ------------------------------------------------------------------------------------------------------------


def test_word_vocabulary_is_the_most_frequent_then_the_first_in_the_alphabet():
    # Counts: " b" 3, "a" 1, " c" 2, " d" 2, " e" 1.
    tokenizer = WordTokenizer.train("a b d c b c d b e", vocab_size=5)
    assert [tokenizer.token_text(id) for id in range(5)] == [" b", " c", " d", " e", "‹unknown›"]
    assert tokenizer.unk_id == 4
    assert tokenizer.encode("a c e b") == [4, 1, 3, 0]


def test_an_unknown_word_is_shown_and_decodes_to_the_replacement_character():
    tokenizer = WordTokenizer.train("to be or not to be", vocab_size=100)
    assert tokenizer.tokens("to see") == [Token(4, "to", "known"), Token(tokenizer.unk_id, " see", "unknown")]
    assert tokenizer.decode(tokenizer.encode("to see")) == "to\ufffd"


@given(any_text)
def test_word_round_trip_on_known_words(text):
    tokenizer = WordTokenizer.train(text, vocab_size=8_192)
    assert tokenizer.decode(tokenizer.encode(text)) == without_surrogates(text)


# --- Byte pairs -------------------------------------------------------------------------------------------------------

# The pattern once more, on one line, so that a slip in the tokenizer's commented version is found.
CHUNKS = r" ?\w{1,32}| ?[^\s\w]{1,32}|\s{1,32}(?!\S)|\s{1,32}"


def replace_pair(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    replaced, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            replaced.append(new_id)
            i += 2
        else:
            replaced.append(ids[i])
            i += 1
    return replaced


def textbook_bpe(text: str, n_merges: int) -> tuple[list[tuple[int, int]], list[int]]:
    """The merges, and the ids of the text after all of them: recounts every pair of the whole text for each merge."""
    chunks = [list(chunk.encode()) for chunk in re.findall(CHUNKS, text)]
    merges = []
    while len(merges) < n_merges:
        counts = Counter(pair for ids in chunks for pair in pairwise(ids))
        if not counts or max(counts.values()) < 2:
            break
        most = max(counts.values())
        pair = min(pair for pair, count in counts.items() if count == most)
        chunks = [replace_pair(ids, pair, 256 + len(merges)) for ids in chunks]
        merges.append(pair)
    return merges, [id for ids in chunks for id in ids]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("vocab_size", [256, 257, 300, 600])
def test_bpe_equals_the_textbook(text, vocab_size):
    merges, ids = textbook_bpe(text, vocab_size - 256)
    tokenizer = BPETokenizer.train(text, vocab_size)
    assert tokenizer.merges == merges
    assert tokenizer.encode(text) == ids


@given(st.text("ab ", max_size=60) | st.text(max_size=40), st.integers(256, 290))
def test_bpe_equals_the_textbook_on_any_text(text, vocab_size):
    merges, ids = textbook_bpe(text, vocab_size - 256)
    tokenizer = BPETokenizer.train(text, vocab_size)
    assert tokenizer.merges == merges
    assert tokenizer.encode(text) == ids


@st.composite
def merges_of_a_and_b(draw):
    """Merges that no training would learn: any pairs of the entries so far, as long as no pair comes twice."""
    entries, merges = [ord("a"), ord("b")], []
    for new_id in range(256, 256 + draw(st.integers(0, 12))):
        pair = st.tuples(st.sampled_from(entries), st.sampled_from(entries))
        merges.append(draw(pair.filter(lambda pair: pair not in merges)))
        entries.append(new_id)
    return merges


def merged_in_order(merges: list[tuple[int, int]], text: str) -> list[int]:
    """The ids of a text by the plainest rule: every merge in turn, wherever its pair stands."""
    chunks = [list(chunk.encode()) for chunk in re.findall(CHUNKS, without_surrogates(text))]
    for i, pair in enumerate(merges):
        chunks = [replace_pair(ids, pair, 256 + i) for ids in chunks]
    return [id for ids in chunks for id in ids]


@given(merges_of_a_and_b(), st.text("ab", max_size=100))
@example([(97, 97), (256, 256)], "a" * 32 + "b" + "a" * 7)
def test_bpe_encodes_as_if_each_merge_were_made_in_turn(merges, text):
    assert BPETokenizer(merges).encode(text) == merged_in_order(merges, text)


@given(any_text)
def test_bpe_encodes_texts_it_was_not_trained_on_as_if_each_merge_were_made_in_turn(text):
    tokenizer = TRAINED["bpe"]
    assert tokenizer.encode(text) == merged_in_order(tokenizer.merges, text)


def test_bpe_encodes_a_text_without_spaces():
    han = "".join(chr(0x4E00 + i * i % 20_000) for i in range(3_000))
    merges, ids = textbook_bpe(han, n_merges=100)
    assert len(merges) == 100 and len(ids) < 2 * len(han)
    assert BPETokenizer(merges).encode(han) == ids


def test_bpe_by_hand():
    # "abab" and " ab": a and b stand together three times. After that merge no pair occurs twice.
    tokenizer = BPETokenizer.train("abab ab", vocab_size=300)
    a, b = ord("a"), ord("b")
    assert tokenizer.merges == [(a, b)]
    assert tokenizer.encode("abba") == [256, b, a]
    assert (tokenizer.kind, tokenizer.vocab_size, tokenizer.unk_id) == ("bpe", 257, None)


def test_of_two_equally_frequent_pairs_the_smaller_is_merged_first():
    assert BPETokenizer.train("xy ab xy ab", vocab_size=257).merges == [(ord(" "), ord("a"))]
    assert BPETokenizer.train("xy,ab,xy,ab", vocab_size=257).merges == [(ord("a"), ord("b"))]


def test_merges_never_cross_the_border_of_a_chunk():
    # "b" and "," stand together in the text most often, but never within a chunk.
    assert BPETokenizer.train("ab,ab,ab,", vocab_size=300).merges == [(ord("a"), ord("b"))]


def test_bpe_learns_from_the_most_frequent_chunks_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(tokenizer_module, "MAX_CHUNKS", 1)
    assert BPETokenizer.train("ab.ab.ab.cd.cd", vocab_size=300).merges == []  # "." is the most frequent chunk
    assert BPETokenizer.train("ab,ab.ab;cd:cd", vocab_size=300).merges == [(ord("a"), ord("b"))]


def test_part_of_a_character_is_shown_as_bytes():
    tokenizer = BPETokenizer(merges=[(0xE2, 0x82)])
    assert tokenizer.tokens("€a") == [
        Token(256, "‹e2 82›", "bytes"),
        Token(0xAC, "‹ac›", "bytes"),
        Token(97, "a", "known"),
    ]
    assert tokenizer.token_text(256) == "‹e2 82›"


@given(any_text)
@example("\ud83d\ude00 \udfff")
def test_bpe_round_trip_on_all_of_unicode(text):
    for tokenizer in (BPETokenizer([]), BPETokenizer.train(MIXED, vocab_size=300)):
        assert tokenizer.decode(tokenizer.encode(text)) == without_surrogates(text)


@pytest.mark.parametrize(("kind", "smallest"), [("word", 2), ("bpe", 256)])
def test_vocab_size_limits(kind, smallest):
    assert train_tokenizer(kind, "a b a b", smallest).vocab_size == smallest
    assert train_tokenizer(kind, "a b a b", 8_192).vocab_size <= 8_192
    for vocab_size in (smallest - 1, 8_193, -1, None, 1024.5, "1024"):
        with pytest.raises(BadInput, match=f"from {smallest} to 8,192"):
            train_tokenizer(kind, "a b a b", vocab_size)


def test_an_unknown_kind_is_bad_input():
    with pytest.raises(BadInput, match="choose char, word or bpe"):
        train_tokenizer("unigram", "text", 300)


# --- What all three have in common ------------------------------------------------------------------------------------


@given(text=any_text)
@every_tokenizer
def test_tokens_tell_the_same_ids_and_the_whole_text(tokenizer, text):
    tokens = tokenizer.tokens(text)
    assert [token.id for token in tokens] == tokenizer.encode(text)
    assert all(0 <= token.id < tokenizer.vocab_size for token in tokens)
    if all(token.kind != "bytes" for token in tokens):
        assert "".join(token.text for token in tokens) == without_surrogates(text)
    for token in tokens:
        assert (token.kind == "unknown") == (token.id == tokenizer.unk_id)
        assert token.kind == "unknown" or token.text == tokenizer.token_text(token.id)


@every_tokenizer
def test_every_entry_is_shown_as_its_text_or_its_bytes(tokenizer):
    for id in range(tokenizer.vocab_size):
        shown, decoded = tokenizer.token_text(id), tokenizer.decode([id])
        if id == tokenizer.unk_id:
            assert (shown, decoded) == ("‹unknown›", "\ufffd")
        elif "\ufffd" in decoded:  # no entry of these vocabularies holds that character itself
            assert bytes.fromhex(shown.removeprefix("‹").removesuffix("›")) == tokenizer.vocab[id]
        else:
            assert shown == decoded


@given(data=st.data())
@every_tokenizer
def test_streaming_gives_what_decoding_gives(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    stream = StreamDecoder(tokenizer)
    assert "".join(map(stream.push, ids)) + stream.flush() == tokenizer.decode(ids)


# Bytes that begin, continue, overrun or break UTF-8 characters, surrogates among them.
tricky_bytes = st.sampled_from(bytes.fromhex("00 41 80 82 9f a0 bf c0 c3 e0 e2 ed f0 f4 ff"))


@given(st.lists(tricky_bytes))
def test_streaming_broken_utf8_gives_what_decoding_gives(ids):
    tokenizer = BPETokenizer([])
    stream = StreamDecoder(tokenizer)
    assert "".join(map(stream.push, ids)) + stream.flush() == tokenizer.decode(ids)


def test_a_split_character_is_held_back_until_it_is_complete():
    stream = StreamDecoder(BPETokenizer([]))
    assert [stream.push(byte) for byte in "a€".encode()] == ["a", "", "", "€"]
    assert stream.flush() == ""
    assert stream.push(0xE2) == ""
    assert stream.flush() == "\ufffd"


# --- To a dictionary and back -----------------------------------------------------------------------------------------


@given(text=any_text)
@every_tokenizer
def test_dict_round_trip_through_json(tokenizer, text):
    saved = json.loads(json.dumps(tokenizer.to_dict()))
    assert saved == tokenizer.to_dict()
    again = tokenizer_from_dict(saved)
    assert type(again) is type(tokenizer)
    assert (again.vocab, again.unk_id) == (tokenizer.vocab, tokenizer.unk_id)
    assert again.encode(text) == tokenizer.encode(text)


def test_saved_form_is_compact():
    assert CharTokenizer.train("hello").to_dict() == {"kind": "char", "chars": "ehlo"}
    assert WordTokenizer.train("to be", 9).to_dict() == {"kind": "word", "words": [" be", "to"]}
    assert BPETokenizer.train("abab", 300).to_dict() == {"kind": "bpe", "merges": [[97, 98]]}


def doubling(n: int) -> list[list[int]]:
    """Merges that double the length of the newest entry n times."""
    return [[97, 97]] + [[256 + i, 256 + i] for i in range(n - 1)]


BAD = {
    "not a dict": ["bpe"],
    "nothing": None,
    "empty": {},
    "no such kind": {"kind": "unigram", "chars": "ab"},
    "kind that is no string": {"kind": ["char"], "chars": "ab"},
    "content of another kind": {"kind": "bpe", "chars": "ab"},
    "something besides characters": {"kind": "char", "chars": "ab", "code": "import os"},
    "something besides words": {"kind": "word", "words": ["a"], "code": "import os"},
    "something besides merges": {"kind": "bpe", "merges": [[97, 98]], "code": "import os"},
    "characters in a list": {"kind": "char", "chars": ["a", "b"]},
    "character twice": {"kind": "char", "chars": "aab"},
    "characters out of order": {"kind": "char", "chars": "ba"},
    "surrogate as character": {"kind": "char", "chars": "a\ud800"},
    "too many characters": {"kind": "char", "chars": "".join(map(chr, range(0x20000, 0x20000 + 5_001)))},
    "words in a string": {"kind": "word", "words": "ab"},
    "word that is a number": {"kind": "word", "words": ["a", 7]},
    "word that is empty": {"kind": "word", "words": ["a", ""]},
    "word that is two": {"kind": "word", "words": ["a b"]},
    "word that is too long": {"kind": "word", "words": ["w" * 33]},
    "word with a surrogate": {"kind": "word", "words": ["\ud800"]},
    "word twice": {"kind": "word", "words": ["a", "b", "a"]},
    "too many words": {"kind": "word", "words": [f"w{i}" for i in range(8_192)]},
    "merges in a dict": {"kind": "bpe", "merges": {"0": [97, 98]}},
    "merge of three": {"kind": "bpe", "merges": [[97, 98, 99]]},
    "merge that is a string": {"kind": "bpe", "merges": ["ab"]},
    "merge of a float": {"kind": "bpe", "merges": [[97, 98.0]]},
    "merge of a bool": {"kind": "bpe", "merges": [[97, True]]},
    "merge of a negative id": {"kind": "bpe", "merges": [[97, -1]]},
    "merge with itself": {"kind": "bpe", "merges": [[97, 256]]},
    "merge with a later one": {"kind": "bpe", "merges": [[97, 257], [97, 98]]},
    "merge twice": {"kind": "bpe", "merges": [[97, 98], [97, 98]]},
    "too many merges": {"kind": "bpe", "merges": [[i // 256, i % 256] for i in range(8_192 - 256 + 1)]},
    "entry longer than any word": {"kind": "bpe", "merges": doubling(8)},
    "entries that fill the memory": {"kind": "bpe", "merges": doubling(60)},
}


@pytest.mark.parametrize("saved", BAD.values(), ids=BAD)
def test_a_damaged_dictionary_is_bad_input(saved):
    with pytest.raises(BadInput, match=r"^The tokenizer in this file cannot be used, because .*: choose .*\.$"):
        tokenizer_from_dict(saved)


def test_the_largest_sound_dictionaries_are_accepted():
    assert tokenizer_from_dict({"kind": "word", "words": [f"w{i}" for i in range(8_191)]}).vocab_size == 8_192
    merges = [[i // 256, i % 256] for i in range(8_192 - 256)]
    assert tokenizer_from_dict({"kind": "bpe", "merges": merges}).vocab_size == 8_192
    assert len(tokenizer_from_dict({"kind": "bpe", "merges": doubling(7)}).vocab[-1]) == 128


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(0, 400) | st.floats() | st.text(max_size=5) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(part):
    """Every (container, key) within a dictionary of dictionaries and lists."""
    for key in list(part) if isinstance(part, dict) else range(len(part)):
        yield part, key
        if isinstance(part[key], dict | list):
            yield from places(part[key])


@st.composite
def mutated_dicts(draw):
    """The dictionary of a real tokenizer with one to three of its parts replaced, removed or doubled."""
    saved = deepcopy(draw(st.sampled_from([tokenizer.to_dict() for tokenizer in TRAINED.values()])))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(list(places(saved)) or [(saved, "kind")]))
        match draw(st.sampled_from(["replace", "remove", "double"])):
            case "replace":
                container[key] = draw(junk)
            case "remove" if container:
                del container[key]
            case "double" if isinstance(container, list):
                container.insert(draw(st.integers(0, len(container))), deepcopy(container[key]))
    return saved


@settings(max_examples=300)
@given(mutated_dicts() | junk, any_text)
def test_any_dictionary_gives_a_working_tokenizer_or_bad_input(saved, text):
    try:
        tokenizer = tokenizer_from_dict(saved)
    except BadInput:
        return
    assert tokenizer.to_dict() == saved
    ids = tokenizer.encode(text)
    assert all(0 <= id < tokenizer.vocab_size for id in ids)
    if tokenizer.unk_id not in ids:
        assert tokenizer.decode(ids) == without_surrogates(text)
