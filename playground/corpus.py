"""From any upload to batches: read it as text, split it, turn it into ids, and know what loss a mere count would reach.

Nothing here trusts the file: whatever cannot be used is answered with BadInput, in one sentence for the visitor.
"""

import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import compress
from pathlib import Path

import numpy as np
import torch

from playground.corpora import BUILT_IN
from playground.errors import BadInput
from playground.tokenizer import Tokenizer, without_surrogates

MAX_BYTES = 20 * 2**20  # of an upload or a pasted text
N_EXAMPLES = 3  # of what a tokenizer does not know

# --- Reading ----------------------------------------------------------------------------------------------------------

# Longest first: a UTF-32 mark begins with the UTF-16 one.
BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32-le",
    b"\x00\x00\xfe\xff": "utf-32-be",
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}

# What people upload by mistake. A PDF can consist of readable characters, so it has to be known by its first bytes.
SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an office document",
    b"\x1f\x8b": "a gzip archive",
}

CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")  # all but tab, line ends and form feed
MAX_CONTROL_SHARE = 0.01  # a text may hold a stray one; in random bytes more than one in ten is


@dataclass(frozen=True)
class Text:
    """A text with the name it came under. `note` is for the visitor: how it was read, if that was a guess."""

    name: str
    text: str
    note: str = ""

    @cached_property
    def sha256(self) -> str:
        """Of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_text(path: str | Path, name: str | None = None) -> Text:
    """The text of a file, shown as `name` (default: the file's own). Raises BadInput, and nothing else."""
    path = Path(path)
    name = path.name if name is None else name
    try:
        if not path.is_file():  # a device or a pipe may never end
            raise BadInput(f"{name} is not a file that can be read: choose a text file.")
        _check_size(path.stat().st_size, name)  # before a byte is read
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{name} cannot be read ({error.strerror}): choose another file.") from error
    return decode(data, name)


def decode(data: bytes, name: str) -> Text:
    """The text in the bytes of an upload, in whatever encoding. Raises BadInput, and nothing else."""
    _check_size(len(data), name)
    for signature, what in SIGNATURES.items():
        if data.startswith(signature):
            raise BadInput(f"{name} is {what}, not plain text: copy the text out of it and paste it instead.")
    text, note = _decode_marked(data, name) or _decode_unmarked(data, name)
    return _checked(Text(name, text, note))


@lru_cache
def built_in(name: str) -> Text:
    """One of the corpora that need no file, by its name in `BUILT_IN`. Raises BadInput for any other."""
    if name not in BUILT_IN:
        raise BadInput(f"There is no built-in text of this name: choose one of {', '.join(BUILT_IN)}.")
    return Text(BUILT_IN[name].title, BUILT_IN[name].make(0))


def pasted(text: str) -> Text:
    """A text typed or pasted into the page; surrogates, which are not characters, become U+FFFD. Raises BadInput."""
    text = without_surrogates(text)
    _check_size(len(text.encode()), "The pasted text")
    return _checked(Text("The pasted text", text))


def _check_size(n_bytes: int, name: str) -> None:
    if n_bytes > MAX_BYTES:
        size = math.ceil(n_bytes / 2**20 * 10) / 10  # upwards, so that it never reads "20.0 MB, at most 20 MB"
        raise BadInput(f"{name} is {size} MB long, and at most {MAX_BYTES // 2**20} MB can be used: take a part of it.")


def _decode_marked(data: bytes, name: str) -> tuple[str, str] | None:
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            try:
                text = data[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                raise BadInput(f"{name} begins as {encoding[:6].upper()} but is damaged: save it as UTF-8.") from error
            return text, f"Read as {encoding.upper()}; the byte-order mark at its start was dropped."
    return None


def _decode_unmarked(data: bytes, name: str) -> tuple[str, str]:
    guess = _guess_utf16(data)
    attempts = {guess: f"Read as {guess.upper()}, a guess from its NUL bytes."} if guess else {}
    attempts |= {"utf-8": "", "cp1252": "Read as Windows-1252, since it is not UTF-8."}
    for encoding, note in attempts.items():
        try:
            return data.decode(encoding), note
        except UnicodeDecodeError:
            continue
    raise BadInput(f"{name} is not plain text but binary data: choose a text file, best saved as UTF-8.")


def _guess_utf16(data: bytes) -> str | None:
    """In UTF-16 the high byte of a Latin letter, a space or a line end is 0. High bytes stand at odd or even places."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    if max(even, odd) <= 0.05 * len(data):  # in one of ten characters; a stray NUL in a text is no UTF-16
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _checked(text: Text) -> Text:
    if not text.text.strip():
        raise BadInput(f"{text.name} is empty: choose a text with words in it.")
    n_control = len(CONTROL.findall(text.text))
    if n_control > MAX_CONTROL_SHARE * len(text.text):
        raise BadInput(f"{text.name} is not plain text but binary data: choose a text file, best saved as UTF-8.")
    if "\x00" in text.text:
        raise BadInput(f"{text.name} contains NUL bytes, which no text does: save it again as plain text in UTF-8.")
    return text


# --- Splitting and batching -------------------------------------------------------------------------------------------


def split(text: str) -> tuple[str, str]:
    """The training part, which is the first 90 % of the characters, and the validation part, which is the rest."""
    n = int(0.9 * len(text))
    return text[:n], text[n:]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as ids, split for training and validation. It remembers what the text was, not the text itself."""

    name: str
    n_chars: int
    sha256: str  # of the whole text in UTF-8
    train: torch.Tensor  # (N,) int64
    val: torch.Tensor  # (M,) int64
    unknown: int  # how many validation tokens are not in the vocabulary
    val_chars: int  # that the validation tokens but the first, which nothing predicts, stand for

    @classmethod
    def build(cls, text: Text, tokenizer: Tokenizer, block_size: int) -> "Corpus":
        """Encode both parts with a tokenizer that was trained on the first. Raises BadInput if they are too short."""
        if len(set(text.text)) < 2:
            raise BadInput(f"{text.name} is one character repeated, so nothing can be learned: choose a real text.")
        train_text, val_text = split(text.text)
        train, val = (torch.tensor(tokenizer.encode(part), dtype=torch.int64) for part in (train_text, val_text))
        check_length(text.name, len(train), len(val), block_size)
        n_first = int(token_lengths(tokenizer, val_text, val[:1])[0, 0])
        return cls(
            name=text.name,
            n_chars=len(text.text),
            sha256=text.sha256,
            train=train,
            val=val,
            unknown=0 if tokenizer.unk_id is None else int((val == tokenizer.unk_id).sum()),
            val_chars=len(val_text) - n_first,
        )


def check_length(name: str, n_train: int, n_val: int, block_size: int) -> None:
    """Raises BadInput if a text has too few tokens in one of its parts for a context of `block_size`."""
    n_tokens = n_train + n_val
    if n_tokens < 2 * block_size:
        raise BadInput(
            f"{name} has only {n_tokens} tokens, and a context length of {block_size} needs at least {2 * block_size}: "
            "use a longer text or a smaller context length."
        )
    if n_train <= block_size:  # x and y together are block_size + 1 tokens
        raise BadInput(
            f"The first 90 % of {name}, which are for training, have only {n_train} tokens, and a context length of "
            f"{block_size} needs more than {block_size}: use a longer text or a smaller context length."
        )
    if n_val < 2:
        raise BadInput(
            f"{name} has {n_tokens} tokens, which leaves {n_val} for validation, and at least 2 are needed: "
            "use a longer text."
        )


def token_lengths(tokenizer: Tokenizer, text: str, ids: torch.Tensor) -> torch.Tensor:
    """How many characters, and how many bytes in UTF-8, each of a text's `ids` (T,) stands for: (2, T).

    A character that is spread over several tokens counts with the one it begins in, and an unknown token with what
    stands there. So the sums are the lengths of the text itself.
    """
    by_id = torch.tensor([(_n_chars(entry), len(entry)) for entry in tokenizer.vocab]).T  # (2, V)
    lengths = by_id[:, ids]
    if tokenizer.unk_id is not None and (unknown := ids == tokenizer.unk_id).any():
        pieces = compress(tokenizer.pieces(text), unknown.tolist())
        lengths[:, unknown] = torch.tensor([(len(piece), len(piece.encode())) for piece in pieces]).T
    return lengths


def _n_chars(entry: bytes) -> int:
    """How many characters begin in these bytes: in UTF-8 all of a character's bytes but its first are 10xxxxxx."""
    return sum(byte & 0b1100_0000 != 0b1000_0000 for byte in entry)


@dataclass(frozen=True)
class Unknown:
    """What a tokenizer does not know of a text."""

    share: float  # of all tokens
    examples: tuple[str, ...]  # the most frequent


@lru_cache(maxsize=2)
def unknown(text: Text, tokenizer: Tokenizer) -> Unknown:
    """What of a text all becomes one and the same token. For byte-pair encoding, which knows every byte, nothing.

    >>> unknown(Text("", "über, süße"), CharTokenizer.train("bets, rules"))
    Unknown(share=0.3, examples=('ü', 'ß'))
    """
    if tokenizer.unk_id is None:
        return Unknown(0.0, ())
    counts = Counter(tokenizer.pieces(text.text))
    strange = Counter({piece: n for piece, n in counts.items() if piece not in tokenizer.ids})
    return Unknown(strange.total() / counts.total(), tuple(piece for piece, _ in strange.most_common(N_EXAMPLES)))


def get_batch(
    ids: torch.Tensor, batch_size: int, block_size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows x at random positions of `ids`, and y, the token that follows each token of x: both (B, T)."""
    starts = torch.randint(len(ids) - block_size, (batch_size, 1), generator=generator)  # (B, 1)
    positions = starts + torch.arange(block_size)  # (B, T)
    return ids[positions], ids[positions + 1]


# --- What counting alone reaches --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class References:
    """Losses in nats per token, over the validation part, of three models that only count; and how long it is."""

    uniform: float  # every token is as likely as any other: ln V
    unigram: float  # how often each token occurs
    bigram: float  # how often it follows the token before it
    n_tokens: int  # over how many tokens they were measured
    n_chars: int | None = None  # that these tokens stand for; None in checkpoints from before it was counted
    n_unknown: int = 0  # validation tokens that are not in the vocabulary


def reference_losses(corpus: Corpus, vocab_size: int) -> References:
    """Train the three on the training part. The first validation token has no context and is not counted.

    unigram: p(b) = (count(b) + 1) / (N + V)
    bigram:  p(b|a) = (count(ab) + p(b)) / (count(a as a context) + 1)

    The bigram falls back on the unigram where a pair is rare (Jurafsky and Martin, Speech and Language Processing,
    chapter 3, on smoothing and interpolation).
    """
    train, val = corpus.train.numpy(), corpus.val.numpy()
    a, b = val[:-1], val[1:]
    p_b = (np.bincount(train, minlength=vocab_size)[b] + 1) / (len(train) + vocab_size)
    n_a = np.bincount(train[:-1], minlength=vocab_size)[a]
    n_ab = _pair_counts(train, val, vocab_size)
    p_b_after_a = (n_ab + p_b) / (n_a + 1)
    return References(
        math.log(vocab_size), _mean_nats(p_b), _mean_nats(p_b_after_a), len(b), corpus.val_chars, corpus.unknown
    )


def _pair_counts(train: np.ndarray, val: np.ndarray, vocab_size: int) -> np.ndarray:
    """How often each pair of neighbours in `val` occurs in `train`: (M - 1,).

    The pairs are sorted numbers instead of a V x V table, which would not fit for a large vocabulary.
    """
    seen, counts = np.unique(train[:-1] * vocab_size + train[1:], return_counts=True)
    wanted = val[:-1] * vocab_size + val[1:]
    nearest = np.searchsorted(seen, wanted).clip(max=len(seen) - 1)
    return np.where(seen[nearest] == wanted, counts[nearest], 0)


def _mean_nats(probabilities: np.ndarray) -> float:
    return float(-np.log(probabilities).mean())
