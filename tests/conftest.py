"""What several test files need: a small text, a recipe that trains on it in a moment, and the checkpoint it makes."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from surroundings import free_port

from playground import hub
from playground.checkpoint import Checkpoint
from playground.config import ModelConfig, Recipe, TrainConfig
from playground.corpus import Text
from playground.generation import write_sample
from playground.training import make_trainer, train

torch.set_num_threads(1)  # models this small are slower on two, and the sums of one thread are always the same

VERSES = """The miller's cat sat by the door and watched the geese go by;
the brown goose hissed, the grey one slept, the white one wondered why.
"Come in," said he, "the night is cold, and bread is on the shelf."
"I thank you, sir," the goose replied, "but eat the bread yourself."
"""


@pytest.fixture(scope="session", autouse=True)
def no_internet() -> Iterator[None]:
    """No test asks the real Hugging Face Hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
        yield


@pytest.fixture(scope="session")
def small_text() -> Text:
    return Text("verses.txt", VERSES * 8)


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """Characters, a model of 5,000 weights, 30 steps: a third of a second."""
    model = ModelConfig(block_size=16, n_layer=2, n_head=2, n_embd=16)
    return Recipe("Test", "char", 300, model, TrainConfig(max_iters=30, batch_size=8, warmup_iters=2, eval_interval=10))


@pytest.fixture(scope="session")
def tiny_checkpoint(small_text: Text, small_recipe: Recipe) -> Checkpoint:
    """A trained checkpoint with all that one can have: history, samples, losses, provenance."""
    trainer = make_trainer(small_text, small_recipe, sampler=write_sample)
    for _ in train(trainer):
        pass
    return replace(trainer.checkpoint("Verses"), val_loss=trainer.val_loss())


@pytest.fixture(scope="session")
def shakespeare() -> Path:
    """Karpathy's tinyshakespeare.txt, which lies beside the repository and is not part of it."""
    path = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"
    if not path.exists():
        reason = "The text tinyshakespeare.txt is not beside the repository, so nothing can be trained on it."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return path
