"""Every setting of a model and of a training run, what each may be, and what a run will cost."""

import math
import sys
from dataclasses import dataclass, field, fields, replace

from playground.errors import BadInput

POSITIONS = ("learned", "sinusoidal", "rotary", "none")
NORMS = ("layernorm", "rmsnorm")
ACTIVATIONS = ("gelu", "relu2", "swiglu")
OPTIMIZERS = ("adam", "adamw", "muon")
TOKENIZER_KINDS = ("char", "word", "bpe")

N_BYTES = 256  # byte-pair encoding has an entry for every byte, so it never has fewer
MAX_VOCAB = 8_192  # of a vocabulary of words or byte-pair subwords that is learned here
MAX_MODEL_VOCAB = 65_536  # of any model; GPT-2 has 50,257
BYTES_PER_FLOAT = 4
RUN_BYTES = 50 * 2**20  # of any run, however small: buffers, and what is between two uses
MAX_QUOTED = 60  # characters
FEWEST_EVALUATIONS = 10  # of fine-tuning


def is_number(value: object) -> bool:
    """Whether a stranger's value is a number that a float can hold: no NaN, no infinity, no True, no 10**400."""
    whole_or_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return whole_or_real and -sys.float_info.max <= value <= sys.float_info.max


def is_whole(value: object) -> bool:
    """Whether a stranger's value is a whole number; 3.0 is one, as a slider may send it."""
    return is_number(value) and value == int(value)


def quote(value: object) -> str:
    """A stranger's value as a sentence may quote it."""
    shown = repr(value)
    return shown if len(shown) <= MAX_QUOTED else shown[:MAX_QUOTED] + "…"


def _one_of(*choices: str, default: str):
    return field(default=default, metadata={"choices": choices})


def _between(low: float, high: float, default: float):
    return field(default=default, metadata={"range": (low, high)})


class _Checked:
    """Settings that can say what is wrong with them: each field's type, range or choices, then rules across fields."""

    def problems(self) -> dict[str, str]:
        """What is wrong, by the name of the setting to change: `{"n_head": "…"}`; empty when all is well."""
        found = {f.name: _problem(f, getattr(self, f.name)) for f in fields(self)}
        found = {name: sentence for name, sentence in found.items() if sentence}
        return found or self._conflicts()

    def validate(self) -> None:
        """Raises `BadInput` with the first problem."""
        for name, sentence in self.problems().items():
            raise BadInput(f"{name}: {sentence}")

    def _conflicts(self) -> dict[str, str]:
        return {}

    @classmethod
    def from_dict(cls, values: dict):
        """The settings in `values`, which may be a stranger's: unknown, missing or wrong ones are refused."""
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise BadInput(f"The {cls.__name__} must hold exactly these settings: {', '.join(sorted(names))}.")
        settings = cls(**values)
        settings.validate()
        return settings


def _problem(f, value) -> str | None:
    if choices := f.metadata.get("choices"):
        return None if value in choices else f"{quote(value)} is not one of {', '.join(choices)}."
    if f.type is bool:
        return None if isinstance(value, bool) else f"{quote(value)} is neither true nor false."
    if not is_number(value) or (f.type is int and not isinstance(value, int)):
        return f"{quote(value)} is not a {'whole ' if f.type is int else ''}number."
    low, high = f.metadata["range"]
    return None if low <= value <= high else f"{value:,} is outside {low:,} to {high:,}."


@dataclass(frozen=True)
class ModelConfig(_Checked):
    """The shape of a model. `block_size` is the context length in tokens, `n_embd` the embedding size (d_model)."""

    vocab_size: int = _between(2, MAX_MODEL_VOCAB, default=66)
    block_size: int = _between(4, 2_048, default=64)
    n_layer: int = _between(1, 48, default=4)
    n_head: int = _between(1, 64, default=4)
    n_embd: int = _between(4, 2_048, default=128)
    dropout: float = _between(0.0, 0.9, default=0.0)
    bias: bool = False
    position: str = _one_of(*POSITIONS, default="rotary")
    norm: str = _one_of(*NORMS, default="rmsnorm")
    activation: str = _one_of(*ACTIVATIONS, default="swiglu")
    qk_norm: bool = True  # normalise queries and keys before their product, so that scores stay bounded

    @property
    def head_dim(self) -> int:
        """Width of one head, `hs` in the shape comments."""
        return self.n_embd // self.n_head

    @property
    def n_hidden(self) -> int:
        """Width inside the MLP. SwiGLU has three matrices, not two, so each is 2/3 as wide (and a multiple of 32)."""
        if self.activation != "swiglu":
            return 4 * self.n_embd
        return 32 * math.ceil(8 * self.n_embd / 3 / 32)

    @property
    def n_params(self) -> int:
        """Number of trainable parameters; counted here by formula, so that the page knows before the model exists."""
        C, H, V, T, bias = self.n_embd, self.n_hidden, self.vocab_size, self.block_size, int(self.bias)
        norm = C * (1 + (bias if self.norm == "layernorm" else 0))
        attention = 4 * C * C + 4 * C * bias + (2 * self.head_dim if self.qk_norm else 0)
        matrices_in = 2 if self.activation == "swiglu" else 1
        mlp = (matrices_in + 1) * C * H + bias * (matrices_in * H + C)
        positions = T * C if self.position == "learned" else 0
        return V * C + positions + self.n_layer * (2 * norm + attention + mlp) + norm + C * V

    def _conflicts(self) -> dict[str, str]:
        found = {}
        if self.n_embd % self.n_head:
            fitting = [n for n in range(1, min(self.n_embd, 64) + 1) if self.n_embd % n == 0]
            nearest = sorted(sorted(fitting, key=lambda n: abs(n - self.n_head))[:2])
            found["n_head"] = (
                f"an embedding of {self.n_embd} cannot be cut into {self.n_head} equal heads: "
                f"choose {' or '.join(map(str, nearest))}."
            )
        elif self.position == "rotary" and self.head_dim % 2:
            found["position"] = f"rotary positions turn pairs of numbers, and a head of {self.head_dim} has an odd one."
        elif self.position == "sinusoidal" and self.n_embd % 2:
            found["position"] = f"sinusoidal positions come in pairs, and an embedding of {self.n_embd} is odd."
        return found


@dataclass(frozen=True)
class TrainConfig(_Checked):
    """How a model is trained. Learning rates are per step; one step sees `batch_size` rows of `block_size` tokens."""

    max_iters: int = _between(1, 100_000, default=300)
    batch_size: int = _between(1, 512, default=12)
    learning_rate: float = _between(1e-6, 10.0, default=0.03)
    min_lr: float = _between(0.0, 10.0, default=0.0)
    warmup_iters: int = _between(0, 100_000, default=20)
    optimizer: str = _one_of(*OPTIMIZERS, default="muon")
    weight_decay: float = _between(0.0, 1.0, default=0.0)
    grad_clip: float = _between(0.0, 100.0, default=1.0)  # 0 switches clipping off
    eval_interval: int = _between(1, 100_000, default=50)
    seed: int = _between(0, 2**32 - 1, default=1337)

    def _conflicts(self) -> dict[str, str]:
        if self.min_lr > self.learning_rate:
            return {"min_lr": f"the last learning rate {self.min_lr} is above the first, {self.learning_rate}."}
        return {}


def for_fine_tuning(train: TrainConfig) -> TrainConfig:
    """The settings for going on from a trained model, which the large steps of its training would make forget.

    A tenth of the learning rate is usual: GPT was trained at up to 2.5e-4 and fine-tuned at 6.25e-5 (Radford et al.
    2018), Llama 2 at 3e-4 and 2e-5 (Touvron et al. 2023, 7B), which is a quarter and a fifteenth. And however few the
    steps, there are enough evaluations to see what is learned and what is forgotten.

    >>> tuned = for_fine_tuning(TrainConfig(max_iters=100, learning_rate=0.03, eval_interval=50))
    >>> tuned.learning_rate, tuned.eval_interval
    (0.003, 10)
    """
    learning_rate, min_lr = (round(rate / 10, 9) for rate in (train.learning_rate, train.min_lr))
    eval_interval = min(train.eval_interval, max(1, train.max_iters // FEWEST_EVALUATIONS))
    return replace(train, learning_rate=learning_rate, min_lr=min_lr, eval_interval=eval_interval)


def memory_bytes(model: ModelConfig, train: TrainConfig) -> int:
    """About how much memory a run takes, in bytes, as `benchmarks/growth.py` found it: within a quarter.

    Weights, gradients, the optimizer's moments, the last good weights and what Muon works with are all copies of the
    model. Activations are what the backward pass needs again: per layer and token some vectors of n_embd and of the
    MLP's inside, half of them in 16 bits, and a row of attention weights for every head; then the logits. The layer
    that is at work has some more such rows.
    """
    copies = 7 if train.optimizer == "muon" else 6
    row = model.n_head * model.block_size  # attention weights of a token
    per_layer = 28 * model.n_embd + 14 * model.n_hidden + 2 * row
    if model.dropout:
        per_layer += 8 * model.n_embd + 6 * row  # what was dropped
    at_work = (10 if model.dropout else 4) * row
    per_token = model.n_layer * per_layer + at_work + 14 * model.vocab_size
    activations = train.batch_size * model.block_size * per_token
    return RUN_BYTES + BYTES_PER_FLOAT * copies * model.n_params + activations


def step_flops(model: ModelConfig, train: TrainConfig) -> float:
    """Floating-point operations of one training step: 6 for each weight and token, and the attention's own products."""
    tokens = train.batch_size * model.block_size
    attention = 12 * model.n_layer * model.n_embd * model.block_size
    return tokens * (6 * (model.n_params - model.vocab_size * model.n_embd) + attention)


@dataclass(frozen=True)
class Recipe:
    """Tokenizer, model and training: all that makes a run but its text, which then sets the model's vocab_size."""

    title: str
    tokenizer: str
    tokenizer_vocab_size: int  # wanted by words and byte-pair; characters take what the text has
    model: ModelConfig
    train: TrainConfig
    probe: str = ""  # a text on which the heads are watched while they learn; if empty, one of the corpus's own

    def problems(self) -> dict[str, str]:
        """What is wrong with any of its settings, by the setting's name; empty when all is well."""
        low, high = (N_BYTES if self.tokenizer == "bpe" else 2), MAX_VOCAB
        size, own = self.tokenizer_vocab_size, {}
        if self.tokenizer not in TOKENIZER_KINDS:
            own["tokenizer"] = f"{quote(self.tokenizer)} is not one of {', '.join(TOKENIZER_KINDS)}."
        if self.tokenizer != "char" and not (isinstance(size, int) and low <= size <= high):
            own["tokenizer_vocab_size"] = f"the vocabulary must be a whole number from {low:,} to {high:,}."
        return own | self.model.problems() | self.train.problems()


_DEFAULT = ModelConfig()
_CLASSIC = replace(
    _DEFAULT, bias=True, position="learned", norm="layernorm", activation="gelu", qk_norm=False, dropout=0.1
)
_ADAMW = TrainConfig(
    max_iters=2000,
    learning_rate=1e-3,
    min_lr=1e-4,
    warmup_iters=100,
    optimizer="adamw",
    weight_decay=0.1,
    eval_interval=100,
)

PRESETS = {
    "tiny": Recipe(
        "Tiny, 5 seconds",
        "char",
        512,
        replace(_DEFAULT, n_layer=2, n_head=2, n_embd=64, block_size=48),
        TrainConfig(max_iters=400, eval_interval=40),
    ),
    "small": Recipe(
        "Small, 10 seconds",
        "char",
        512,
        replace(_DEFAULT, n_layer=3),  # as good in ten seconds as four, and more of them are steps
        TrainConfig(max_iters=270, learning_rate=0.035, warmup_iters=5, eval_interval=30),
    ),
    "medium": Recipe(
        "Medium, 1 minute",
        "char",
        512,
        replace(_DEFAULT, block_size=128),
        TrainConfig(max_iters=1_000, learning_rate=0.02, eval_interval=100),
    ),
    "best": Recipe(
        "Best, 20 minutes",
        "char",
        512,
        replace(_DEFAULT, n_embd=256, block_size=192, dropout=0.1),
        TrainConfig(max_iters=2_300, batch_size=20, learning_rate=0.02, eval_interval=100),
    ),
    "classic": Recipe("Classic GPT-2 style", "char", 512, _CLASSIC, _ADAMW),
    "modern": Recipe(
        "Modern Llama style",
        "bpe",
        1_024,
        replace(_DEFAULT, qk_norm=False),
        TrainConfig(max_iters=1_200, batch_size=16, eval_interval=60),
    ),
}
