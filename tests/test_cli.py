"""The command line, where neither gradio nor matplotlib can be imported."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from handmade import random_checkpoint
from surroundings import no_file_beyond
from transformers import AutoModelForCausalLM, AutoTokenizer

from playground import __main__ as command_line
from playground import training
from playground.__main__ import STATE, main
from playground.checkpoint import FILE_NAME, TrainStep, load, save, to_bytes
from playground.config import PRESETS, Recipe
from playground.corpora import BUILT_IN
from playground.corpus import get_batch
from playground.evaluation import evaluate
from playground.export import export_files
from playground.generation import Sampling, stream_generate, write_sample
from playground.tokenizer import CharTokenizer
from playground.training import Trainer, full_loss, make_trainer, saved_history, train

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def playground(tmp_path_factory):
    """Runs `python -m playground …` in a process in which the page's packages are as good as not installed."""
    stubs = tmp_path_factory.mktemp("stubs")
    for package in ("gradio", "matplotlib"):
        (stubs / f"{package}.py").write_text(f"raise ImportError('{package} is not installed')\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(stubs), str(ROOT)]), "OMP_NUM_THREADS": "1"}

    def run(*args: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "playground", *map(str, args)]
        return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, cwd=stubs, timeout=120)

    for package in ("gradio", "matplotlib"):
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run(
                [sys.executable, "-c", f"import {package}"], env=environment, check=True, capture_output=True
            )
    return run


@pytest.fixture(scope="module")
def verses(small_text, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "verses.txt"
    path.write_text(small_text.text)
    return path


@pytest.fixture(scope="module")
def trained(playground, verses, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A folder with a checkpoint trained by the command line, and what the command said. One step reaches loss 99."""
    out = tmp_path_factory.mktemp("runs") / "new" / "folder"
    return out, playground("train", verses, "--out", out, "--preset", "tiny", "--target-val-loss", 99, "--json")


@pytest.fixture
def folder(tiny_checkpoint, tmp_path) -> Path:
    """A folder with the tiny checkpoint, as `train --out` leaves one."""
    save(tiny_checkpoint, tmp_path / "tiny" / FILE_NAME)
    return tmp_path / "tiny"


# --- train ------------------------------------------------------------------------------------------------------------


def test_train_saves_a_checkpoint_and_reports_in_json(trained, small_text):
    out, done = trained
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)  # nothing else stands there
    checkpoint = load(out)
    assert figures == {
        "val_loss": checkpoint.val_loss,
        "val_tokens": len(small_text.text) - int(0.9 * len(small_text.text)) - 1,
        "steps": 1,
        "seconds": checkpoint.history[-1].seconds,
        "parameters": sum(weight.numel() for weight in checkpoint.weights.values()),
        "interrupted": False,
        "checkpoint": str(out / FILE_NAME),
    }
    assert checkpoint.provenance[0].name == "verses.txt" and checkpoint.provenance[0].n_chars == len(small_text.text)
    assert checkpoint.config.n_embd == PRESETS["tiny"].model.n_embd


def test_the_reported_loss_is_over_the_whole_validation_part(trained, small_text):
    checkpoint = load(trained[0])
    trainer = make_trainer(small_text, PRESETS["tiny"])
    assert checkpoint.val_loss == pytest.approx(full_loss(checkpoint.model, trainer.corpus.val), rel=1e-6)


def test_training_has_a_progress_bar_on_stderr(trained):
    _, done = trained
    assert "/400" in done.stderr and "step" in done.stderr and "validation" in done.stderr
    assert "Traceback" not in done.stderr


def test_train_takes_a_built_in_corpus_by_name(tmp_path, capsys):
    assert main(["train", "sums", "--out", str(tmp_path), "--preset", "tiny", "--target-val-loss", "99"]) == 0
    sentence = capsys.readouterr().out
    checkpoint = load(tmp_path)
    assert checkpoint.provenance[0].name == BUILT_IN["sums"].title
    assert checkpoint.provenance[0].n_chars == len(BUILT_IN["sums"].make(0))
    assert sentence.startswith(f"Validation loss {checkpoint.val_loss:.4f} over all ")
    assert sentence.endswith(f"Saved to {tmp_path / FILE_NAME}.\n") and sentence.count("\n") == 1


def test_a_file_comes_before_a_built_in_corpus_of_its_name(small_text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("sums").write_text(small_text.text)
    assert main(["train", "sums", "--out", "out", "--preset", "tiny", "--target-val-loss", "99"]) == 0
    assert load(Path("out")).provenance[0].name == "sums"
    assert load(Path("out")).provenance[0].n_chars == len(small_text.text)


def test_the_seed_decides_the_weights(trained, verses, tmp_path, capsys):
    default_seed = load(trained[0])
    for name, seed in (("same", "1337"), ("other", "5")):
        train = ["train", str(verses), "--out", str(tmp_path / name), "--preset", "tiny", "--target-val-loss", "99"]
        assert main([*train, "--seed", seed]) == 0
    assert load(tmp_path / "same").val_loss == pytest.approx(default_seed.val_loss, rel=1e-6)
    assert load(tmp_path / "other").val_loss != pytest.approx(default_seed.val_loss, rel=1e-6)
    assert load(tmp_path / "other").train_config.seed == 5


@pytest.mark.parametrize("preset", PRESETS)
def test_train_knows_every_preset(preset, small_text, tmp_path, capsys):
    long_text = tmp_path / "long.txt"
    long_text.write_text(small_text.text * 3)
    train = ["train", str(long_text), "--out", str(tmp_path / "out"), "--preset", preset, "--target-val-loss", "99"]
    assert main(train) == 0
    recipe, checkpoint = PRESETS[preset], load(tmp_path / "out")
    assert checkpoint.config == replace(recipe.model, vocab_size=checkpoint.tokenizer.vocab_size)
    assert checkpoint.tokenizer.kind == recipe.tokenizer and checkpoint.train_config == recipe.train


def test_ctrl_c_ends_the_training_and_saves_what_was_learned(verses, tmp_path, monkeypatch, capsys):
    step = Trainer.step

    def interrupted_third_step(self: Trainer):
        if self.n_steps == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    monkeypatch.setattr(Trainer, "step", interrupted_third_step)
    assert main(["train", str(verses), "--out", str(tmp_path), "--preset", "tiny", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["interrupted"] is True and figures["steps"] == load(tmp_path).step == 3


def test_a_run_that_diverges_saves_its_last_good_weights(verses, tmp_path, monkeypatch, capsys):
    """Its sentence says that they are kept, and hours may have gone into them."""
    step = Trainer.step

    def poisoned_third_step(self: Trainer):
        if self.n_steps == 3:
            self.model.lm_head.weight.data.fill_(math.nan)
        return step(self)

    monkeypatch.setattr(Trainer, "step", poisoned_third_step)
    assert main(["train", str(verses), "--out", str(tmp_path), "--preset", "tiny"]) == 2
    assert "no longer a finite number" in capsys.readouterr().err
    assert load(tmp_path).step == 1 and math.isfinite(load(tmp_path).val_loss)


# --- train --resume ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_preset(small_recipe, monkeypatch) -> Recipe:
    """30 steps in place of the tiny preset; dropout, since that is what a new start could disturb."""
    recipe = replace(small_recipe, model=replace(small_recipe.model, dropout=0.2))
    monkeypatch.setitem(PRESETS, "tiny", recipe)
    return recipe


@pytest.fixture
def uninterrupted(small_preset, small_text) -> list[TrainStep]:
    return without_clock(list(train(make_trainer(small_text, small_preset, sampler=write_sample))))


def without_clock(history: Iterable[TrainStep]) -> list[TrainStep]:
    """The history but for the seconds, which no two runs share."""
    return [replace(step, seconds=0.0) for step in history]


def train_tiny(text: Path, out: Path, *more: object) -> int:
    return main(["train", str(text), "--out", str(out), "--preset", "tiny", *map(str, more)])


def test_a_training_goes_on_as_if_it_had_not_ended(verses, uninterrupted, tmp_path):
    assert train_tiny(verses, tmp_path, "--target-val-loss", uninterrupted[9].val_loss + 1e-4) == 0
    assert load(tmp_path).step == 10
    assert train_tiny(verses, tmp_path, "--resume") == 0
    history = load(tmp_path).history
    assert without_clock(history) == uninterrupted
    assert history[10].seconds > history[9].seconds  # the clock goes on, too


def test_a_training_that_has_finished_stays_as_it_is(verses, uninterrupted, tmp_path, capsys):
    for more in ((), ("--resume",)):
        assert train_tiny(verses, tmp_path, "--json", *more) == 0
        assert without_clock(load(tmp_path).history) == uninterrupted
    one, other = capsys.readouterr().out.splitlines()
    assert json.loads(one) == json.loads(other)


def test_a_training_that_was_killed_goes_on_from_its_last_state(verses, uninterrupted, tmp_path, monkeypatch):
    step = Trainer.step

    def step_until_killed(self: Trainer) -> TrainStep:
        if self.n_steps == 15:
            raise SystemExit
        return step(self)

    with monkeypatch.context() as killed_on_the_way:
        killed_on_the_way.setattr(command_line, "SAVE_SECONDS", 0.0)
        killed_on_the_way.setattr(Trainer, "step", step_until_killed)
        with pytest.raises(SystemExit):
            train_tiny(verses, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [STATE]
    assert len(saved_history(tmp_path / STATE)) == 15
    assert train_tiny(verses, tmp_path, "--resume") == 0
    assert without_clock(load(tmp_path).history) == uninterrupted


def test_a_training_that_ctrl_c_ended_goes_on_with_the_next_batch(verses, uninterrupted, tmp_path, monkeypatch):
    """Ctrl-C comes in the middle of a step, as it nearly always does."""
    batches = []

    def pressing_ctrl_c(*args) -> tuple[torch.Tensor, torch.Tensor]:
        batches.append(get_batch(*args))
        if len(batches) == 15:
            signal.raise_signal(signal.SIGINT)
        return batches[-1]

    with monkeypatch.context() as interrupted:
        interrupted.setattr(training, "get_batch", pressing_ctrl_c)
        assert train_tiny(verses, tmp_path) == 0
    assert load(tmp_path).step in (14, 15)
    assert train_tiny(verses, tmp_path, "--resume") == 0
    assert without_clock(load(tmp_path).history) == uninterrupted


def refusal_to_resume(text: Path, out: Path, capsys) -> str:
    capsys.readouterr()
    assert train_tiny(text, out, "--resume") == 2
    error = capsys.readouterr().err
    assert_one_sentence(error)
    return error


@pytest.mark.usefixtures("small_preset")
def test_where_nothing_was_trained_nothing_can_be_resumed(verses, tmp_path, capsys):
    assert f"There is nothing to resume in {tmp_path}" in refusal_to_resume(verses, tmp_path, capsys)


def test_a_training_goes_on_with_its_own_text_and_model(verses, small_preset, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other.txt"
    other.write_text(verses.read_text() * 2)  # the same characters, so the same model
    out = tmp_path / "out"
    assert train_tiny(verses, out, "--target-val-loss", 99) == 0
    files = {file: file.read_bytes() for file in out.iterdir()}
    assert "another text" in refusal_to_resume(other, out, capsys)
    monkeypatch.setitem(PRESETS, "tiny", replace(small_preset, model=replace(small_preset.model, n_embd=32)))
    assert "another model" in refusal_to_resume(verses, out, capsys)
    assert files == {file: file.read_bytes() for file in out.iterdir()}


@pytest.mark.usefixtures("small_preset")
def test_a_state_that_is_none_is_said_in_one_sentence(verses, tmp_path, capsys):
    assert train_tiny(verses, tmp_path, "--target-val-loss", 99) == 0
    state = (tmp_path / STATE).read_bytes()
    for content in (b"", b"no state", state[: len(state) // 2], (tmp_path / FILE_NAME).read_bytes()):
        (tmp_path / STATE).write_bytes(content)
        assert str(tmp_path) in refusal_to_resume(verses, tmp_path, capsys)


# --- train --device ---------------------------------------------------------------------------------------------------


def test_train_computes_on_the_device_that_is_asked_for(verses, small_preset, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Trainer, "step", lambda self, step=Trainer.step: asked.append(self.device.type) or step(self))
    assert train_tiny(verses, tmp_path, "--target-val-loss", 99, "--device", "cpu") == 0
    assert asked == ["cpu"]


def test_a_device_that_is_not_here_is_said_in_one_sentence(verses, tmp_path, capsys):
    absent = "mps" if torch.cuda.is_available() else "cuda"
    assert train_tiny(verses, tmp_path, "--device", absent) == 2
    out, err = capsys.readouterr()
    assert_one_sentence(err)
    assert f"There is no device '{absent}' here: choose auto, or one of " in err and "cpu" in err
    assert out == "" and not list(tmp_path.iterdir())


# --- generate ---------------------------------------------------------------------------------------------------------


def test_generate_writes_the_same_text_for_the_same_seed(playground, folder, tiny_checkpoint, capsys):
    args = ["generate", str(folder), "--prompt", "the goose", "--max-new-tokens", "40", "--top-k", "5"]
    done = playground(*args, "--temperature", "0.9", "--seed", "3")
    assert done.returncode == 0 and done.stderr == ""
    steps = stream_generate(tiny_checkpoint, "the goose", 40, Sampling(0.9, top_k=5), seed=3)
    assert done.stdout == "the goose" + "".join(step.text for step in steps) + "\n"

    texts = []
    for seed in ("3", "4"):
        assert main([*args, "--temperature", "0.9", "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == done.stdout != texts[1]


def test_a_prompt_that_is_not_utf8_does_no_harm(folder, capsys):
    """A byte that is not UTF-8 reaches Python as half a surrogate pair, which cannot be printed."""
    assert main(["generate", str(folder), "--prompt", "the \udcff goose", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("the ")


def test_generate_in_json_has_a_progress_bar(folder, tiny_checkpoint, capsys):
    args = ["generate", str(folder), "--prompt", "the", "--max-new-tokens", "20", "--seed", "1", "--top-p", "0.9"]
    assert main([*args, "--json"]) == 0
    out, err = capsys.readouterr()
    steps = stream_generate(tiny_checkpoint, "the", 20, Sampling(0.8, top_p=0.9), seed=1)
    assert json.loads(out) == {"prompt": "the", "text": "".join(step.text for step in steps)}
    assert "20/20" in err and "token" in err


def test_greedy_generation_needs_no_seed(folder, capsys):
    texts = []
    for seed in ("1", "2"):
        assert main(["generate", str(folder), "--prompt", "the", "--temperature", "0", "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and len(texts[0]) == len("the") + 200 + len("\n")


# --- export -----------------------------------------------------------------------------------------------------------


def test_export_writes_a_folder_that_opens_here_and_in_transformers(playground, folder, tiny_checkpoint, tmp_path):
    out = tmp_path / "new" / "export"
    done = playground("export", folder, out, "--json")
    assert done.returncode == 0 and done.stderr == ""
    files = {file.name: file.read_bytes() for file in out.iterdir()}
    assert files == export_files(tiny_checkpoint)
    sizes = sum(len(data) for data in files.values())
    assert json.loads(done.stdout) == {"folder": str(out), "files": sorted(files), "bytes": sizes}
    assert to_bytes(command_line._checkpoint(out)) == to_bytes(tiny_checkpoint)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    begun = tokenizer("the", return_tensors="pt")
    text = tokenizer.decode(model.generate(**begun, do_sample=False, max_length=14)[0])
    steps = stream_generate(tiny_checkpoint, "the", 11, Sampling(temperature=0), seed=0)
    assert text == "the" + "".join(step.text for step in steps)


def test_export_says_where_it_wrote_and_writes_there_once(folder, tmp_path, capsys):
    out = tmp_path / "export"
    out.mkdir()
    assert main(["export", str(folder), str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"Saved to {out}, which transformers opens")
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert main(["export", str(folder), str(out)]) == 2
    assert "name a new folder" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_what_has_no_class_leaves_no_folder(tmp_path, capsys):
    checkpoint = random_checkpoint(CharTokenizer.train("abc"), activation="relu2")
    save(checkpoint, tmp_path / "model" / FILE_NAME)
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out")]) == 2
    assert_one_sentence(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_an_export_without_room_leaves_nothing(folder, tmp_path, capsys):
    with no_file_beyond(5_000):
        assert main(["export", str(folder), str(tmp_path / "out")]) == 2
    assert "cannot be written (File too large)" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [folder]


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_evaluate_says_what_evaluate_says(playground, folder, tiny_checkpoint, small_text, verses):
    done = playground("evaluate", folder, verses, "--json")
    assert done.returncode == 0 and done.stderr == ""
    figures, expected = json.loads(done.stdout), asdict(evaluate(tiny_checkpoint, small_text.text))
    for bin, expected_bin in zip(figures.pop("bins"), expected.pop("bins"), strict=True):
        nothing = {"count": 0, "confidence": None, "accuracy": None}
        assert bin == (pytest.approx(expected_bin, rel=1e-6) if expected_bin["count"] else nothing)
    assert figures == pytest.approx(expected, rel=1e-6)
    assert figures["n_tokens"] == figures["n_chars"] == len(small_text.text) - 1  # characters, all but the first
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    assert figures["bits_per_char"] == pytest.approx(figures["loss"] / math.log(2))


def test_evaluate_takes_the_checkpoints_file_and_writes_a_sentence(folder, verses, tiny_checkpoint, small_text, capsys):
    assert main(["evaluate", str(folder / FILE_NAME), str(verses)]) == 0
    figures = evaluate(tiny_checkpoint, small_text.text)
    assert capsys.readouterr().out == (
        f"Loss {figures.loss:.4f} nats a token, perplexity {figures.perplexity:.3f}, "
        f"{figures.bits_per_char:.4f} bits a character, over {figures.n_tokens:,} tokens.\n"
    )


def test_evaluate_measures_a_hopeless_model_too(tiny_checkpoint, verses, tmp_path, capsys):
    """A loss of thousands of nats is finite, but e to it is not."""
    weights = tiny_checkpoint.weights | {"lm_head.weight": tiny_checkpoint.weights["lm_head.weight"] * 1e6}
    save(replace(tiny_checkpoint, weights=weights), tmp_path / FILE_NAME)
    code, out = main(["evaluate", str(tmp_path), str(verses), "--json"]), capsys.readouterr().out
    assert code == 2 or json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["loss"] > 1000


# --- Errors -----------------------------------------------------------------------------------------------------------


def assert_one_sentence(stderr: str) -> None:
    assert stderr.startswith("playground: ") and stderr.endswith(".\n") and stderr.count("\n") == 1
    assert "Traceback" not in stderr


def test_an_error_is_one_sentence_on_stderr(playground, tmp_path):
    done = playground("train", tmp_path / "nowhere.txt", "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stdout == ""
    assert_one_sentence(done.stderr)
    assert "nowhere.txt" in done.stderr


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ("train {tmp}/nowhere.txt --out {tmp}/out", "nowhere.txt"),
        ("train {tmp} --out {tmp}/out", "not a file"),
        ("train {tmp}/empty.txt --out {tmp}/out", "empty"),
        ("train {tmp}/short.txt --out {tmp}/out", "tokens"),
        ("train {tmp}/verses.txt --out {tmp}/out --seed -1", "seed"),
        ("train {tmp}/verses.txt --out {tmp}/short.txt --preset tiny --target-val-loss 99", "short.txt"),
        ("generate {tmp}/nowhere --prompt the", "no checkpoint at"),
        ("generate {tmp} --prompt the", "no checkpoint at"),
        ("generate {tmp}/short.txt --prompt the", "not a checkpoint"),
        ("generate {tmp}/tiny --prompt=", "prompt is empty"),
        ("generate {tmp}/tiny --prompt 0123", "knows nothing in this prompt"),
        ("generate {tmp}/tiny --prompt the --temperature -1", "Temperature"),
        ("generate {tmp}/tiny --prompt the --temperature nan", "Temperature"),
        ("generate {tmp}/tiny --prompt the --top-k 99999", "Top-k"),
        ("generate {tmp}/tiny --prompt the --top-p 0", "Top-p"),
        ("generate {tmp}/tiny --prompt the --max-new-tokens 0", "number of tokens"),
        ("generate {tmp}/tiny --prompt the --seed -1", "seed"),
        ("evaluate {tmp}/nowhere {tmp}/verses.txt", "no checkpoint at"),
        ("evaluate {tmp}/tiny {tmp}/nowhere.txt", "nowhere.txt"),
        ("evaluate {tmp}/tiny {tmp}/letter.txt", "too short"),
        ("evaluate {tmp}/tiny {tmp}/empty.txt", "empty"),
        ("export {tmp}/nowhere {tmp}/out", "no checkpoint at"),
        ("export {tmp}/tiny {tmp}", "not empty"),
        ("export {tmp}/tiny {tmp}/short.txt", "not empty"),
        ("export {tmp}/tiny {tmp}/short.txt/out", "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(args, part, folder, tmp_path, small_text, capsys):
    texts = {"empty.txt": "", "letter.txt": "a", "short.txt": "too short", "verses.txt": small_text.text}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert main(args.format(tmp=tmp_path).split()) == 2
    out, err = capsys.readouterr()
    last_line = err.replace("\r", "\n").splitlines(keepends=True)[-1]  # after a progress bar
    assert_one_sentence(last_line)
    assert part in last_line and out == ""


@pytest.mark.parametrize(
    "args",
    ["", "sing", "train", "train x", "generate x", "train x --out y --preset huge", "train x --out y --device tpu"],
)
def test_a_command_that_is_none_is_explained(args, capsys):
    with pytest.raises(SystemExit) as caught:
        main(args.split())
    assert caught.value.code == 2
    assert "usage: python -m playground" in capsys.readouterr().err
