"""A host without the page, to be killed by test_crash.py: one run of one visitor after the other, told of line by line.

Every line of the standard input is a folder, and a new process opens it. That is a fork, so that the imports, which
take longer than a run, are done once.
"""

import os
import sys
import time
from pathlib import Path

import torch._dynamo  # noqa: F401  # torch brings it in with the first optimizer
from handmade import random_checkpoint

from playground import runs
from playground.config import ModelConfig, Recipe, TrainConfig
from playground.corpus import Text
from playground.runs import Run
from playground.settings import Settings
from playground.tokenizer import CharTokenizer
from playground.workspaces import Workspace, Workspaces

KEY = "the-only-visitor-of-this-folder-"
SLICE_SECONDS, SAVING_SHARE = 0.03, 0.5  # states are written so often that kills hit that

TEXT = Text(
    "orchard.txt",
    """An apple fell upon the grass, the wasps were there before the boy;
the old dog watched the ladder sway, the pears hung late, the plums hung high.
"Who left the gate ajar?" she asked; the orchard answered with a sigh.
"""
    * 12,
)


def recipe_of(seed: int, max_iters: int = 150) -> Recipe:
    """With all that takes random numbers, or keeps something from one step to the next."""
    model = ModelConfig(block_size=16, n_layer=2, n_head=2, n_embd=16, dropout=0.2)
    settings = TrainConfig(max_iters, batch_size=8, warmup_iters=2, optimizer="muon", eval_interval=25, seed=seed)
    return Recipe("Crash", "bpe", 270, model, settings)


def open_workspaces(folder: Path) -> Workspaces:
    settings = Settings(data=folder, workers=1, save_seconds=0, kept_runs=1_000, kept_checkpoints=1_000)
    return Workspaces({"Shipped": random_checkpoint(CharTokenizer("abc"))}, settings)


def tell(word: str, what: object) -> None:
    """Says it at once or not at all: `print` may be killed in the middle of a line."""
    os.write(sys.stdout.fileno(), f"{word} {what}\n".encode())


def serve(folder: Path) -> None:
    """Goes on with the run that is there, then starts another, and so on."""
    tell("pid", os.getpid())
    runs.SAVING_SHARE = SAVING_SHARE
    workspaces = open_workspaces(folder)
    workspaces.host.engine.slice_seconds = SLICE_SECONDS
    workspace = workspaces.get(KEY)
    for run in list(workspace.runs.values())[-1:]:
        tell("opened", len(run.past.history))
    while True:
        run = workspace.active_run or workspace.start(TEXT, recipe_of(seed=len(workspace.runs) + 1))
        follow(run, workspace)
        tell("ended", run.state)


def follow(run: Run, workspace: Workspace) -> None:
    """Tells of each step, and has the run pause once behind its middle."""
    told, paused = -1, False
    while run.active:
        step = run.progress().step
        if step != told:
            tell("step", step)
            told = step
        if run.state == "paused":
            workspace.resume()
        elif step > run.recipe.train.max_iters / 2 and not paused:
            run.pause()
            paused = True
        time.sleep(0.002)


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            serve(Path(line.rstrip("\n")))
        tell("gone", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
