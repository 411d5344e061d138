"""Training: from random weights to a model that predicts the next token, one step at a time.

A step draws a batch, measures the cross-entropy of the model's predictions, asks autograd which way each weight should
move to lower it, and lets the optimizer move them. `Trainer` holds all that a run is; whoever calls `step()`, a loop
over `train()` or the page, decides when.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from time import perf_counter, time

import torch
from safetensors import safe_open
from safetensors.torch import load_file as load_tensors
from torch import Tensor

from playground.checkpoint import Checkpoint, Provenance, TrainStep
from playground.config import ModelConfig, Recipe, TrainConfig, step_flops
from playground.corpus import Corpus, Text, check_length, get_batch, reference_losses, split
from playground.errors import BadInput
from playground.files import write_tensors
from playground.model import GPT, Dropout
from playground.tokenizer import CharTokenizer, Tokenizer, train_tokenizer

ESTIMATE_TOKENS = 8_192  # validation tokens behind each point of the curve; the figure at the end is over all
EVAL_BATCH_TOKENS = 8_192  # tokens in one forward pass of an evaluation; bounds its memory
TIMED_TOKENS = 1_024  # tokens in the steps by which the time of a run is estimated
MAX_TIMED_PARAMS = 5_000_000  # of a model that is timed itself; a visitor waits for it
EMBEDDING_RATE = 0.3  # of Muon's learning rate, for what Adam moves beside it: embeddings, head, norms, biases

Sampler = Callable[[GPT, Tokenizer], str]  # writes a sample with a model that is in training


class Diverged(BadInput):
    """Training left the numbers a computer can hold. The trainer is back at its last good weights."""


def pick_device() -> torch.device:
    """The fastest device that is here: a CUDA or Apple GPU, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def get_lr(step: int, config: TrainConfig) -> float:
    """The learning rate of step 1, 2, …: up over `warmup_iters`, then in a straight line down to `min_lr`."""
    warmup = min(1.0, step / (config.warmup_iters + 1))
    left = (config.max_iters - step + 1) / config.max_iters  # 1 at the first step
    return max(config.min_lr, warmup * (config.min_lr + left * (config.learning_rate - config.min_lr)))


def check_learning_rate(config: TrainConfig, learning_rate: object) -> None:
    """Raises `BadInput` for a rate that no run may have."""
    if replace(config, learning_rate=learning_rate, min_lr=0.0).problems():
        raise BadInput("The learning rate must be a number from 0.000001 to 10, such as 0.01.")


def make_optimizers(model: GPT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """The optimizers of a run. Each of their groups has a `scale`: its learning rate as a multiple of the schedule's.

    Muon (Jordan 2024) makes every step of a matrix orthogonal, so that all directions learn at one pace. It is for the
    matrices inside the layers; tables and vectors go by Adam. Weight decay pulls at matrices only.
    """
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    if config.optimizer == "muon":
        hidden = {id(p) for p in model.h.parameters() if p.dim() == 2}
        others = [p for p in model.parameters() if id(p) not in hidden]
        muon = [{"params": [p for p in matrices if id(p) in hidden], "scale": 1.0}]
        adam = [{"params": others, "scale": EMBEDDING_RATE}]
        return [
            torch.optim.Muon(muon, momentum=0.95, weight_decay=config.weight_decay),
            torch.optim.Adam(adam, betas=(0.9, 0.95), fused=True),
        ]
    groups = [
        {"params": matrices, "scale": 1.0, "weight_decay": config.weight_decay},
        {"params": vectors, "scale": 1.0, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return [kind([group for group in groups if group["params"]], betas=(0.9, 0.99), fused=True)]


@torch.inference_mode()
def full_loss(model: GPT, ids: Tensor, max_tokens: int | None = None) -> float:
    """Mean cross-entropy of the model on `ids`, in nats a token, in float32.

    Every token but the first is predicted once, in windows of `block_size` that do not overlap. With `max_tokens`, only
    about that many are, in windows spread evenly over the text.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    block_size = model.config.block_size
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
    total = sum(model.loss(x.to(device), y.to(device)).item() * x.numel() for x, y in batches)
    model.train(was_training)
    return total / sum(x.numel() for x, _ in batches)


class Trainer:
    """A run: a model, its optimizers, its random numbers and what happened so far.

    Starts from random weights, or from those of `start`, whose tokenizer and shape then stay (fine-tuning).
    `sampler` is called at every evaluation; what it returns becomes the step's `sample`.
    """

    def __init__(
        self,
        config: ModelConfig,
        train_config: TrainConfig,
        corpus: Corpus,
        tokenizer: Tokenizer,
        start: Checkpoint | None = None,
        sampler: Sampler | None = None,
    ):
        train_config.validate()
        self.config, self.train_config = config, train_config
        self.corpus, self.tokenizer, self.start, self.sampler = corpus, tokenizer, start, sampler
        self.device = pick_device()
        self.data_rng = torch.Generator().manual_seed(train_config.seed)  # which rows a batch has
        self.model = GPT(config, torch.Generator().manual_seed(train_config.seed))
        if start:
            self.model.load_state_dict(start.weights)
        self.model.to(self.device).train()
        self.dropout_rng = torch.Generator(self.device).manual_seed(train_config.seed)
        for module in self.model.modules():
            if isinstance(module, Dropout):
                module.generator = self.dropout_rng
        self.optimizers = make_optimizers(self.model, train_config)
        self.references = reference_losses(corpus, config.vocab_size)
        self.rate_scale = 1.0  # what a change on the way has made of the schedule's learning rate
        self.history: list[TrainStep] = []
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
        learning_rate = self.rate_scale * get_lr(step, config)
        loss, grad_norm = self._backward()
        self._stop_unless_finite(loss, grad_norm)
        self._move(learning_rate)
        val_loss = sample = None
        if step == 1 or step % config.eval_interval == 0 or step == config.max_iters:
            val_loss = full_loss(self.model, self.corpus.val, ESTIMATE_TOKENS)
            self._stop_unless_finite(val_loss)
            sample = self._write_sample()
        self.seconds += perf_counter() - started
        self.history.append(TrainStep(step, loss, learning_rate, grad_norm, self.seconds, val_loss, sample))
        if val_loss is not None:
            self._keep_good_weights()
        return self.history[-1]

    def val_loss(self) -> float:
        """The loss over the whole validation part, in nats a token. Raises `Diverged` if it is not finite."""
        loss = full_loss(self.model, self.corpus.val)
        self._stop_unless_finite(loss)
        return loss

    def checkpoint(self, name: str, val_loss: float | None = None) -> Checkpoint:
        """What the run has learned so far, as a copy that further training does not touch."""
        text = Provenance(self.corpus.name, self.corpus.n_chars, self.corpus.sha256)
        return Checkpoint(
            name=name,
            config=self.config,
            tokenizer=self.tokenizer,
            weights=_copy(self.model.state_dict(), "cpu"),
            train_config=self.train_config,
            history=tuple(self.history),
            provenance=(*(self.start.provenance if self.start else ()), text),
            val_loss=val_loss,
            references=self.references,
        )

    def back_to_good_weights(self) -> None:
        """Forgets what happened since the last evaluation, after which something went wrong."""
        n_steps, weights = self._good
        self.model.load_state_dict(weights)
        self.model.zero_grad(set_to_none=True)
        del self.history[n_steps:]

    def save_state(self, file: Path) -> None:
        """Writes all that the next step depends on, whole or not at all; `load_state` of it goes on bit for bit."""
        good_step, good = self._good
        tensors = {"rng.data": self.data_rng.get_state(), "rng.dropout": self.dropout_rng.get_state()}
        tensors |= {f"model.{name}": weight for name, weight in self.model.state_dict().items()}
        tensors |= {f"good.{name}": weight for name, weight in good.items()}
        for i, optimizer in enumerate(self.optimizers):
            for n, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{n}.{name}": moment for name, moment in moments.items()}
        about = {
            "rate_scale": self.rate_scale,
            "seconds": self.seconds,
            "good_step": good_step,
            "history": [list(vars(step).values()) for step in self.history],
        }
        write_tensors(file, tensors, {"state": json.dumps(about, allow_nan=False)})

    def load_state(self, file: Path) -> None:
        """Goes on from a state that a trainer of the same text, recipe and start has saved."""
        about, tensors = _read_about(file), load_tensors(file)

        def part(name: str) -> dict[str, Tensor]:
            return {key[len(name) :]: tensor.clone() for key, tensor in tensors.items() if key.startswith(name)}

        self.data_rng.set_state(tensors["rng.data"])
        self.dropout_rng.set_state(tensors["rng.dropout"])
        self.model.load_state_dict(part("model."))
        for i, optimizer in enumerate(self.optimizers):
            moments = {}
            for key, moment in part(f"optimizer.{i}.").items():
                n, name = key.split(".")
                moments.setdefault(int(n), {})[name] = moment
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        self.rate_scale, self.seconds = about["rate_scale"], about["seconds"]
        self.history = _steps(about)
        self._good = (about["good_step"], {name: w.to(self.device) for name, w in part("good.").items()})

    def _backward(self) -> tuple[float, float]:
        config = self.train_config
        x, y = get_batch(self.corpus.train, config.batch_size, self.config.block_size, self.data_rng)  # (B, T) each
        loss = self.model.loss(x.to(self.device), y.to(self.device))
        loss.backward()
        limit = config.grad_clip or math.inf
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        return loss.item(), grad_norm.item()

    def _move(self, learning_rate: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["scale"]
            optimizer.step()
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

    def _write_sample(self) -> str | None:
        self.model.eval()
        sample = self.sampler(self.model, self.tokenizer) if self.sampler else None
        self.model.train()
        return sample

    def _keep_good_weights(self) -> None:
        self._good = (self.n_steps, _copy(self.model.state_dict()))


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
    text: Text, recipe: Recipe, start: Checkpoint | None = None, sampler: Sampler | None = None
) -> Trainer:
    """A run that is ready for its first step, from a text and a recipe.

    The tokenizer learns from the part of the text that the model is trained on. With `start`, tokenizer and model are
    that checkpoint's and only the recipe's training settings count.
    """
    if start:
        tokenizer = start.tokenizer
    else:
        tokenizer = train_tokenizer(recipe.tokenizer, split(text.text)[0], recipe.tokenizer_vocab_size)
    config = replace(planned_model(text, recipe, start), vocab_size=tokenizer.vocab_size)
    config.validate()
    return Trainer(config, recipe.train, Corpus.build(text, tokenizer, config.block_size), tokenizer, start, sampler)


def train(trainer: Trainer, target_val_loss: float | None = None) -> Iterator[TrainStep]:
    """Steps until the run is finished, or until the loss over the whole validation part reaches the target."""
    while not trainer.finished:
        step = trainer.step()
        yield step
        # The curve's estimate is cheap and a little off, so near the target the whole part decides.
        near = target_val_loss is not None and step.val_loss is not None and step.val_loss <= 1.02 * target_val_loss
        if near and trainer.val_loss() <= target_val_loss:
            return


def estimate_seconds(config: ModelConfig, train_config: TrainConfig) -> float:
    """About how long a run takes on this machine as busy as it is now, evaluations included."""
    step = _step_seconds(config, train_config.batch_size, train_config.optimizer, minute=int(time() / 60))
    evaluations = train_config.max_iters / train_config.eval_interval
    forward = step / 3 * ESTIMATE_TOKENS / (train_config.batch_size * config.block_size)
    return train_config.max_iters * step + evaluations * forward


@lru_cache(maxsize=256)
def _step_seconds(config: ModelConfig, batch_size: int, optimizer: str, minute: int) -> float:
    """The duration of a step with a few rows, scaled up to all of them; for a large model, by that of a small one.

    It holds for the `minute` in which it was measured, since the machine is not always equally busy.
    """
    if config.n_params > MAX_TIMED_PARAMS:
        small, train_config = ModelConfig(), TrainConfig(batch_size=batch_size, optimizer=optimizer)
        share = step_flops(config, train_config) / step_flops(small, train_config)
        return share * _step_seconds(small, batch_size, optimizer, minute)
    rows = min(batch_size, max(1, TIMED_TOKENS // config.block_size))
    ids = torch.arange(2 * config.block_size) % config.vocab_size
    corpus = Corpus("", 0, "", ids, ids, 0)
    trial = Trainer(config, TrainConfig(batch_size=rows, optimizer=optimizer), corpus, CharTokenizer("ab"))
    ends = [trial.step().seconds for _ in range(4)]  # the first step also allocates, and evaluates
    return min(end - begin for begin, end in pairwise(ends)) * batch_size / rows


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
