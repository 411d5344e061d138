"""The command line: `python -m playground train|generate|evaluate`. Needs neither gradio nor a page."""

import argparse
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from playground import checkpoint as checkpoints
from playground.checkpoint import FILE_NAME, Checkpoint, TrainStep
from playground.config import PRESETS, Recipe
from playground.corpora import BUILT_IN
from playground.corpus import Text, built_in, read_text
from playground.errors import BadInput
from playground.evaluation import evaluate
from playground.generation import GenerationStep, Sampling, stream_generate, write_sample
from playground.tokenizer import without_surrogates
from playground.training import Diverged, Trainer, make_trainer, train


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        args.command(args)
    except BadInput as error:
        print(f"playground: {error}", file=sys.stderr)
        return 2
    return 0


def run_train(args: argparse.Namespace) -> None:
    _make_folder(args.out)  # before the training, not after
    trainer = make_trainer(_text(args.file), _recipe(args), sampler=write_sample)
    try:
        interrupted = _follow(trainer, args.target_val_loss)
        val_loss = trainer.val_loss()
    except Diverged:  # the trainer is back at its last good weights
        _save(trainer.checkpoint(trainer.corpus.name, trainer.val_loss()), args.out)
        raise
    result = trainer.checkpoint(trainer.corpus.name, val_loss)
    _save(result, args.out)
    figures = {
        "val_loss": val_loss,
        "val_tokens": len(trainer.corpus.val) - 1,
        "steps": result.step,
        "seconds": trainer.seconds,
        "parameters": result.config.n_params,
        "interrupted": interrupted,
        "checkpoint": str(args.out / FILE_NAME),
    }
    sentence = (
        f"Validation loss {val_loss:.4f} over all {figures['val_tokens']:,} tokens after {result.step:,} steps "
        f"({trainer.seconds:.1f} s). Saved to {figures['checkpoint']}."
    )
    _report(figures, sentence, args.json)


def run_generate(args: argparse.Namespace) -> None:
    sampling = Sampling(args.temperature, args.top_k, args.top_p)
    prompt = without_surrogates(args.prompt)  # what was not UTF-8 on the command line
    steps = stream_generate(checkpoints.load(args.dir), prompt, args.max_new_tokens, sampling, args.seed)
    if args.json:
        _report({"prompt": prompt, "text": "".join(step.text for step in _bar(steps, args))}, "", True)
        return
    print(prompt, end="", flush=True)
    for step in steps:
        print(step.text, end="", flush=True)
    print()


def run_evaluate(args: argparse.Namespace) -> None:
    figures = asdict(evaluate(checkpoints.load(args.dir), _text(args.file).text))
    sentence = (
        f"Loss {figures['loss']:.4f} nats a token, perplexity {figures['perplexity']:.3f}, "
        f"{figures['bits_per_char']:.4f} bits a character, over {figures['n_tokens']:,} tokens."
    )
    _report(figures, sentence, args.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m playground", description=__doc__.split(":")[0] + ".")
    commands = parser.add_subparsers(required=True, metavar="train|generate|evaluate")

    train_ = commands.add_parser("train", help="train a model on a text file and save its checkpoint")
    train_.add_argument("file", help=f"a text file, or a built-in corpus: {', '.join(BUILT_IN)}")
    train_.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the checkpoint")
    train_.add_argument(
        "--preset", choices=PRESETS, default="small", help="tokenizer, model and training (%(default)s)"
    )
    train_.add_argument(
        "--target-val-loss",
        type=float,
        metavar="X",
        help="stop once the loss over the whole validation part, the last 10 %% of the text, reaches X",
    )
    train_.add_argument("--seed", type=int, metavar="N", help="of the weights, the batches and dropout")
    train_.set_defaults(command=run_train)

    generate = commands.add_parser("generate", help="go on from a prompt")
    generate.add_argument("dir", type=Path, metavar="DIR", help="folder or file of a checkpoint")
    generate.add_argument("--prompt", required=True, metavar="TEXT")
    generate.add_argument("--max-new-tokens", type=int, default=200, metavar="N", help="how many (%(default)s)")
    generate.add_argument("--temperature", type=float, default=0.8, metavar="T", help="0 is greedy (%(default)s)")
    generate.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="only the K likeliest; 0 is off (%(default)s)"
    )
    generate.add_argument("--top-p", type=float, default=1.0, metavar="P", help="only the likeliest P; 1 is off")
    generate.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same text (%(default)s)")
    generate.set_defaults(command=run_generate)

    evaluate_ = commands.add_parser("evaluate", help="loss, perplexity and bits per character on a text file")
    evaluate_.add_argument("dir", type=Path, metavar="DIR", help="folder or file of a checkpoint")
    evaluate_.add_argument("file", help="a text file, or a built-in corpus")
    evaluate_.set_defaults(command=run_evaluate)

    for command in (train_, generate, evaluate_):
        command.add_argument("--json", action="store_true", help="print the result as one line of JSON")
    return parser


def _recipe(args: argparse.Namespace) -> Recipe:
    recipe = PRESETS[args.preset]
    return recipe if args.seed is None else replace(recipe, train=replace(recipe.train, seed=args.seed))


def _text(file: str) -> Text:
    """A file's text; a built-in corpus by its name, unless there is a file of that name."""
    if file in BUILT_IN and not Path(file).exists():
        return built_in(file)
    return read_text(Path(file))


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be made a folder ({error.strerror}): choose another for --out.") from error


def _save(checkpoint: Checkpoint, folder: Path) -> None:
    try:
        checkpoints.save(checkpoint, folder / FILE_NAME)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error.strerror}): make room there, or choose another.") from error


def _follow(trainer: Trainer, target_val_loss: float | None) -> bool:
    """Trains with a progress bar. Ctrl-C ends the training, not the program: what was learned is saved."""
    with tqdm(total=trainer.train_config.max_iters, unit="step") as bar:
        try:
            for step in train(trainer, target_val_loss):
                bar.update()
                if step.val_loss is not None:
                    bar.set_postfix_str(_figures(step))
        except KeyboardInterrupt:
            return True
    return False


def _figures(step: TrainStep) -> str:
    return f"train {step.train_loss:.3f}, validation {step.val_loss:.3f}"


def _bar(steps: Iterable[GenerationStep], args: argparse.Namespace) -> Iterable[GenerationStep]:
    return tqdm(steps, total=args.max_new_tokens, unit="token")


def _report(figures: dict, sentence: str, as_json: bool) -> None:
    strict = {name: None if figure == math.inf else figure for name, figure in figures.items()}  # JSON has no infinity
    print(json.dumps(strict, allow_nan=False) if as_json else sentence)


if __name__ == "__main__":
    sys.exit(main())
