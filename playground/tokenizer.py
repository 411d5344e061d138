"""Text to numbers and back: three tokenizers, from the simplest to the one that GPT-2 uses.

A transformer computes with numbers, so a text first becomes a list of ids, each the row number of an entry in a
vocabulary. What an entry should be is a trade:

    tokenizer   an entry is   vocabulary       ids per text   text it has never seen
    char        a character   small            many           unknown characters are lost
    word        a word        large            few            unknown words are lost
    bpe         some bytes    as you choose    between        nothing is lost: any byte is an entry

Every tokenizer is the same thing underneath, a list `vocab` of byte strings, so decoding is the same for all: look up,
join, read as UTF-8. They differ in how they learn the list (`train`) and how they cut up a text (`encode`).

>>> tokenizer = CharTokenizer.train("to be or not to be")
>>> tokenizer.encode("bot")
[1, 4, 6]
>>> tokenizer.decode([1, 4, 6])
'bot'
"""

import codecs
import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice, pairwise
from math import inf
from typing import Any, ClassVar, NamedTuple

from playground.config import MAX_VOCAB, N_BYTES
from playground.errors import BadInput

MAX_CHARS = 5_000  # distinct characters of a CharTokenizer
MAX_CHUNK_BYTES = 1 + 32 * 4  # a space, then 32 characters of at most 4 bytes in UTF-8: see CHUNK
MAX_CHUNKS = 50_000  # byte-pair merges are learned from the most frequent chunks, so that any upload is affordable
REPLACEMENT = "\ufffd"  # how Unicode writes "there was a character here": �

Pair = tuple[int, int]  # two ids side by side


class Token(NamedTuple):
    """One token of a text as it is shown to a person. `kind` is "known", "unknown", or "bytes" for half a character."""

    id: int
    text: str
    kind: str


# --- Cutting up a text ------------------------------------------------------------------------------------------------

# Words with the space before them, so that " Romeo" is one piece and no ids are spent on single spaces. The order of
# the alternatives matters, each character of any text fits one of them, and no chunk is longer than 32 characters and
# a space, so that no text, however strange, makes a chunk that is slow to work on.
CHUNK = re.compile(
    r"""
      [ ]?\w{1,32}       # letters, digits and underscores
    | [ ]?[^\s\w]{1,32}  # punctuation and all other visible things
    | \s{1,32}(?!\S)     # white space, but not its last character before a word: a space there belongs to the word
    | \s{1,32}           # that last character after all, when it is a newline or a tab
    """,
    re.VERBOSE,
)

SURROGATE = re.compile("[\ud800-\udfff]")  # halves of UTF-16 pairs: no characters, and UTF-8 cannot write them


def without_surrogates(text: str) -> str:
    """The text with each surrogate, which stands for no character, replaced by U+FFFD."""
    return SURROGATE.sub(REPLACEMENT, text)


def visible(text: str) -> str:
    """The text with a sign for what has no shape of its own: spaces, line ends, control characters.

    >>> visible("to be\\n\\x00")
    'to·be↵‹00›'
    """
    signs = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
    return "".join(signs.get(c) or (c if c.isprintable() else f"‹{ord(c):02x}›") for c in text)


def split_chunks(text: str) -> Iterator[str]:
    """The words, punctuation and white space of a text, in order and complete.

    >>> list(split_chunks("To be,  or not"))
    ['To', ' be', ',', ' ', ' or', ' not']
    """
    return (match.group() for match in CHUNK.finditer(without_surrogates(text)))


# --- What all tokenizers share ----------------------------------------------------------------------------------------


class Tokenizer:
    """A vocabulary: the id of an entry is its index in `vocab`. Ids are ints in range(vocab_size)."""

    kind: ClassVar[str]
    vocab: list[bytes]
    unk_id: int | None  # the id of everything that is not in the vocabulary; None where there is no such thing

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    def encode(self, text: str) -> list[int]:
        """The ids of any text at all. Surrogates count as U+FFFD."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """The text of any ids in range. An unknown, and bytes that are no character, come out as U+FFFD."""
        return b"".join(self.vocab[id] for id in ids).decode("utf-8", errors="replace")

    def tokens(self, text: str) -> list[Token]:
        """The tokens of a text as a person should see them: an unknown one shows what stood there."""
        raise NotImplementedError

    def token_text(self, id: int) -> str:
        """One entry of the vocabulary as a person should see it."""
        return "‹unknown›" if id == self.unk_id else show(self.vocab[id]).text

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make this tokenizer again with `tokenizer_from_dict`, ready for JSON."""
        raise NotImplementedError


class Shown(NamedTuple):
    text: str
    kind: str


def show(entry: bytes) -> Shown:
    """The text of a vocabulary entry, or its bytes in hexadecimal where they are not whole characters.

    >>> show(b"to"), show("€".encode()[:2])
    (Shown(text='to', kind='known'), Shown(text='‹e2 82›', kind='bytes'))
    """
    try:
        return Shown(entry.decode("utf-8"), "known")
    except UnicodeDecodeError:
        return Shown(f"‹{entry.hex(' ')}›", "bytes")


# --- Characters and words: cut, then look up --------------------------------------------------------------------------


class LookupTokenizer(Tokenizer):
    """Cuts a text into pieces and looks each one up. A piece that is not in the vocabulary gets the last id, unk_id."""

    def __init__(self, entries: Iterable[str]):
        self.entries = list(entries)
        self.ids = {entry: id for id, entry in enumerate(self.entries)}
        self.unk_id = len(self.entries)
        self.vocab = [entry.encode("utf-8") for entry in [*self.entries, REPLACEMENT]]

    @staticmethod
    def pieces(text: str) -> Iterable[str]:
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        return [self.ids.get(piece, self.unk_id) for piece in self.pieces(text)]

    def tokens(self, text: str) -> list[Token]:
        return [
            Token(self.ids[piece], piece, "known") if piece in self.ids else Token(self.unk_id, piece, "unknown")
            for piece in self.pieces(text)
        ]


class CharTokenizer(LookupTokenizer):
    """Every character is a token. Ids follow the order of Unicode, as in nanoGPT's character-level Shakespeare."""

    kind = "char"
    pieces = staticmethod(without_surrogates)  # the pieces of a string, when we iterate over it, are its characters

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """The characters that occur in the text. BadInput if there are more than MAX_CHARS different ones."""
        chars = sorted(set(without_surrogates(text)))
        if len(chars) > MAX_CHARS:
            raise BadInput(
                f"This text has {len(chars):,} different characters and a character vocabulary may have {MAX_CHARS:,}: "
                "choose the byte-pair tokenizer, which has no such limit."
            )
        return cls(chars)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "chars": "".join(self.entries)}


class WordTokenizer(LookupTokenizer):
    """Every word is a token, with the space before it; so is every run of punctuation or white space.

    >>> tokenizer = WordTokenizer.train("to be or not to be", vocab_size=6)
    >>> [token.text for token in tokenizer.tokens("to be or")], tokenizer.encode("to be or")
    (['to', ' be', ' or'], [4, 0, 2])
    """

    kind = "word"
    pieces = staticmethod(split_chunks)

    @classmethod
    def train(cls, text: str, vocab_size: int) -> "WordTokenizer":
        """The vocab_size - 1 most frequent words, then unknown. Equally frequent ones stand in the alphabet's order, so
        that a vocabulary, which goes with every checkpoint, does not tell the order of a text.

        BadInput if vocab_size is not from 2 to MAX_VOCAB.
        """
        check_vocab_size(vocab_size, smallest=2)
        counts = Counter(split_chunks(text))
        return cls(sorted(counts, key=lambda word: (-counts[word], word))[: vocab_size - 1])

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "words": list(self.entries)}


def check_vocab_size(vocab_size: int, smallest: int) -> None:
    if not isinstance(vocab_size, int) or not smallest <= vocab_size <= MAX_VOCAB:
        raise BadInput(f"The vocabulary size must be a whole number from {smallest} to {MAX_VOCAB:,}: change it.")


# --- Byte-pair encoding: start from bytes, join what often stands together --------------------------------------------


class BPETokenizer(Tokenizer):
    """Starts with the 256 bytes and joins pairs of tokens that often stand together into longer and longer tokens.

    `merges` holds the pairs in the order they were learned: merges[i] joined two earlier ids into the new id 256 + i.
    Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016; on bytes as in
    Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019.

    >>> tokenizer = BPETokenizer.train("low lower lowest", vocab_size=258)
    >>> [tokenizer.token_text(id) for id in (256, 257)]
    ['lo', 'low']
    >>> [token.text for token in tokenizer.tokens("slow €")]
    ['s', 'low', ' ', '‹e2›', '‹82›', '‹ac›']
    """

    kind = "bpe"
    unk_id = None  # every text is made of bytes, and every byte is an entry

    def __init__(self, merges: Iterable[Pair]):
        self.merges = list(merges)
        self.vocab = [bytes([byte]) for byte in range(N_BYTES)]
        for left, right in self.merges:
            self.vocab.append(self.vocab[left] + self.vocab[right])
        self.merged_id = {pair: N_BYTES + i for i, pair in enumerate(self.merges)}
        # The same few thousand words make up most of any text, so remembering them makes encoding many times faster.
        self._encode_chunk = lru_cache(maxsize=50_000)(self._encode_chunk)

    @classmethod
    def train(cls, text: str, vocab_size: int) -> "BPETokenizer":
        """Learn up to vocab_size - 256 merges; fewer when no pair is left that occurs twice.

        BadInput if vocab_size is not from 256 to MAX_VOCAB.
        """
        check_vocab_size(vocab_size, smallest=N_BYTES)
        most_frequent = Counter(split_chunks(text)).most_common(MAX_CHUNKS)
        return cls(learn_merges(dict(most_frequent), n_merges=vocab_size - N_BYTES))

    def encode(self, text: str) -> list[int]:
        return [id for chunk in split_chunks(text) for id in self._encode_chunk(chunk)]

    def _encode_chunk(self, chunk: str) -> tuple[int, ...]:
        """Join pairs as training did: the one that was learned first goes first, and of two equal ones the left one."""
        ids = list(chunk.encode("utf-8"))
        new_ids = self._new_ids(ids)
        while (new_id := min(new_ids, default=inf)) < inf:
            at = new_ids.index(new_id)
            before = max(at - 1, 0)
            ids[at : at + 2] = [new_id]
            new_ids[before : at + 2] = self._new_ids(ids[before : at + 2])  # only its neighbours are looked up anew
        return tuple(ids)

    def _new_ids(self, ids: list[int]) -> list[float]:
        """What each id and its right neighbour may be joined into: inf for a pair that is never merged."""
        return [self.merged_id.get(pair, inf) for pair in pairwise(ids)]

    def tokens(self, text: str) -> list[Token]:
        return [Token(id, *show(self.vocab[id])) for id in self.encode(text)]

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "merges": [list(pair) for pair in self.merges]}


def learn_merges(chunk_counts: dict[str, int], n_merges: int) -> list[Pair]:
    """The pairs to merge, in order: each is the most frequent at its time (ties: the smaller pair) and occurs twice.

    `chunk_counts` says how often each chunk occurs. Counting chunks once makes " the" as cheap to work on as a word
    that occurs a single time, and as chunks are merged one by one, no token ever crosses the border between two words.
    """
    pairs = PairCounts(chunk_counts)
    merges: list[Pair] = []
    while len(merges) < n_merges and (pair := pairs.most_frequent()):
        pairs.merge(pair, new_id=N_BYTES + len(merges))
        merges.append(pair)
    return merges


class PairCounts:
    """How often each pair of ids occurs in all chunks: counted once, then corrected wherever a merge changes a chunk.

    The most frequent pair comes from a heap. A heap cannot change an entry, so a pair whose count has changed is pushed
    once more, and an entry whose count is no longer true is dropped when it comes up.
    """

    def __init__(self, chunk_counts: dict[str, int]):
        self.chunks = [list(chunk.encode("utf-8")) for chunk in chunk_counts]
        self.chunk_counts = list(chunk_counts.values())
        self.counts: Counter[Pair] = Counter()
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)  # pair -> the chunks that hold it, or once did
        self.changed: set[Pair] = set()  # since the last call of most_frequent
        self.heap: list[tuple[int, Pair]] = []  # (-count, pair): the first is the most frequent and then smallest pair
        for i, ids in enumerate(self.chunks):
            self._count(ids, i, self.chunk_counts[i])

    def _count(self, ids: list[int], chunk: int, times: int) -> None:
        for pair in pairwise(ids):
            self.counts[pair] += times
            self.places[pair].add(chunk)
            self.changed.add(pair)

    def most_frequent(self) -> Pair | None:
        """The most frequent pair, the smaller one of two equally frequent; None if no pair occurs twice."""
        for pair in self.changed:
            heapq.heappush(self.heap, (-self.counts[pair], pair))
        self.changed.clear()
        while self.heap:
            negative_count, pair = heapq.heappop(self.heap)
            if self.counts[pair] == -negative_count:
                return pair if self.counts[pair] >= 2 else None
        return None

    def merge(self, pair: Pair, new_id: int) -> None:
        """Replace the pair in every chunk. Each time, only the pairs with its two neighbours are counted anew."""
        for i in self.places.pop(pair):
            ids, times = self.chunks[i], self.chunk_counts[i]
            at = find(ids, pair, start=0)
            while at is not None:
                before = max(at - 1, 0)
                self._count(ids[before : at + 3], i, -times)
                ids[at : at + 2] = [new_id]
                self._count(ids[before : at + 2], i, times)
                at = find(ids, pair, start=at + 1)


def find(ids: list[int], pair: Pair, start: int) -> int | None:
    """Where the pair first stands in ids, from `start` on.

    >>> find([5, 6, 5, 6], (5, 6), start=1)
    2
    """
    left, right = pair
    for at in range(start, len(ids) - 1):
        if ids[at] == left and ids[at + 1] == right:
            return at
    return None


# --- Reading while the model writes -----------------------------------------------------------------------------------


class StreamDecoder:
    """Decodes ids one at a time. A character may be spread over several byte-pair tokens: it appears once complete.

    What all `push` calls and the `flush` at the end return, joined, is exactly `tokenizer.decode` of the same ids.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.vocab = tokenizer.vocab
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        """The text that is certain now; "" while a character is incomplete."""
        return self.decoder.decode(self.vocab[id])

    def flush(self) -> str:
        """What is left when no more ids come: U+FFFD for a character that was never completed, else ""."""
        return self.decoder.decode(b"", final=True)


# --- By name, and from a file -----------------------------------------------------------------------------------------


def train_tokenizer(kind: str, text: str, vocab_size: int) -> Tokenizer:
    """A tokenizer of a kind, "char", "word" or "bpe", trained on a text. Characters ignore vocab_size.

    BadInput if there is no such kind, or as the `train` of that kind says.
    """
    match kind:
        case "char":
            return CharTokenizer.train(text)
        case "word":
            return WordTokenizer.train(text, vocab_size)
        case "bpe":
            return BPETokenizer.train(text, vocab_size)
    raise BadInput("There is no such tokenizer: choose char, word or bpe.")


def tokenizer_from_dict(saved: Any) -> Tokenizer:
    """The tokenizer that `to_dict` described. The file may come from anyone: BadInput unless every part is sound."""
    match saved:
        case {"kind": "char", "chars": str(chars), **rest} if not rest:
            return CharTokenizer(sound_chars(chars))
        case {"kind": "word", "words": list(words), **rest} if not rest:
            return WordTokenizer(sound_words(words))
        case {"kind": "bpe", "merges": list(merges), **rest} if not rest:
            return BPETokenizer(sound_merges(merges))
    raise damaged("it is none of the three kinds that there are")


def sound_chars(chars: str) -> str:
    if len(chars) > MAX_CHARS:
        raise damaged(f"it has more than {MAX_CHARS:,} characters")
    if list(chars) != sorted(set(without_surrogates(chars))):
        raise damaged("its characters are not in order, or one is there twice or is no character")
    return chars


def sound_words(words: list[Any]) -> list[str]:
    if len(words) > MAX_VOCAB - 1:
        raise damaged(f"it has more than {MAX_VOCAB - 1:,} words")
    for i, word in enumerate(words):
        # Only a word that we would cut out of a text ourselves can ever be found again.
        if not isinstance(word, str) or list(islice(split_chunks(word), 2)) != [word]:
            raise damaged(f"entry {i} is not one word")
    if len(set(words)) < len(words):
        raise damaged("it has the same word twice")
    return words


def sound_merges(merges: list[Any]) -> list[Pair]:
    if len(merges) > MAX_VOCAB - N_BYTES:
        raise damaged(f"it has more than {MAX_VOCAB - N_BYTES:,} merges")
    lengths = [1] * N_BYTES  # in bytes, of the entries so far
    for i, pair in enumerate(merges):
        if not isinstance(pair, list) or len(pair) != 2 or any(type(id) is not int for id in pair):
            raise damaged(f"merge {i} is not a pair of ids")
        if not all(0 <= id < len(lengths) for id in pair):
            raise damaged(f"merge {i} joins an entry that does not exist at that point")
        # Each merge could double the length: 30 of them would fill the memory of the machine.
        lengths.append(lengths[pair[0]] + lengths[pair[1]])
        if lengths[-1] > MAX_CHUNK_BYTES:
            raise damaged(f"merge {i} makes an entry longer than any word")
    pairs = [(left, right) for left, right in merges]
    if len(set(pairs)) < len(pairs):
        raise damaged("it has the same merge twice")
    return pairs


def damaged(problem: str) -> BadInput:
    return BadInput(f"The tokenizer in this file cannot be used, because {problem}: choose a file saved by this app.")
