"""Training: from random weights to a model that predicts the next token, one step at a time.

A step draws a batch, measures the cross-entropy of the model's predictions, asks autograd which way each weight should
move to lower it, and lets the optimizer move them. `Trainer` holds all that a run is; whoever calls `step()`, a loop
over `train()` or the page, decides when.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, time

import torch
from safetensors import safe_open
from safetensors.torch import load_file as load_tensors
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from playground.checkpoint import Beginning, Checkpoint, Provenance, TrainStep, clean_name
from playground.config import ModelConfig, Recipe, TrainConfig, quote, step_flops
from playground.corpus import Corpus, Text, check_length, get_batch, reference_losses, split
from playground.errors import BadInput
from playground.files import write_tensors
from playground.fused import fused_loss, matmul_dtype
from playground.heads import PERIOD
from playground.life import LIFE, MAX_FORESEEN, Life, begin_life, look, snapshot_steps
from playground.model import GPT, Dropout
from playground.optimizers import make_optimizers, set_rate
from playground.parallel import ALONE, N_HALVES, Beside, World, here
from playground.tokenizer import CharTokenizer, Tokenizer, train_tokenizer

ESTIMATE_TOKENS = 8_192  # validation tokens behind a point of the curves; the figures at the end are over all
ESTIMATE_ERROR = 0.01  # of the loss; about what so few tokens are off
EVAL_BATCH_TOKENS = 2_048  # tokens in one forward pass of an evaluation; bounds its memory
MAX_LINE = 1_000  # tokens of the validation part in which the beginning of a line is looked for
TIMED_TOKENS = 4_096  # tokens in the steps by which the time of a run is estimated
MAX_TIMED_PARAMS = 5_000_000  # of a model that is timed itself; a visitor waits for it

DEVICES = ("auto", "cuda", "mps", "cpu")

Sampler = Callable[[GPT, Tokenizer], str]  # writes a sample with a model that is in training


class Diverged(BadInput):
    """Training left the numbers a computer can hold. The trainer is back at its last good weights."""


@dataclass(frozen=True, eq=False)
class FirstText:
    """What the start of a fine-tuning learned from last. The loss on it says what is forgotten."""

    name: str
    val: Tensor  # (M,) int64, its validation part in the tokens of the start


# --- Where, and how fast ----------------------------------------------------------------------------------------------


def pick_device(wanted: str = "auto") -> torch.device:
    """The device of this name; "auto" is the fastest that is here. Raises `BadInput` for one that is not."""
    known = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    present = [name for name, is_here in known.items() if is_here]
    if wanted not in ("auto", *present):
        raise BadInput(f"There is no device {quote(wanted)} here: choose auto, or one of {', '.join(present)}.")
    return torch.device(present[0] if wanted == "auto" else wanted)


def training_dtype(device: torch.device) -> torch.dtype:
    """What a device multiplies matrices fastest in, as it says itself: never worse for training than bfloat16."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return matmul_dtype() if device.type == "cpu" else torch.float32


def get_lr(step: int, config: TrainConfig) -> float:
    """The learning rate of step 1, 2, …: up over `warmup_iters`, then in a straight line down to `min_lr`."""
    warmup = min(1.0, step / (config.warmup_iters + 1))
    left = (config.max_iters - step + 1) / config.max_iters  # 1 at the first step
    return max(config.min_lr, warmup * (config.min_lr + left * (config.learning_rate - config.min_lr)))


def check_learning_rate(config: TrainConfig, learning_rate: object) -> None:
    """Raises `BadInput` for a rate that no run may have."""
    if replace(config, learning_rate=learning_rate, min_lr=0.0).problems():
        raise BadInput("The learning rate must be a number from 0.000001 to 10, such as 0.01.")


def is_evaluated(step: int, config: TrainConfig) -> bool:
    """Whether a run looks at the validation part after this step: the first, every so many, the last."""
    return step in (1, config.max_iters) or step % config.eval_interval == 0


def estimate_tokens(with_first: bool) -> int:
    """About how many tokens of a validation part a point of its curve is measured on; all, if there are fewer.

    With a first text they are shared between the two, so that fine-tuning can look as often for the same time.
    """
    return ESTIMATE_TOKENS // (2 if with_first else 1)


# --- The loss ---------------------------------------------------------------------------------------------------------


def batch_loss(model: GPT, x: Tensor, y: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Mean cross-entropy of the model on a batch, with matrices multiplied in `dtype`, as this device does it best."""
    if x.device.type == "cpu":
        return fused_loss(model, x, y, dtype)
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        return model.loss(x, y)


class BatchLoss(nn.Module):
    """`batch_loss` of one model as a module, which is what torch compiles and distributes."""

    def __init__(self, model: GPT, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return batch_loss(self.model, x, y, self.dtype)


def full_loss(
    model: GPT,
    ids: Tensor,
    max_tokens: int | None = None,
    beside: Beside = here,
    dtype: torch.dtype = torch.float32,
) -> float:
    """Mean cross-entropy of the model on `ids`, in nats a token, with matrices multiplied in `dtype`.

    Every token but the first is predicted once, in windows of `block_size` that do not overlap. With `max_tokens`, only
    about that many are, in windows spread evenly over the text. Somebody `beside` takes every other batch.
    """
    batches = _windows(ids, model.config.block_size, max_tokens)
    was_training = model.training
    model.eval()
    others = beside(partial(_total_loss, model, batches[1::2], dtype))
    total = _total_loss(model, batches[::2], dtype) + others.result()
    model.train(was_training)
    return total / sum(x.numel() for x, _ in batches)


def _windows(ids: Tensor, block_size: int, max_tokens: int | None) -> list[tuple[Tensor, Tensor]]:
    """Batches of windows that do not overlap, and of the tokens that follow each of theirs."""
    n_windows = (len(ids) - 1) // block_size
    x, y = (ids[i : i + n_windows * block_size].view(n_windows, block_size) for i in (0, 1))
    if max_tokens and n_windows * block_size > max_tokens:
        keep = torch.linspace(0, n_windows - 1, max(1, max_tokens // block_size)).long()
        x, y, rest = x[keep], y[keep], ids[:0]
    else:
        rest = ids[n_windows * block_size :]  # what no longer fills a window
    rows = max(1, EVAL_BATCH_TOKENS // block_size)
    batches = list(zip(x.split(rows), y.split(rows), strict=True)) if len(x) else []
    if len(rest) > 1:
        batches.append((rest[None, :-1], rest[None, 1:]))
    return batches


@torch.inference_mode()
def _total_loss(model: GPT, batches: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> float:
    device = next(model.parameters()).device
    return sum(batch_loss(model, x.to(device), y.to(device), dtype).item() * x.numel() for x, y in batches)


# --- A run ------------------------------------------------------------------------------------------------------------


class Trainer:
    """A run: a model, its optimizers, its random numbers and what happened so far.

    Starts from random weights, or from those of `start`, whose tokenizer and shape then stay (fine-tuning); given the
    `first` text, every evaluation also measures how much of it is forgotten. `sampler` is called at every evaluation;
    what it returns becomes the step's `sample`. Given the ids of a `probe`, a `life` keeps what every head does with it
    and how well the model foresees some held-out text. `beside` may do half of the work; the processes of a `world`
    share the rows of every batch, and all end up with the same weights.
    """

    def __init__(
        self,
        config: ModelConfig,
        train_config: TrainConfig,
        corpus: Corpus,
        tokenizer: Tokenizer,
        start: Checkpoint | None = None,
        sampler: Sampler | None = None,
        probe: list[int] | None = None,
        first: FirstText | None = None,
        device: str = "auto",
        beside: Beside = here,
        world: World = ALONE,
    ):
        train_config.validate()
        if train_config.batch_size % world.size:
            raise BadInput(
                f"batch_size: {train_config.batch_size} rows cannot be shared equally by {world.size} processes: "
                f"choose a multiple of {world.size}."
            )
        self.config, self.train_config = config, train_config
        self.corpus, self.tokenizer, self.start, self.sampler = corpus, tokenizer, start, sampler
        self.first, self.beginning = first, None
        self.device, self.beside, self.world = pick_device(device), beside, world
        self.dtype = training_dtype(self.device)
        self.data_rng = torch.Generator().manual_seed(train_config.seed)  # which rows a batch has
        self.model = GPT(config, torch.Generator().manual_seed(train_config.seed))
        if start:
            self.model.load_state_dict(start.weights)
        self.model.to(self.device).train()
        self.losses, self.dropout_rngs = self._make_parts()
        self.optimizers = make_optimizers(self.model, train_config, n_parts=len(self.losses))
        self.references = reference_losses(corpus, config.vocab_size)
        self.rate_scale = 1.0  # what a change on the way has made of the schedule's learning rate
        self.history: list[TrainStep] = []
        self.life = begin_life(config, probe, passage_ids(tokenizer, corpus.val, config.block_size)) if probe else None
        self.snapshot_steps = snapshot_steps(train_config.max_iters, train_config.batch_size * config.block_size)
        self.seconds = 0.0
        self._keep_good_weights()

    @property
    def n_steps(self) -> int:
        return len(self.history)

    @property
    def finished(self) -> bool:
        return self.n_steps >= self.train_config.max_iters

    def set_learning_rate(self, learning_rate: float) -> None:
        """The next step is taken with this learning rate, which then falls as the schedule does."""
        check_learning_rate(self.train_config, learning_rate)
        if not self.finished:
            self.rate_scale = learning_rate / get_lr(self.n_steps + 1, self.train_config)

    def step(self) -> TrainStep:
        """One optimisation step, and an evaluation when one is due. Raises `Diverged` at a loss that is not finite."""
        started = perf_counter()
        step, config = self.n_steps + 1, self.train_config
        if self.start and step == 1:
            self.beginning = Beginning(*self._evaluate(), self.first and self.first.name)
        if self.n_steps in self.snapshot_steps:
            self.life = self._life_until_now()
        learning_rate = self.rate_scale * get_lr(step, config)
        loss, grad_norm = self._backward()
        self._stop_unless_finite(loss, grad_norm)
        self._move(learning_rate)
        evaluation = self._evaluate() if is_evaluated(step, config) else ()
        self.seconds += perf_counter() - started
        self.history.append(TrainStep(step, loss, learning_rate, grad_norm, self.seconds, *evaluation))
        if evaluation:
            self._keep_good_weights()
        return self.history[-1]

    def val_loss(self) -> float:
        """The loss over the whole validation part, in nats a token. Raises `Diverged` if it is not finite."""
        return self._finite_loss(self.corpus.val)

    def first_val_loss(self) -> float | None:
        """The same over that of the text that was learned before, if it is at hand."""
        return self._finite_loss(self.first.val) if self.first else None

    def any_process(self, is_so: bool) -> bool:
        """Whether something is so in any process of the world; all of them have to ask."""
        if self.world.size == 1:
            return is_so
        said = torch.tensor(float(is_so), device=self.device)
        dist.all_reduce(said)
        return bool(said)

    @property
    def provenance(self) -> tuple[Provenance, ...]:
        """The texts that the model has learned from, oldest first."""
        text = Provenance(clean_name(self.corpus.name), self.corpus.n_chars, self.corpus.sha256)
        return (*(self.start.provenance if self.start else ()), text)

    def checkpoint(self, name: str, val_loss: float | None = None, first_val_loss: float | None = None) -> Checkpoint:
        """What the run has learned so far, as a copy that further training does not touch."""
        return Checkpoint(
            name=name,
            config=self.config,
            tokenizer=self.tokenizer,
            weights=_copy(self.model.state_dict(), "cpu"),
            train_config=self.train_config,
            history=tuple(self.history),
            provenance=self.provenance,
            val_loss=val_loss,
            references=self.references,
            first_val_loss=first_val_loss,
            beginning=self.beginning,
            life=self._life_until_now(),
        )

    def back_to_good_weights(self) -> None:
        """Forgets what happened since the last evaluation, after which something went wrong."""
        n_steps, weights = self._good
        self.model.load_state_dict(weights)
        self.model.zero_grad(set_to_none=True)
        del self.history[n_steps:]
        self.life = self.life and self.life.until(n_steps - 1)  # the good weights themselves can be looked at again

    def save_state(self, file: Path) -> None:
        """Writes all that the next step depends on, whole or not at all; `load_state` of it goes on bit for bit."""
        good_step, good = self._good
        tensors = {"rng.data": self.data_rng.get_state()}
        tensors |= {f"rng.{self.device.type}.{i}": rng.get_state() for i, rng in enumerate(self.dropout_rngs)}
        tensors |= {f"model.{name}": weight for name, weight in self.model.state_dict().items()}
        tensors |= {f"good.{name}": weight for name, weight in good.items()}
        for name, moments in self._moments():
            tensors |= {f"moment.{kind}.{name}": moment for kind, moment in moments.items()}
        if self.life:
            tensors |= self.life.tensors()
        about = {
            "text": self.corpus.sha256,
            "config": vars(self.config),
            "rate_scale": self.rate_scale,
            "seconds": self.seconds,
            "good_step": good_step,
            "life": self.life and self.life.to_dict(),
            "history": [list(vars(step).values()) for step in self.history],
            "beginning": self.beginning and list(vars(self.beginning).values()),
        }
        write_tensors(file, tensors, {"state": json.dumps(about, allow_nan=False)})

    def load_state(self, file: Path) -> None:
        """Goes on from a state that a trainer of the same text, recipe and start has saved.

        Another device goes on with the same batches, but its dropout draws anew; so do all processes but the first.
        Raises `BadInput` for a state of another text or model.
        """
        about, tensors = _read_about(file), load_tensors(file)
        if (about["text"], about["config"]) != (self.corpus.sha256, vars(self.config)):
            raise BadInput("What was trained there was another text or another model: give the same text and settings.")

        def part(name: str) -> dict[str, Tensor]:
            return {key[len(name) :]: tensor.clone() for key, tensor in tensors.items() if key.startswith(name)}

        self.rate_scale, self.seconds = about["rate_scale"], about["seconds"]
        self.history = _steps(about)
        self.beginning = Beginning(*about["beginning"]) if about.get("beginning") else None
        self.data_rng.set_state(tensors["rng.data"])
        for i, rng in enumerate(self.dropout_rngs):
            state = tensors.get(f"rng.{self.device.type}.{i}") if self.world.rank == 0 else None
            if state is None:
                rng.manual_seed(hash((self.train_config.seed, self.n_steps, self.world.rank, i)))
            else:
                rng.set_state(state)
        self.model.load_state_dict(part("model."))
        saved = defaultdict(dict)
        for key, moment in part("moment.").items():
            kind, name = key.split(".", 1)
            saved[name][kind] = moment.to(self.device)
        for name, moments in self._moments():
            moments.clear()
            moments |= saved[name]
        if about.get("life"):
            copies = {name: tensor.clone() for name, tensor in tensors.items() if name.startswith(LIFE)}
            self.life = Life.from_dict(about["life"], copies)  # the file's own would keep all of it in memory
        self._good = (about["good_step"], {name: w.to(self.device) for name, w in part("good.").items()})

    def _moments(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """What its optimizer remembers of each weight, by the weight's name."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    yield names[id(p)], optimizer.state[p]

    def _make_parts(self) -> tuple[list[nn.Module], list[torch.Generator]]:
        """The loss of each part of a batch that this process works on, and what its dropout draws from.

        A processor takes a batch in two halves. The second has a model of its own, of the very same weights, since each
        half draws its own dropout.
        """
        halves = self.device.type == "cpu" and self.world.size == 1 and self.train_config.batch_size >= N_HALVES
        losses, rngs = [], []
        for i in range(N_HALVES if halves else 1):
            same_weights = {id(p): p for p in self.model.parameters()}
            model = deepcopy(self.model, same_weights) if i else self.model
            rngs.append(torch.Generator(self.device).manual_seed(self.train_config.seed + self.world.rank + i))
            for module in model.modules():
                if isinstance(module, Dropout):
                    module.generator = rngs[i]
            losses.append(BatchLoss(model, self.dtype))
        if self.world.size > 1:
            losses = [DistributedDataParallel(loss, forward_sync_buffers=False) for loss in losses]
        return losses, rngs

    def _backward(self) -> tuple[float, float]:
        config = self.train_config
        batch = get_batch(self.corpus.train, config.batch_size, self.config.block_size, self.data_rng)  # (B, T) each
        x, y = (rows.chunk(self.world.size)[self.world.rank].to(self.device) for rows in batch)
        own, *others = (
            partial(_learn, loss, *part, share=len(part[0]) / len(x))
            for loss, *part in zip(self.losses, x.chunk(len(self.losses)), y.chunk(len(self.losses)), strict=True)
        )
        waiting = [self.beside(other) for other in others]
        try:
            loss = own()
        finally:  # nobody adds gradients any more when this is left
            rest = [other.result() for other in waiting]
        loss = loss + sum(rest)
        if self.world.size > 1:
            dist.all_reduce(loss)
            loss /= self.world.size
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip or math.inf)
        return loss.item(), grad_norm.item()

    def _move(self, learning_rate: float) -> None:
        set_rate(self.optimizers, learning_rate)
        first, *others = self.optimizers
        waiting = self.beside(first.step)
        for optimizer in others:
            optimizer.step()
        waiting.result()
        self.model.zero_grad(set_to_none=True)

    def _stop_unless_finite(self, *numbers: float) -> None:
        if all(map(math.isfinite, numbers)):
            return
        step, learning_rate = self.n_steps + 1, self.rate_scale * self.train_config.learning_rate
        self.back_to_good_weights()
        raise Diverged(
            f"The loss was no longer a finite number at step {step}, so training stopped; the weights of step "
            f"{self.n_steps} are kept. Try a learning rate of {learning_rate / 4:.2g}, or a longer warm-up."
        )

    def _life_until_now(self) -> Life | None:
        """With a snapshot of the weights as they are, unless there is one."""
        if not self.life or self.n_steps in self.life.steps:
            return self.life
        return look(self.life, self.model, self.n_steps)

    def _evaluate(self) -> tuple[float, str | None, float | None]:
        """The losses on both texts, each from some of its validation part, and a sample between the two."""
        max_tokens = estimate_tokens(with_first=bool(self.first))
        estimate = partial(self._finite_loss, max_tokens=max_tokens, dtype=self.dtype)
        return estimate(self.corpus.val), self._write_sample(), estimate(self.first.val) if self.first else None

    def _finite_loss(self, ids: Tensor, **how: object) -> float:
        loss = full_loss(self.model, ids, beside=self.beside, **how)
        self._stop_unless_finite(loss)
        return loss

    def _write_sample(self) -> str | None:
        self.model.eval()
        sample = self.sampler(self.model, self.tokenizer) if self.sampler else None
        self.model.train()
        return sample

    def _keep_good_weights(self) -> None:
        self._good = (self.n_steps, _copy(self.model.state_dict()))


def _learn(loss: nn.Module, x: Tensor, y: Tensor, share: float) -> Tensor:
    """Adds a part's share of the batch's gradient to the weights'; returns its share of the loss."""
    part = share * loss(x, y)
    part.backward()
    return part.detach()


# --- From a text and a recipe to a run --------------------------------------------------------------------------------


def planned_model(text: Text, recipe: Recipe, start: Checkpoint | None = None) -> ModelConfig:
    """The model that a run will train; words and subwords are taken to become as many as the recipe asks for.

    With `start`, which the run goes on from, it is that checkpoint's; only the dropout can still be chosen. Raises
    `BadInput` for what can be told without cutting the text into tokens.
    """
    train_text, val_text = split(text.text)
    kind = start.tokenizer.kind if start else recipe.tokenizer
    if kind == "char":  # a token is a character
        check_length(text.name, len(train_text), len(val_text), (start.config if start else recipe.model).block_size)
    if start:
        return replace(start.config, dropout=recipe.model.dropout)
    vocab_size = CharTokenizer.train(train_text).vocab_size if kind == "char" else recipe.tokenizer_vocab_size
    return replace(recipe.model, vocab_size=vocab_size)


def make_trainer(
    text: Text,
    recipe: Recipe,
    start: Checkpoint | None = None,
    sampler: Sampler | None = None,
    first: Text | None = None,
    **where: object,
) -> Trainer:
    """A run that is ready for its first step, from a text and a recipe. `where` goes to the `Trainer`: device, beside.

    The tokenizer learns from the part of the text that the model is trained on. With `start`, tokenizer and model are
    that checkpoint's and only the recipe's training settings count; what is forgotten of the `first` text is measured.
    """
    if start:
        tokenizer = start.tokenizer
    else:
        tokenizer = train_tokenizer(recipe.tokenizer, split(text.text)[0], recipe.tokenizer_vocab_size)
    config = replace(planned_model(text, recipe, start), vocab_size=tokenizer.vocab_size)
    config.validate()
    corpus = Corpus.build(text, tokenizer, config.block_size)
    probe = probe_ids(recipe.probe, tokenizer, corpus, config.block_size)
    return Trainer(config, recipe.train, corpus, tokenizer, start, sampler, probe, _first(first, tokenizer), **where)


def _first(text: Text | None, tokenizer: Tokenizer) -> FirstText | None:
    """The text as a trainer needs it, unless it is too short to predict a token of it."""
    val = torch.tensor(tokenizer.encode(split(text.text)[1]) if text else (), dtype=torch.int64)
    return FirstText(clean_name(text.name), val) if len(val) > 1 else None


def probe_ids(probe: str, tokenizer: Tokenizer, corpus: Corpus, block_size: int) -> list[int]:
    """The tokens on which the heads are watched. Without a text for it: how the validation part begins, twice, so that
    one sees which head finds again what stood there before.
    """
    if not probe:
        return 2 * corpus.val[: min(PERIOD, block_size // 2)].tolist()
    ids = tokenizer.encode(probe)
    if all(i == tokenizer.unk_id for i in ids):
        raise BadInput("The model will know nothing in the text to watch its heads on: use words of its own text.")
    return ids


def passage_ids(tokenizer: Tokenizer, val: Tensor, block_size: int) -> list[int]:
    """The held-out tokens that are foreseen at each look: from the first line near the beginning of the validation part
    of which enough follows, or else from its beginning.
    """
    n = min(MAX_FORESEEN, block_size) + 1
    n_starts = max(0, len(val) - n + 1)
    texts = [tokenizer.token_text(i) for i in val[: min(MAX_LINE, n_starts)].tolist()]
    lines = (i for i, pair in enumerate(pairwise(texts), 1) if pair[0].endswith("\n") and pair[1].strip())
    start = next(lines, 0)
    return val[start : start + n].tolist()


# --- To its end, and how long that takes ------------------------------------------------------------------------------


def train(trainer: Trainer, target_val_loss: float | None = None) -> Iterator[TrainStep]:
    """Steps until the run is finished, or until the loss over the whole validation part reaches the target."""
    # By how much the curve's estimate, which is cheap, is taken to be too low: until the whole part has been looked at
    # for the first time, it may as well be too high.
    off = -ESTIMATE_ERROR * (target_val_loss or 0.0)
    while not trainer.finished:
        step = trainer.step()
        yield step
        if target_val_loss is not None and step.val_loss is not None and step.val_loss + off <= target_val_loss:
            loss = trainer.val_loss()
            if loss <= target_val_loss:
                return
            off = loss - step.val_loss


def estimate_seconds(config: ModelConfig, train_config: TrainConfig, beside: Beside = here) -> float:
    """About how long a run takes on this machine as busy as it is now, evaluations included."""
    minute = int(time() / 60)
    step = _step_seconds(config, train_config.batch_size, train_config.optimizer, beside, minute)
    evaluations = train_config.max_iters / train_config.eval_interval
    forward = step / 3 * ESTIMATE_TOKENS / (train_config.batch_size * config.block_size)
    return train_config.max_iters * step + evaluations * forward


@lru_cache(maxsize=256)
def _step_seconds(config: ModelConfig, batch_size: int, optimizer: str, beside: Beside, minute: int) -> float:
    """The duration of a step with a few rows, scaled up to all of them; for a large model, by that of a small one.

    It holds for the `minute` in which it was measured, since the machine is not always equally busy.
    """
    if config.n_params > MAX_TIMED_PARAMS:
        small, train_config = ModelConfig(), TrainConfig(batch_size=batch_size, optimizer=optimizer)
        share = step_flops(config, train_config) / step_flops(small, train_config)
        return share * _step_seconds(small, batch_size, optimizer, beside, minute)
    rows = min(batch_size, max(N_HALVES, TIMED_TOKENS // config.block_size))
    ids = torch.arange(2 * config.block_size) % config.vocab_size
    corpus, train_config = Corpus("", 0, "", ids, ids, 0, 0), TrainConfig(batch_size=rows, optimizer=optimizer)
    trial = Trainer(config, train_config, corpus, CharTokenizer("ab"), beside=beside)
    ends = [trial.step().seconds for _ in range(4)]  # the first step also allocates, and evaluates
    return median(end - begin for begin, end in pairwise(ends)) * batch_size / rows


def saved_history(file: Path) -> list[TrainStep]:
    """What happened up to a saved state, without reading its weights."""
    return _steps(_read_about(file))


def _read_about(file: Path) -> dict:
    with safe_open(file, "pt") as state:
        return json.loads(state.metadata()["state"])


def _steps(about: dict) -> list[TrainStep]:
    return [TrainStep(*values) for values in about["history"]]


def _copy(weights: dict[str, Tensor], device: str | None = None) -> dict[str, Tensor]:
    return {name: weight.detach().to(device or weight.device, copy=True) for name, weight in weights.items()}
