"""Merges replayed against a plain implementation that joins pairs merge by merge, and counts what is left."""

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground import merging
from playground.config import MAX_VOCAB, N_BYTES
from playground.merging import NEVER, replay
from playground.tokenizer import BPETokenizer, split_chunks

ENGLISH = "The cat sat on the mat. The other cat sat on the other mat, and the two cats sat together!\n" * 3
MIXED = "naïve café – 東京と京都、東京 😀😀 привет, привет!\r\n\n  \tdef f(x):\n\t\treturn x**2\n" * 2
TEXTS = [
    ENGLISH,
    MIXED,
    "aaaaaaa aaa aa " * 5,
    "abababab bababa",
    "😀" * 50,
    "\n\n\n\r\n" * 9,
    "x",
    "abc",
    "a\ud800a\ud800",
    "",
]
SHOWN = 60


def tokens_after(tokenizer: BPETokenizer, text: str, k: int) -> list[bytes]:
    """The tokens after the first k merges, each of which goes through the whole text from left to right."""
    ids = [[*chunk.encode("utf-8")] for chunk in split_chunks(text)]
    for new, pair in enumerate(tokenizer.merges[:k], N_BYTES):
        for chunk in ids:
            at = 0
            while at < len(chunk) - 1:
                if tuple(chunk[at : at + 2]) == pair:
                    chunk[at : at + 2] = [new]
                at += 1
    return [tokenizer.vocab[id] for chunk in ids for id in chunk]


def tokens_seen(seen: merging.Replay, k: int) -> list[bytes]:
    """The passage cut at the borders that stand after k merges."""
    data = seen.passage.encode("utf-8")
    cuts = [at for at, merge in enumerate(seen.borders.tolist(), 1) if merge > k]
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if data]


def check(tokenizer: BPETokenizer, text: str) -> None:
    seen, passage = replay(tokenizer, text, SHOWN), text[:SHOWN]
    assert len(seen.n_tokens) == len(tokenizer.merges) + 1
    assert len(seen.borders) == max(0, len(seen.passage.encode("utf-8")) - 1)
    for k in range(len(tokenizer.merges) + 1):
        assert tokens_seen(seen, k) == tokens_after(tokenizer, passage, k)
        assert seen.n_tokens[k] == len(tokens_after(tokenizer, text, k))


def test_the_example_is_true():
    results = doctest.testmod(merging)
    assert results.attempted > 0 and results.failed == 0


@pytest.mark.parametrize("text", TEXTS)
def test_every_merge_does_to_its_own_text_what_a_plain_implementation_does(text):
    check(BPETokenizer.train(text, vocab_size=300), text)


@pytest.mark.parametrize("text", TEXTS)
def test_every_merge_does_so_to_a_text_that_it_was_not_learned_from(text):
    check(BPETokenizer.train(ENGLISH + MIXED, vocab_size=300), text)


@settings(deadline=None, max_examples=30)
@given(st.text("ab \n", max_size=80) | st.text(st.characters(exclude_categories=()), max_size=40))
def test_any_text_at_all(text):
    check(BPETokenizer.train(text * 2, vocab_size=280), text)


def test_by_hand():
    """ "aab" three times: the first merge joins "a" and "a", the second that and "b"; "ba" is left as it is."""
    tokenizer = BPETokenizer([(97, 97), (256, 98)])
    seen = replay(tokenizer, "aab aab aab ba", shown=5)
    assert seen.passage == "aab a"
    assert seen.borders.tolist() == [1, 2, NEVER, NEVER]
    assert seen.times.tolist() == [3, 3]
    assert seen.n_tokens.tolist() == [14, 11, 8]
    assert (seen.n_bytes, seen.n_chars) == (14, 14)


def test_no_merge_is_numbered_like_never():
    assert MAX_VOCAB - N_BYTES < NEVER
