"""Text to numbers and back: three tokenizers, from the simplest to the kind that GPT-2 uses.

A transformer computes with numbers, so a text first becomes a list of ids, each the row number of an entry in a
vocabulary. What an entry should be is a trade:

    tokenizer   an entry is   vocabulary       ids per text   text it has never seen
    char        a character   small            many           unknown characters are lost
    word        a word        large            few            unknown words are lost
    bpe         some bytes    as you choose    between        nothing is lost: any byte is an entry

A fourth, `GPT2Tokenizer`, is byte-pair encoding as it was learned for GPT-2, to read that model's files with.

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
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice, pairwise
from math import inf
from typing import Any, ClassVar, NamedTuple

from playground.config import MAX_MODEL_VOCAB, MAX_VOCAB, N_BYTES
from playground.errors import BadInput

MAX_CHARS = 5_000  # distinct characters of a CharTokenizer
MAX_CHUNK_BYTES = 1 + 32 * 4  # a space, then 32 characters of at most 4 bytes in UTF-8: see CHUNK
MAX_ADDED = 256  # tokens that stand beside the vocabulary: each is looked for at every place of a text
MAX_ENTRY_BYTES = 1_024  # of an entry that was learned elsewhere; GPT-2's longest has 128
MAX_CACHED = 64  # characters of a chunk whose ids are remembered
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


class PairTokenizer(Tokenizer):
    """Starts with bytes and joins pairs of tokens into longer and longer ones, in the order of `merges`.

    `merges[i]` joins two ids into the id `new_ids[i]`; `byte_ids[b]` is the id of byte b.
    """

    kind = "bpe"
    unk_id = None  # every text is made of bytes, and every byte is an entry

    def __init__(self, vocab: Iterable[bytes], byte_ids: Sequence[int], merges: Iterable[Pair], new_ids: Sequence[int]):
        self.vocab, self.byte_ids, self.merges, self.new_ids = list(vocab), byte_ids, list(merges), new_ids
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        # The same few thousand words make up most of any text, so remembering them makes encoding many times faster.
        self._encode_chunk = lru_cache(maxsize=50_000)(self._encode_chunk)

    def _encode_chunk(self, chunk: str) -> tuple[int, ...]:
        """Join pairs as training did: the one that was learned first goes first, and of two equal ones the left one."""
        ids = [self.byte_ids[byte] for byte in chunk.encode("utf-8")]
        ranks = self._ranks(ids)
        while (rank := min(ranks, default=inf)) < inf:
            at = ranks.index(rank)
            before = max(at - 1, 0)
            ids[at : at + 2] = [self.new_ids[rank]]
            ranks[before : at + 2] = self._ranks(ids[before : at + 2])  # only its neighbours are looked up anew
        return tuple(ids)

    def _ranks(self, ids: list[int]) -> list[float]:
        """When each id and its right neighbour are joined: inf for a pair that never is."""
        return [self.ranks.get(pair, inf) for pair in pairwise(ids)]

    def tokens(self, text: str) -> list[Token]:
        return [Token(id, *show(self.vocab[id])) for id in self.encode(text)]


class BPETokenizer(PairTokenizer):
    """Learns its merges from a text: merges[i] joined two earlier ids into the new id 256 + i.

    Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016; on bytes as in
    Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019.

    >>> tokenizer = BPETokenizer.train("low lower lowest", vocab_size=258)
    >>> [tokenizer.token_text(id) for id in (256, 257)]
    ['lo', 'low']
    >>> [token.text for token in tokenizer.tokens("slow €")]
    ['s', 'low', ' ', '‹e2›', '‹82›', '‹ac›']
    """

    def __init__(self, merges: Iterable[Pair]):
        vocab, merges = [bytes([byte]) for byte in range(N_BYTES)], list(merges)
        for left, right in merges:
            vocab.append(vocab[left] + vocab[right])
        super().__init__(vocab, range(N_BYTES), merges, range(N_BYTES, len(vocab)))

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


# --- GPT-2's own: the same joins, learned elsewhere -------------------------------------------------------------------


@lru_cache
def gpt2_chunk() -> re.Pattern:
    """GPT-2's way to cut up a text: English contractions, letters, digits and all else apart, in runs of any length."""
    # As its authors wrote it: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    # Python's `re` knows no \p{L} and \p{N}. Its \w is both and the underscore; of \p{N} its \d are the decimal digits,
    # the others are named here. To it four control characters are white space, which they are not to Unicode.
    others = "".join(
        c for c in map(chr, range(sys.maxunicode + 1)) if c.isnumeric() and not (c.isalpha() or c.isdecimal())
    )
    letter, number = rf"[^\W\d_{others}]", rf"[\d{others}]"
    space, no_space, neither = r"[^\S\x1c-\x1f]", r"[\S\x1c-\x1f]", r"(?:[^\s\w]|[_\x1c-\x1f])"
    return re.compile(rf"'s|'t|'re|'ve|'m|'ll|'d| ?{letter}+| ?{number}+| ?{neither}+|{space}+(?!{no_space})|{space}+")


class GPT2Tokenizer(PairTokenizer):
    """GPT-2's byte-pair encoding, with the ids that it had where it was learned; see interop.py for its files.

    What is in `added`, such as <|endoftext|>, is found in a text before anything is joined, and is one token, as in
    `transformers`. An empty entry stands for no text: a model may have room for more than there are.
    """

    def __init__(
        self, vocab: list[bytes], byte_ids: list[int], merges: list[tuple[int, int, int]], added: dict[str, int]
    ):
        super().__init__(vocab, byte_ids, [(left, right) for left, right, _ in merges], [new for *_, new in merges])
        self.added = dict(added)
        longest_first = sorted(added, key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if added else None

    def encode(self, text: str) -> list[int]:
        text = without_surrogates(text)
        parts = self._added.split(text) if self._added else [text]
        return [id for part in parts for id in self._encode_part(part)]

    def _encode_part(self, part: str) -> list[int]:
        if part in self.added:
            return [self.added[part]]
        chunks = (match.group() for match in gpt2_chunk().finditer(part))
        return [
            id
            for chunk in chunks
            for id in (self._encode_chunk(chunk) if len(chunk) <= MAX_CACHED else self._encode_long(chunk))
        ]

    def _encode_long(self, chunk: str) -> list[int]:
        """What `_encode_chunk` does, for a chunk in which looking through all pairs at every join would take too long.

        The pairs stand in a heap, the next to join first. A pair that has changed since is passed over.
        """
        ids: list[int | None] = [self.byte_ids[byte] for byte in chunk.encode("utf-8")]  # None: joined to its left
        n = len(ids)
        before, after = list(range(-1, n)), list(range(1, n + 1))  # where the neighbours of each place stand
        heap = [(self.ranks[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in self.ranks]
        heapq.heapify(heap)
        while heap:
            rank, at = heapq.heappop(heap)
            right = after[at]
            if right == n or self.ranks.get((ids[at], ids[right])) != rank:
                continue
            ids[at], ids[right] = self.new_ids[rank], None
            after[at] = after[right]
            before[after[at]] = at
            for left in (before[at], at):
                if left >= 0 and after[left] < n and (pair := (ids[left], ids[after[left]])) in self.ranks:
                    heapq.heappush(heap, (self.ranks[pair], left))
        return [id for id in ids if id is not None]

    def token_text(self, id: int) -> str:
        return super().token_text(id) if self.vocab[id] else "‹unused›"

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "gpt2",
            "vocab": [entry.decode("latin-1") for entry in self.vocab],  # a character for each byte
            "bytes": list(self.byte_ids),
            "merges": [[*pair, new] for pair, new in zip(self.merges, self.new_ids, strict=True)],
            "added": self.added,
        }


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
        case {"kind": "gpt2", "vocab": list(), "bytes": list(), "merges": list(), "added": dict()} if len(saved) == 5:
            return sound_gpt2(saved["vocab"], saved["bytes"], saved["merges"], saved["added"])
    raise damaged("it is none of the kinds that there are")


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


def sound_gpt2(vocab: list[Any], byte_ids: list[Any], merges: list[Any], added: dict[str, Any]) -> GPT2Tokenizer:
    if len(vocab) > MAX_MODEL_VOCAB:
        raise damaged(f"it has more than {MAX_MODEL_VOCAB:,} tokens")
    if not all(isinstance(entry, str) and max(entry, default="") <= "\xff" for entry in vocab):
        raise damaged("a token is not made of bytes")
    entries = [entry.encode("latin-1") for entry in vocab]
    if max(map(len, entries), default=0) > MAX_ENTRY_BYTES:
        raise damaged(f"it has a token of more than {MAX_ENTRY_BYTES:,} bytes")
    if not all(isinstance(merge, list) and len(merge) == 3 for merge in merges):
        raise damaged("a merge is not two tokens and what they become")
    if not all(type(id) is int and 0 <= id < len(entries) for id in chain(byte_ids, added.values(), *merges)):
        raise damaged("it speaks of a token that it does not have")
    if [entries[id] for id in byte_ids] != [bytes([byte]) for byte in range(N_BYTES)]:
        raise damaged("it does not have every byte")
    if not all(
        entries[left] and entries[right] and entries[left] + entries[right] == entries[new]
        for left, right, new in merges
    ):
        raise damaged("a merge does not become what its two tokens are together")
    if len({(left, right) for left, right, _ in merges}) < len(merges):
        raise damaged("it has the same merge twice")
    if len(added) > MAX_ADDED:
        raise damaged(f"it adds more than {MAX_ADDED} tokens")
    if any(not text or SURROGATE.search(text) for text in added):
        raise damaged("an added token is no text")
    return GPT2Tokenizer(entries, byte_ids, [tuple(merge) for merge in merges], added)


def damaged(problem: str) -> BadInput:
    return BadInput(f"The tokenizer in this file cannot be used, because {problem}: choose a file saved by this app.")
