"""The text that a model has learned from, sorted: nothing of the other part is in it, and it is sorted once."""

import threading

import numpy as np
import pytest

from playground.corpus import Text, split
from playground.learned import HELD_OUT_CHARS, LARGE, Learned, Library
from playground.tokenizer import BPETokenizer, CharTokenizer

TEXT = Text("numbers.txt", " ".join(str(i * i) for i in range(3_000)))


@pytest.mark.parametrize("tokenizer", [CharTokenizer.train(TEXT.text), BPETokenizer.train(TEXT.text, 300)])
def test_the_training_part_is_sorted_and_the_rest_is_held_out(tokenizer):
    train, val = split(TEXT.text)
    learned = Learned.build(TEXT, tokenizer)
    assert learned.suffixes.text[:-1].tolist() == tokenizer.encode(train)
    assert learned.held_out.tolist() == tokenizer.encode(val[:HELD_OUT_CHARS])
    assert np.exp(-learned.ngrams.losses(learned.held_out)[0]) == pytest.approx(1 / tokenizer.vocab_size)
    assert learned.nbytes == 9 * (len(tokenizer.encode(train)) + 1)


def test_a_library_sorts_a_text_once_for_each_tokenizer(monkeypatch):
    sorted_texts, build = [], Learned.build

    def count(text, tokenizer):
        sorted_texts.append((text.name, tokenizer.vocab_size))
        return build(text, tokenizer)

    monkeypatch.setattr(Learned, "build", count)
    library, chars, pairs = Library(), CharTokenizer.train(TEXT.text), BPETokenizer.train(TEXT.text, 300)
    first = library.get(TEXT, chars)
    assert library.get(Text("the same under another name", TEXT.text), CharTokenizer.train(TEXT.text)) is first
    assert library.get(TEXT, pairs) is not first
    assert library.get(Text("other.txt", TEXT.text[1:]), chars) is not first
    assert sorted_texts == [("numbers.txt", chars.vocab_size), ("numbers.txt", 300), ("other.txt", chars.vocab_size)]


def test_a_small_text_does_not_wait_for_a_large_one(monkeypatch):
    begun, large_may_end, build = threading.Event(), threading.Event(), Learned.build

    def slow(text, tokenizer):
        if text is large:
            begun.set()
            assert large_may_end.wait(60)
        return build(TEXT, tokenizer)

    monkeypatch.setattr(Learned, "build", slow)
    library, large, chars = Library(), Text("large.txt", "1 " * LARGE), CharTokenizer.train(TEXT.text)
    sorting = threading.Thread(target=library.get, args=(large, chars))
    sorting.start()
    assert begun.wait(60) and library.get(TEXT, chars)
    assert sorting.is_alive()
    large_may_end.set()
    sorting.join(60)
