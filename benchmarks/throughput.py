"""Training steps: ours and the yardstick's on one model and one batch, and how near the processor's limit ours are."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from statistics import median
from time import perf_counter

import torch

from benchmarks import yardstick
from benchmarks.row import Row, more_is_better
from playground.config import PRESETS, Recipe, step_flops
from playground.corpus import Text
from playground.parallel import second_thread
from playground.training import Trainer, make_trainer, training_dtype

ROUNDS, STEPS = 9, 8


def rows() -> Iterator[Row]:
    tokens = yardstick.BATCH_SIZE * yardstick.BLOCK_SIZE
    ours, theirs = _in_turns(_trainer(_same_recipe()), yardstick.Training(yardstick.read_data()).step)
    yield more_is_better("training, the yardstick's model and batch", "tokens/s", tokens / ours, tokens / theirs, 2.5)

    small = _trainer(PRESETS["small"])
    multiply, n_operations = _product(small)
    ours, theirs = _in_turns(small, multiply)
    reached, ceiling = step_flops(small.config, small.train_config) / ours / 1e9, n_operations / theirs / 1e9
    kind = str(training_dtype(small.device)).removeprefix("torch.")
    yield more_is_better(f"the Small preset's steps, of {kind} products", "GFLOP/s", reached, ceiling, 0.4)


def _trainer(recipe: Recipe) -> Trainer:
    recipe = replace(recipe, train=replace(recipe.train, eval_interval=recipe.train.max_iters))
    return make_trainer(Text("tinyshakespeare", yardstick.read_text()), recipe)


def _same_recipe() -> Recipe:
    """The yardstick's model and batch as one of our recipes. Its embedding is its head, ours are two."""
    classic = PRESETS["classic"]
    model = replace(classic.model, bias=False, dropout=0.0, block_size=yardstick.BLOCK_SIZE)
    return replace(classic, model=model, train=replace(classic.train, batch_size=yardstick.BATCH_SIZE))


def _product(trainer: Trainer) -> tuple[Callable[[], None], int]:
    """The products of a batch with a layer's widest matrix, and how many operations that is: the processor's limit."""
    config, rows = trainer.config, trainer.train_config.batch_size * trainer.config.block_size
    dtype = training_dtype(trainer.device)
    a, b = torch.randn(rows, config.n_embd).to(dtype), torch.randn(config.n_embd, config.n_hidden).to(dtype)

    def multiply() -> None:
        for _ in range(20):
            a @ b

    return multiply, 20 * 2 * rows * config.n_embd * config.n_hidden


def _in_turns(trainer: Trainer, theirs: Callable[[], object]) -> tuple[float, float]:
    """The median seconds of a step of each, in turns of some steps, so that both meet the same machine."""
    our_seconds, their_seconds = [], []
    for _ in range(ROUNDS):
        with second_thread() as trainer.beside:
            our_seconds += _durations(trainer.step)
        their_seconds += _durations(theirs)
    return median(our_seconds), median(their_seconds)


def _durations(step: Callable[[], object]) -> list[float]:
    step()  # warms up
    ends = [perf_counter()]
    for _ in range(STEPS):
        step()
        ends.append(perf_counter())
    return [end - start for start, end in pairwise(ends)]
