"""The thing that flows through every tab: a trained model with all that is needed to use it, explain it and go on.

A checkpoint is one file in the safetensors format: the weights, and in the file's header one JSON text with the rest.
Reading one never runs code from it, so a stranger's file can be opened; every part of it is checked first.
"""

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from playground.config import BYTES_PER_FLOAT, ModelConfig, TrainConfig, is_number, quote
from playground.corpus import References
from playground.errors import BadInput
from playground.files import write_tensors
from playground.life import LIFE, Life, check_about, check_foreseen, shapes
from playground.model import GPT
from playground.tokenizer import Tokenizer, tokenizer_from_dict, without_surrogates

FORMAT = "transformer-playground-1"
FILE_NAME = "checkpoint.safetensors"
MAX_NAME = 80  # characters
BYTES_OF_A_STEP = 300  # in memory, measured
BYTES_OF_A_TOKEN = 200  # of a vocabulary, likewise
SMALL = 2**23  # parameters; a model that is made within a moment
MAX_HEADER = 32 * 2**20  # bytes; JSON takes many times its size once it is read

WeightsOf = Callable[[ModelConfig], dict[str, Tensor]]


@dataclass(frozen=True)
class TrainStep:
    """What one training step did. Losses are in nats a token; `val_loss` and `sample` are there after an evaluation."""

    step: int
    train_loss: float
    learning_rate: float
    grad_norm: float  # before clipping
    seconds: float  # of training so far, pauses not counted
    val_loss: float | None = None
    sample: str | None = None
    first_val_loss: float | None = None  # where fine-tuning watches what is forgotten: on the text learned before


@dataclass(frozen=True)
class Beginning:
    """Where fine-tuning began: what an evaluation before the first step found, and which text was learned before."""

    val_loss: float
    sample: str | None
    first_val_loss: float | None  # None, as the name, if that text was not at hand
    first_text: str | None


@dataclass(frozen=True)
class Provenance:
    """A note of a text that a model was trained on: enough to recognise it, never the text itself."""

    name: str
    n_chars: int
    sha256: str


@dataclass(frozen=True)
class Past:
    """How a model came to be, without the model itself: what stays of a run that has ended."""

    config: ModelConfig
    train_config: TrainConfig
    history: tuple[TrainStep, ...] = field(repr=False, default=())
    provenance: tuple[Provenance, ...] = ()
    val_loss: float | None = None
    references: References | None = None
    first_val_loss: float | None = None
    beginning: Beginning | None = None

    def to_dict(self) -> dict:
        return {
            "config": asdict(self.config),
            "train_config": asdict(self.train_config),
            "history": [list(vars(step).values()) for step in self.history],
            "provenance": [list(vars(text).values()) for text in self.provenance],
            "val_loss": self.val_loss,
            "references": [list(vars(self.references).values())] if self.references else [],
            "first_val_loss": self.first_val_loss,
            "beginning": [list(vars(self.beginning).values())] if self.beginning else [],
        }

    @classmethod
    def from_dict(cls, about: dict) -> "Past":
        """Raises `BadInput` for what `to_dict` did not make."""
        return cls(
            config=ModelConfig.from_dict(about.get("config")),
            train_config=TrainConfig.from_dict(about.get("train_config")),
            history=tuple(_records(TrainStep, about.get("history"))),
            provenance=tuple(
                replace(text, name=clean_name(text.name)) for text in _records(Provenance, about.get("provenance"))
            ),
            val_loss=_value("val_loss", float | None, about.get("val_loss")),
            references=next(_records(References, about.get("references")), None),
            first_val_loss=_value("first_val_loss", float | None, about.get("first_val_loss")),
            beginning=_beginning(about.get("beginning", [])),
        )


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tokenizer, configuration, weights and history of a model. Never changed once made; a new one replaces it.

    Each is equal to itself alone, so that what is known of one can be looked up by it.
    """

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    weights: dict[str, Tensor] = field(repr=False)
    train_config: TrainConfig
    history: tuple[TrainStep, ...] = field(repr=False, default=())
    provenance: tuple[Provenance, ...] = ()  # oldest first; fine-tuning adds one
    val_loss: float | None = None  # over the whole validation part, nats a token
    references: References | None = None  # what counting alone reaches there
    first_val_loss: float | None = None  # likewise, of the text that was learned before
    beginning: Beginning | None = None  # where it is fine-tuned
    life: Life | None = field(repr=False, default=None)  # what it did while it learned

    @property
    def step(self) -> int:
        return self.history[-1].step if self.history else 0

    def learned_last_from(self, sha256: str) -> bool:
        """Whether the text of this digest is the one that it was trained on last."""
        return any(text.sha256 == sha256 for text in self.provenance[-1:])

    @property
    def title(self) -> str:
        """For captions: two of one name differ by their steps."""
        return f"{self.name}, step {self.step:,}"

    @property
    def past(self) -> Past:
        return Past(**{f.name: getattr(self, f.name) for f in fields(Past)})

    @property
    def nbytes(self) -> int:
        """In memory: weights, which its model shares, its layers' masks, vocabulary, history and snapshots."""
        config, snapshots = self.config, self.life.tensors().values() if self.life else ()
        masks = config.n_layer * config.block_size * (config.block_size + 2 * BYTES_PER_FLOAT * config.head_dim)
        text = BYTES_OF_A_TOKEN * config.vocab_size + BYTES_OF_A_STEP * len(self.history)
        return BYTES_PER_FLOAT * config.n_params + masks + text + sum(tensor.nbytes for tensor in snapshots)

    @cached_property
    def model(self) -> GPT:
        """The model, ready for use and shared by all who read it: not to be trained; `Trainer` makes its own."""
        model = GPT(self.config)
        model.load_state_dict(self.weights, assign=True)  # no copy of them
        return model.eval().requires_grad_(False)


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as the bytes of its one file."""
    return save_tensors(_tensors(checkpoint), metadata=_header(checkpoint))


def all_but_weights(checkpoint: Checkpoint) -> bytes:
    """The same file without the weights, for where they are kept in another form."""
    return save_tensors(_life(checkpoint), metadata=_header(checkpoint))


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes the file whole or not at all: a reader, or a crash, never meets half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, _tensors(checkpoint), _header(checkpoint))


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint's file, or the one in a folder that `train --out` made. `BadInput` for anything else."""
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise BadInput(f"There is no checkpoint at {path}: train one there first, or name its folder.")
    return from_bytes(file.read_bytes())


def from_bytes(data: bytes, weights_of: WeightsOf | None = None) -> Checkpoint:
    """The checkpoint in the bytes of an uploaded file. Raises `BadInput` that says what is wrong with it.

    Of a file without weights, `weights_of` gives, and checks, those of the model in it.
    """
    about, stored = _read_header(data)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise BadInput("This safetensors file was not saved by the playground: it lacks the playground's own header.")
    past = Past.from_dict(about)
    tokenizer = tokenizer_from_dict(about.get("tokenizer"))
    if tokenizer.vocab_size != past.config.vocab_size:
        raise BadInput(
            f"The checkpoint does not fit together: its tokenizer has {tokenizer.vocab_size:,} tokens, "
            f"its model {past.config.vocab_size:,}. Upload one as the playground saved it."
        )
    about_life = about.get("life")
    if about_life is not None:
        check_about(about_life, past.config)
    expected = shapes(about_life, past.config) if about_life else {}
    if weights_of is None:
        expected |= {name: (shape, "F32") for name, shape in weight_shapes(past.config).items()}
    _check_shapes(stored, expected)
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise BadInput("The checkpoint is damaged or cut short: download it again from where it came from.") from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise BadInput(f"The checkpoint's weights are broken: {name} holds numbers that are not finite.")
    life = Life.from_dict(about_life, tensors) if about_life else None
    if life:
        check_foreseen(life, past.config)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(LIFE)}
    weights = weights_of(past.config) if weights_of else own
    return Checkpoint(clean_name(about.get("name")), tokenizer=tokenizer, weights=weights, life=life, **vars(past))


def clean_name(name: object) -> str:
    """A name as it may be shown and used in a file's name: one printable line of at most 80 characters, no path."""
    fitting = "".join(c if c.isprintable() and c not in "/\\" else " " for c in str(name or ""))
    shortened = " ".join(fitting.split())[:MAX_NAME].strip()
    return shortened if shortened.strip(".") else "Untitled"


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return checkpoint.weights | _life(checkpoint)


def _life(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return checkpoint.life.tensors() if checkpoint.life else {}


def _header(checkpoint: Checkpoint) -> dict[str, str]:
    about = {"format": FORMAT, "name": checkpoint.name, "tokenizer": checkpoint.tokenizer.to_dict()}
    about |= {"life": checkpoint.life.to_dict()} if checkpoint.life else {}
    return {"playground": json.dumps(about | checkpoint.past.to_dict(), allow_nan=False)}


def _read_header(data: bytes) -> tuple[object, dict]:
    """The playground's JSON from a safetensors file, and what the file says of its tensors, by their names.

    The format: 8 bytes of length, then that much JSON, our text under __metadata__; then the tensors' bytes.
    """
    length = int.from_bytes(data[:8], "little")
    try:
        if not 2 <= length <= min(len(data) - 8, MAX_HEADER):
            raise ValueError("the header does not fit into the file, or is too large to be one")
        stored = json.loads(data[8 : 8 + length])
        metadata = stored.pop("__metadata__", None) or {}
        return json.loads(metadata.get("playground", "null")), stored
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        if data[:2] == b"PK" or data[:1] == b"\x80":  # a ZIP archive, as torch.save makes, or a bare pickle
            raise BadInput(
                "This is a PyTorch or pickle file, which can run code when it is opened, so it is not: "
                "upload a .safetensors checkpoint downloaded from the playground."
            ) from error
        raise BadInput(
            "This is not a checkpoint, or its beginning is damaged: upload a .safetensors file downloaded here."
        ) from error


def weight_shapes(config: ModelConfig) -> dict[str, list[int]]:
    """The shapes of a model's weights by their names, without memory for them if they are large."""
    # On "meta" a model has shapes alone. Only where it pays: torch imports its compiler for that, which takes 1.2 s.
    with torch.device("cpu" if config.n_params <= SMALL else "meta"):
        return {name: list(weight.shape) for name, weight in GPT(config).state_dict().items()}


def _check_shapes(stored: dict, expected: dict[str, tuple[list[int], str]]) -> None:
    """Compares what the file says of its tensors with what the model has, before any takes more memory than it did."""
    if set(stored) != set(expected):
        name = sorted(set(stored) ^ set(expected))[0]
        raise BadInput(f"The checkpoint's weights do not belong to its configuration: {quote(name)} is amiss.")
    for name, entry in stored.items():
        shape, dtype = (entry.get("shape"), entry.get("dtype")) if isinstance(entry, dict) else (None, None)
        if (shape, dtype) != expected[name]:
            wanted_shape, wanted_dtype = expected[name]
            raise BadInput(
                f"The checkpoint's weights do not fit its configuration: {name} is {quote(shape)} of {quote(dtype)}, "
                f"not {wanted_shape} of {wanted_dtype!r}."
            )


def _beginning(rows: object) -> Beginning | None:
    begun = next(_records(Beginning, rows), None)
    return replace(begun, first_text=clean_name(begun.first_text)) if begun and begun.first_text else begun


def _records(cls: type, rows: object):
    """`cls(*row)` for every row of a stranger's JSON list, with the types of its fields checked. Earlier playgrounds
    did not have the last of those fields that need no value.
    """
    fewest = sum(f.default is MISSING for f in fields(cls))
    for row in rows if isinstance(rows, list) else [None]:
        if not isinstance(row, list) or not fewest <= len(row) <= len(fields(cls)):
            raise BadInput(f"The checkpoint's {cls.__name__} records are not as the playground saves them.")
        yield cls(*(_value(f.name, f.type, value) for f, value in zip(fields(cls), row, strict=False)))


def _value(name: str, kind: object, value: object):
    fits = {
        int: is_number(value) and isinstance(value, int),
        float: is_number(value),
        int | None: value is None or (is_number(value) and isinstance(value, int)),
        str: isinstance(value, str),
        float | None: is_number(value) or value is None,
        str | None: isinstance(value, str) or value is None,
    }[kind]
    if not fits:
        raise BadInput(f"The checkpoint's {name} is not what the playground saves: {quote(value)}.")
    return without_surrogates(value) if isinstance(value, str) else value
