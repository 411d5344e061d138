"""The command line: `python -m playground train|generate|evaluate|export`. Needs neither gradio nor a page."""

import argparse
import json
import math
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event
from time import monotonic

from safetensors import SafetensorError
from tqdm import tqdm

from playground import checkpoint as checkpoints
from playground.checkpoint import FILE_NAME, Checkpoint, TrainStep
from playground.config import PRESETS, Recipe
from playground.corpora import BUILT_IN
from playground.corpus import Text, built_in, read_text
from playground.errors import BadInput
from playground.evaluation import evaluate
from playground.export import CONFIG, export_files
from playground.files import write_folder
from playground.generation import GenerationStep, Sampling, stream_generate, write_sample
from playground.interop import open_folder
from playground.parallel import joined_world, second_thread
from playground.tokenizer import without_surrogates
from playground.training import DEVICES, Diverged, Trainer, make_trainer, pick_device, train

STATE = "state.safetensors"  # in the folder of a training, beside its checkpoint
SAVE_SECONDS = 30


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
    with joined_world(pick_device(args.device)) as world, second_thread() as beside:
        trainer = make_trainer(
            _text(args.file), _recipe(args), sampler=write_sample, device=args.device, beside=beside, world=world
        )
        if args.resume:
            _resume(trainer, args.out / STATE)
        figures = _train(trainer, args)
        if world.rank == 0:
            sentence = (
                f"Validation loss {figures['val_loss']:.4f} over all {figures['val_tokens']:,} tokens after "
                f"{figures['steps']:,} steps ({figures['seconds']:.1f} s). Saved to {figures['checkpoint']}."
            )
            _report(figures, sentence, args.json)


def _train(trainer: Trainer, args: argparse.Namespace) -> dict:
    """Trains to the end and saves the checkpoint; returns what to report."""
    try:
        interrupted = _follow(trainer, args)
        val_loss = trainer.val_loss()
    except Diverged:  # the trainer is back at its last good weights
        _save(trainer, trainer.val_loss(), args.out)
        raise
    _save(trainer, val_loss, args.out)
    _save_state(trainer, args.out)
    return {
        "val_loss": val_loss,
        "val_tokens": len(trainer.corpus.val) - 1,
        "steps": trainer.n_steps,
        "seconds": trainer.seconds,
        "parameters": trainer.config.n_params,
        "interrupted": interrupted,
        "checkpoint": str(args.out / FILE_NAME),
    }


def run_generate(args: argparse.Namespace) -> None:
    sampling = Sampling(args.temperature, args.top_k, args.top_p)
    prompt = without_surrogates(args.prompt)  # what was not UTF-8 on the command line
    steps = stream_generate(_checkpoint(args.dir), prompt, args.max_new_tokens, sampling, args.seed)
    if args.json:
        _report({"prompt": prompt, "text": "".join(step.text for step in _bar(steps, args))}, "", True)
        return
    print(prompt, end="", flush=True)
    for step in steps:
        print(step.text, end="", flush=True)
    print()


def run_evaluate(args: argparse.Namespace) -> None:
    figures = asdict(evaluate(_checkpoint(args.dir), _text(args.file).text))
    sentence = (
        f"Loss {figures['loss']:.4f} nats a token, perplexity {figures['perplexity']:.3f}, "
        f"{figures['bits_per_char']:.4f} bits a character, over {figures['n_tokens']:,} tokens."
    )
    _report(figures, sentence, args.json)


def run_export(args: argparse.Namespace) -> None:
    files = export_files(_checkpoint(args.dir))
    with _writing(args.out):
        out = args.out.resolve()
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise BadInput(f"{args.out} is there already and not empty: name a new folder.")
        write_folder(out, files)
    report = {"folder": str(args.out), "files": sorted(files), "bytes": sum(map(len, files.values()))}
    _report(
        report, f"Saved to {args.out}, which transformers opens with AutoModelForCausalLM and AutoTokenizer.", args.json
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m playground", description=__doc__.split(":")[0] + ".")
    commands = parser.add_subparsers(required=True, metavar="train|generate|evaluate|export")

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
    train_.add_argument("--device", choices=DEVICES, default="auto", help="where to compute (%(default)s)")
    train_.add_argument(
        "--resume", action="store_true", help="go on from where the last training into DIR stood, on the same text"
    )
    train_.set_defaults(command=run_train)

    generate = commands.add_parser("generate", help="go on from a prompt")
    generate.add_argument("dir", type=Path, metavar="DIR", help="folder or file of a checkpoint, or folder of a GPT-2")
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
    evaluate_.add_argument("dir", type=Path, metavar="DIR", help="folder or file of a checkpoint, or folder of a GPT-2")
    evaluate_.add_argument("file", help="a text file, or a built-in corpus")
    evaluate_.set_defaults(command=run_evaluate)

    export = commands.add_parser("export", help="write a model as Hugging Face's transformers opens it")
    export.add_argument("dir", type=Path, metavar="DIR", help="folder or file of a checkpoint, or folder of a GPT-2")
    export.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    export.set_defaults(command=run_export)

    for command in (train_, generate, evaluate_, export):
        command.add_argument("--json", action="store_true", help="print the result as one line of JSON")
    return parser


def _recipe(args: argparse.Namespace) -> Recipe:
    recipe = PRESETS[args.preset]
    return recipe if args.seed is None else replace(recipe, train=replace(recipe.train, seed=args.seed))


def _checkpoint(path: Path) -> Checkpoint:
    """A checkpoint of ours, or the model in a folder of Hugging Face's format, which has a config.json."""
    if (path / CONFIG).is_file():
        return open_folder(path.iterdir(), path.resolve().name)
    return checkpoints.load(path)


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


def _resume(trainer: Trainer, state: Path) -> None:
    if not state.is_file():
        raise BadInput(f"There is nothing to resume in {state.parent}: train there first, without --resume.")
    try:
        trainer.load_state(state)
    except BadInput:
        raise
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"The state in {state.parent} is damaged: train there anew, without --resume.") from error


def _save(trainer: Trainer, val_loss: float, folder: Path) -> None:
    """Writes the checkpoint; of several processes, the first one."""
    if trainer.world.rank == 0:
        with _writing(folder):
            checkpoints.save(trainer.checkpoint(trainer.corpus.name, val_loss), folder / FILE_NAME)


def _save_state(trainer: Trainer, folder: Path) -> None:
    """Writes what the training can go on from; of several processes, the first one."""
    if trainer.world.rank == 0:
        with _writing(folder):
            trainer.save_state(folder / STATE)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error.strerror}): make room there, or choose another.") from error


def _follow(trainer: Trainer, args: argparse.Namespace) -> bool:
    """Trains with a progress bar and saves the state now and then. Says whether Ctrl-C has ended it before its time."""
    n_steps, first, saved = trainer.train_config.max_iters, trainer.world.rank == 0, monotonic()
    with _ctrl_c() as pressed, tqdm(total=n_steps, initial=trainer.n_steps, unit="step", disable=not first) as bar:
        for step in train(trainer, args.target_val_loss):
            bar.update()
            if step.val_loss is not None:
                bar.set_postfix_str(_figures(step))
            if monotonic() - saved > SAVE_SECONDS:
                _save_state(trainer, args.out)
                saved = monotonic()
            if trainer.any_process(pressed.is_set()):
                return True
    return False


@contextmanager
def _ctrl_c() -> Iterator[Event]:
    """Ctrl-C ends the training after the step that is going on, so that what was learned is saved whole; a second one
    ends the program.
    """
    pressed = Event()
    before = signal.getsignal(signal.SIGINT)

    def press(*_) -> None:
        signal.signal(signal.SIGINT, before)
        pressed.set()

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _figures(step: TrainStep) -> str:
    return f"train {step.train_loss:.3f}, validation {step.val_loss:.3f}"


def _bar(steps: Iterable[GenerationStep], args: argparse.Namespace) -> Iterable[GenerationStep]:
    return tqdm(steps, total=args.max_new_tokens, unit="token")


def _report(figures: dict, sentence: str, as_json: bool) -> None:
    strict = {name: None if figure == math.inf else figure for name, figure in figures.items()}  # JSON has no infinity
    print(json.dumps(strict, allow_nan=False) if as_json else sentence)


if __name__ == "__main__":
    sys.exit(main())
