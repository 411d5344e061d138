"""Runs side by side: in which settings they differ, what they took, and how good they became.

Losses in nats a token compare runs whose tokens are the same. Bits per character compare all runs on one text, whatever
their tokens: a model that foresees longer tokens is more often surprised, and less often asked.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from playground.checkpoint import Past, TrainStep
from playground.corpus import References
from playground.runs import Run
from playground.training import Trainer, estimate_tokens, get_lr

FORMULA = ("=", "+", "-", "@")  # how a cell begins that spreadsheets compute
WANTED_SIZE = "tokenizer_vocab_size"  # of the vocabulary; `vocab_size` is what came of it
RESULTS = (
    "n_params",
    "step",
    "tokens",
    "seconds",
    "best_loss",
    "best_step",
    "best_tokens",
    "val_loss",
    "val_tokens",
    "bits_per_char",
    "n_unknown",
    "unknown_share",
)
IN_NAME = ("text", "start")  # settings of which a run's name is made; a very long one is cut
WORDS = {  # of a setting, where the value alone does not tell
    "text_sha256": "text {:.8}…",
    "start": "from {}",
    "tokenizer": "{} tokens",
    "vocab_size": "vocabulary {}",
    "block_size": "context {}",
    "n_layer": "{} layers",
    "n_head": "{} heads",
    "n_embd": "d_model {}",
    "dropout": "dropout {:g}",
    "bias": "biases",
    "position": "{} positions",
    "qk_norm": "qk-norm",
    "max_iters": "{} steps",
    "batch_size": "batch {}",
    "learning_rate": "lr {:g}",
    "min_lr": "last lr {:g}",
    "warmup_iters": "{} warm-up steps",
    "weight_decay": "weight decay {:g}",
    "grad_clip": "clipping {:g}",
    "eval_interval": "evaluated every {}",
    "seed": "seed {}",
    "learning_rate_changed": "lr changes on the way",
}
MOST_TOLD = 4  # settings after a run's name; the table has all of them


@dataclass(frozen=True)
class Compared:
    """One run among others, as it is now. Losses are in nats a token, over the validation part."""

    id: str
    name: str
    state: str
    settings: dict[str, object]  # by their names in the code; None for what is not known yet
    n_params: int | None  # None before the tokenizer has been made
    step: int
    tokens_per_step: int
    seconds: float  # of computing
    best_loss: float | None  # the lowest of the curve, whose points are estimates
    best_step: int | None
    best_tokens: int | None  # over how many it was estimated
    val_loss: float | None  # over the whole part, at the last step; None while the run goes on
    val_tokens: int | None  # over how many
    bits_per_char: float | None  # of `val_loss`; a lower bound where tokens are unknown, and so are all its losses
    bits_per_nat: float | None  # what a loss of one nat a token is in bits per character
    n_unknown: int  # validation tokens that are not in the vocabulary
    unknown_share: float  # of all validation tokens
    vocabulary: str  # the same for runs whose tokens are the same: only their losses compare
    history: list[TrainStep] = field(repr=False)
    evaluations: list[TrainStep] = field(repr=False)  # those steps of it that have a validation loss

    @property
    def tokens(self) -> int:
        """How many tokens training has seen, the same one as often as it came."""
        return self.step * self.tokens_per_step

    def to_dict(self) -> dict[str, object]:
        """All settings and results by their names, for a table."""
        named = {"name": self.name, "state": self.state} | self.settings
        return named | {name: getattr(self, name) for name in RESULTS}


def compare(runs: Iterable[Run]) -> list[Compared]:
    """The runs as they are now, in their order."""
    return [_compared(run) for run in runs]


def differing(rows: Sequence[Compared]) -> list[str]:
    """The names of the settings in which the runs differ, without those that can be read in their own names."""
    first = rows[0].settings if rows else {}
    read = [name for name in IN_NAME if all((row.settings[name] or "") in row.name for row in rows)]
    left_out = {WANTED_SIZE, *read}
    names = [n for n in first if n not in left_out and any(row.settings[n] != first[n] for row in rows)]
    texts = {(row.settings["text"], row.settings["text_sha256"]) for row in rows}
    if len(texts) == len({name for name, _ in texts}):  # their names tell the texts apart
        return [name for name in names if name != "text_sha256"]
    return names


def distinctions(rows: Sequence[Compared], reference: Compared) -> list[str]:
    """What tells each run from the reference, as in "4 layers, lr 0.001"; and the reference from all others."""
    names = differing(rows)
    return [_told(row, reference, names) for row in rows]


def in_words(name: str, value: object) -> str:
    """A setting's value in a few words; none for what is not known yet.

    >>> in_words("n_layer", 4), in_words("n_layer", 1), in_words("learning_rate", 0.001), in_words("bias", False)
    ('4 layers', '1 layer', 'lr 0.001', 'no biases')
    """
    words = WORDS.get(name, "{}")
    if value is None:
        return ""
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return words.format(value).removesuffix("s" if value == 1 else "")


def bits_per_nat(references: References | None) -> float | None:
    """What a loss of one nat a token is in bits per character, on the validation part that these were measured on.

    Where a token is two characters long, it is half of log2(e):

    >>> bits_per_nat(References(4.2, 3.3, 2.5, n_tokens=50, n_chars=100)) == math.log2(math.e) / 2
    True
    """
    if not references or not references.n_chars:
        return None
    return references.n_tokens / references.n_chars / math.log(2)


def to_csv(rows: Sequence[Compared]) -> str:
    """The table with all settings, a line a run. No name of a visitor's becomes a formula in a spreadsheet."""
    lines, file = [row.to_dict() for row in rows], io.StringIO()
    writer = csv.DictWriter(file, lines[0] if lines else [])
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in line.items()} for line in lines)
    return file.getvalue()


def _no_formula(value: object) -> object:
    """
    >>> print(_no_formula("=1+1"), _no_formula("one+one"), _no_formula(-1))
    '=1+1 one+one -1
    """
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(FORMULA) else value


def _compared(run: Run) -> Compared:
    seen, progress = run.trainer or run.past, run.progress()
    config, train, references = seen.config, seen.train_config, seen.references
    evaluations = [step for step in progress.steps if step.val_loss is not None]
    best = min(evaluations, key=lambda step: step.val_loss, default=None)
    loss, rate = progress.final_loss, bits_per_nat(references)
    n_tokens = references.n_tokens if references else 0
    return Compared(
        id=run.id,
        name=run.name,
        state=progress.state,
        settings=_settings(run, seen, progress.steps),
        n_params=config.n_params if references else None,
        step=progress.step,
        tokens_per_step=train.batch_size * config.block_size,
        seconds=progress.seconds,
        best_loss=best and best.val_loss,
        best_step=best and best.step,
        best_tokens=best and min(estimate_tokens(best.first_val_loss is not None), n_tokens),
        val_loss=loss,
        val_tokens=None if loss is None else n_tokens,
        bits_per_char=None if loss is None or rate is None else loss * rate,
        bits_per_nat=rate,
        n_unknown=references.n_unknown if references else 0,
        unknown_share=references.n_unknown / (n_tokens + 1) if references else 0.0,  # the first has no loss
        vocabulary=_vocabulary(run, seen),
        history=progress.steps,
        evaluations=evaluations,
    )


def _vocabulary(run: Run, seen: Trainer | Past) -> str:
    """What the tokenizer is and what it was learned from: of a chain of models it is the first one's."""
    first = seen.provenance[0].sha256 if seen.provenance else run.origin["text_sha256"]
    return f"{run.recipe.tokenizer} {seen.config.vocab_size} {first}"


def _told(row: Compared, reference: Compared, names: Sequence[str]) -> str:
    ours, theirs = row.settings, reference.settings
    words = [in_words(name, ours[name]) for name in names if row is reference or ours[name] != theirs[name]]
    words = [word for word in words if word]
    told = ", ".join(words[:MOST_TOLD] + [f"{len(words) - MOST_TOLD} more"] * (len(words) > MOST_TOLD))
    if row is reference:
        return f"reference: {told}" if told else "reference"
    return told or "same settings"


def _settings(run: Run, seen: Trainer | Past, history: Sequence[TrainStep]) -> dict[str, object]:
    """All that the run was told to do, and how large the tokenizer's vocabulary became."""
    recipe, train = run.recipe, seen.train_config
    wanted_size = None if recipe.tokenizer == "char" else recipe.tokenizer_vocab_size  # characters: the text decides
    settings = run.origin | {"tokenizer": recipe.tokenizer, WANTED_SIZE: wanted_size}
    settings |= asdict(seen.config) | asdict(train)
    settings["learning_rate_changed"] = bool(history) and history[-1].learning_rate != get_lr(len(history), train)
    return settings if seen.references else settings | {"vocab_size": None}  # there is no tokenizer yet
