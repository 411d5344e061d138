"""What cannot be used gets one clear sentence, and what was there before is still there."""

import io
import json
import pickle
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from playwright.sync_api import expect
from safetensors.torch import save as save_tensors

from playground.checkpoint import from_bytes, to_bytes
from playground.generation import Sampling, stream_generate

pytestmark = pytest.mark.browser

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + random.Random(0).randbytes(2_000)
BROKEN_PNG = random.Random(0).randbytes(2_000)  # without the signature that gives it away
MARKUP = "<img src=x onerror=window.pwned=1>"
ONE_SENTENCE = re.compile(r"^[^.]*(\.[^ ][^.]*)*\.$")  # dots within file names and numbers are no ends


# --- Texts that cannot be read are told at once


NO_TEXTS = {
    "empty": (b"", "text.txt is empty: choose a text with words in it."),
    "blank": (b" \n\t \n", "text.txt is empty: choose a text with words in it."),
    "png": (PNG, "text.txt is a PNG image, not plain text"),
    "binary": (BROKEN_PNG, "text.txt is not plain text but binary data"),
    "nul": (b"To be, or not to be, that is the question. " * 9 + b"\x00", "text.txt contains NUL bytes"),
    "damaged": (b"\xff\xfeT\x00o\x00 \x00b\x00\x00\xd8", "text.txt begins as UTF-16 but is damaged"),
}


def test_a_file_that_is_no_text(visitor, shipped):
    for data, sentence in NO_TEXTS.values():
        visitor.give_text(text_file(data))
        note = visitor.at("text-facts").locator(".note.warning")
        expect(note).to_contain_text(sentence)
        assert ONE_SENTENCE.match(note.inner_text())
        visitor.start()
        visitor.expect_message(sentence)
        expect_as_before(visitor, shipped)


def test_a_file_that_is_too_large(visitor, shipped, tmp_path: Path):
    large = tmp_path / "large.txt"
    large.write_bytes(b"To be, or not to be, that is the question.\n" * 1_464_000)
    assert large.stat().st_size > 60 * 2**20
    visitor.choose("source", "Upload")
    expect(visitor.at("upload")).to_contain_text("at most 20 MB")  # said before anything is chosen
    visitor.give_text(large)
    expect(visitor.at("text-facts").locator(".note.warning")).to_contain_text(
        "large.txt is 60.1 MB long, and at most 20 MB can be used: take a part of it.", timeout=90_000
    )
    expect_as_before(visitor, shipped)


ENCODINGS = {
    "utf-8-sig": "Read as UTF-8; the byte-order mark at its start was dropped.",
    "utf-16": "Read as UTF-16-LE; the byte-order mark at its start was dropped.",
    "utf-16-be": "Read as UTF-16-BE, a guess from its NUL bytes.",
    "latin-1": "Read as Windows-1252, since it is not UTF-8.",
}


def test_a_text_in_another_encoding_is_read_and_the_guess_is_told(visitor):
    text = "Où est le café? Là-bas, près de l'hôtel.\n" * 20
    for encoding, note in ENCODINGS.items():
        visitor.give_text(text_file(text.encode(encoding)))
        facts = visitor.at("text-facts")
        expect(facts).to_contain_text(note)
        expect(facts).to_contain_text(f"characters{len(text):,}")
        expect(facts.locator("dd").nth(1)).to_have_text(str(len(set(text))))
        expect(visitor.at("plan-facts")).to_contain_text("parameters")


# --- Texts that no model can be trained on are told when training is to begin


UNFIT_TEXTS = {
    "short": ("To be, or not to be.", "text.txt has only 20 tokens, and a context length of 64 needs at least 128"),
    "repeated": ("a" * 5_000, "text.txt is one character repeated, so nothing can be learned: choose a real text."),
    "characters": ("".join(map(chr, range(0x4E00, 0x4E00 + 20_000))), "different characters"),
}


@pytest.mark.parametrize("case", UNFIT_TEXTS)
def test_a_text_that_cannot_be_trained_on(visitor, shipped, case):
    text, sentence = UNFIT_TEXTS[case]
    visitor.give_text(text_file(text.encode()))
    expect(visitor.at("text-facts")).to_contain_text(f"characters{len(text):,}")
    visitor.start()
    # At once where a glance at the text is enough, else when the run has looked at all of it.
    told = visitor.page.get_by_test_id("toast-text").or_(visitor.own("chart").locator(".message:not(:empty)"))
    expect(told).to_contain_text(sentence)
    assert ONE_SENTENCE.match(told.inner_text())
    visitor.reload()
    expect_as_before(visitor, shipped)


def test_a_file_name_with_markup_is_text(visitor):
    visitor.give_text(text_file(b"The miller's cat sat by the door. " * 40, f"{MARKUP}.txt"))
    expect(visitor.at("upload")).to_contain_text(f"{MARKUP}.txt")
    expect(visitor.at("text-facts").locator(".title")).to_contain_text("onerror=window.pwned=1")
    visitor.set_up(**visitor.TINY)
    visitor.start()
    visitor.expect_model(re.compile("onerror=window.pwned=1"))
    expect(visitor.own("chart").locator(".name")).to_contain_text("onerror=window.pwned=1")
    visitor.open("Checkpoints")
    expect(visitor.at("checkpoints")).to_contain_text("onerror=window.pwned=1")
    visitor.expect_nothing_run()


# --- Prompts and settings of generation


MUTE_PROMPTS = {
    "": "The prompt is empty: type at least one character for the model to go on from.",
    "☃☃☃": "The model knows nothing in this prompt: use what stood in its training text",
}


def test_a_prompt_that_says_nothing(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Generate")
    before = write(visitor, "the goose")
    for prompt, sentence in MUTE_PROMPTS.items():
        visitor.fill("prompt", prompt)
        expect(visitor.own("next-token").locator(".empty")).to_be_visible()
        visitor.at("generate").click()
        visitor.expect_message(sentence)
        assert visitor.generated() == before
        expect(visitor.at("prompt").locator("textarea")).to_have_value(prompt)

    visitor.open("Attention")
    heads = visitor.own("heads")
    expect(heads).to_have_attribute("data-layers", "2")
    tokens = heads.locator(".am-token").all_text_contents()
    for prompt, sentence in MUTE_PROMPTS.items():
        visitor.fill("attention-prompt", prompt)
        visitor.page.get_by_role("button", name="Show attention").click()
        expect(visitor.at("attention-note")).to_contain_text(sentence)
        assert heads.locator(".am-token").all_text_contents() == tokens
        expect(visitor.at("attention-prompt").locator("textarea")).to_have_value(prompt)


WRONG_SAMPLING = [
    ("top-k", 100, "Top-k must be a whole number from 0 (off) to"),
    ("top-k", -1, "Top-k must be a whole number from 0 (off) to"),
    ("length", 0, "The number of tokens must be a whole number from 1 to 5,000."),
    ("length", 6000, "The number of tokens must be a whole number from 1 to 5,000."),
    ("sampling-seed", -1, "The seed must be a whole number from 0 to"),
]


def test_a_setting_of_generation_out_of_range(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Generate")
    before = write(visitor, "the goose")
    for control, value, sentence in WRONG_SAMPLING:
        usual = visitor.at(control).locator("input").input_value()
        visitor.fill(control, value)
        visitor.at("generate").click()
        visitor.expect_message(sentence)
        assert visitor.generated() == before
        visitor.fill(control, usual)


def test_temperature_zero_always_takes_the_likeliest(visitor, tiny_checkpoint):
    visitor.use(tiny_checkpoint)
    visitor.open("Generate")
    visitor.fill("temperature", 0)
    text = write(visitor, "the goose", seed=1)
    greedy = stream_generate(tiny_checkpoint, "the goose", 50, Sampling(0), 2)  # whatever the seed
    assert text == "the goose" + "".join(step.text for step in greedy)


def write(visitor, prompt: str, seed: int = 0) -> str:
    visitor.fill("prompt", prompt)
    visitor.fill("length", 50)
    visitor.fill("sampling-seed", seed)
    visitor.at("generate").click()
    visitor.until(lambda: len(visitor.generated()) == len(prompt) + 50, "the text is whole")
    return visitor.generated()


# --- Settings of training


WRONG_SETTINGS = [
    ("batch_size", 0, "0 is outside 1 to 512."),
    ("learning_rate", 11, "11 is outside 1e-06 to 10"),
    ("max_iters", "", "is not a whole number."),
    ("min_lr", 1, "the last learning rate 1 is above the first, 0.035."),
]


def test_a_setting_of_training_out_of_range(visitor, shipped):
    for setting, value, sentence in WRONG_SETTINGS:
        visitor.set_up()
        usual = visitor.at(setting).locator("input").input_value()
        visitor.fill(setting, value)
        expect(visitor.at(setting)).to_contain_text(sentence)
        expect(visitor.at("plan-facts").locator(".facts")).to_be_hidden()
        visitor.start()
        visitor.expect_message(sentence)
        expect_as_before(visitor, shipped)
        visitor.fill(setting, usual)
        expect(visitor.at("plan-facts").locator(".facts")).to_be_visible()


def test_a_run_that_does_not_fit_into_memory(visitor, shipped):
    visitor.set_up(n_layer=12, n_embd=512, block_size=256, batch_size=512)
    visitor.start()
    visitor.expect_message(re.compile(r"This run would need about [\d.]+ GB of memory, and 4 GB are the limit"))
    expect_as_before(visitor, shipped)


# --- Checkpoints of others


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def bad_checkpoints(good: bytes, trap: Path) -> dict[str, tuple[bytes, str]]:
    """What may be uploaded by mistake or in malice, and how the answer begins."""
    checkpoint = from_bytes(good)
    name, weight = next((name, weight) for name, weight in checkpoint.weights.items() if weight.dim() == 2)
    archive = io.BytesIO()
    torch.save({"evil": Evil(trap)}, archive)
    about = json.loads(json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])["__metadata__"]["playground"])
    about["val_loss"] = MARKUP
    return {
        "truncated": (good[: len(good) // 2], "The checkpoint is damaged or cut short"),
        "empty": (b"", "This is not a checkpoint"),
        "text": (b"To be, or not to be, that is the question. " * 9, "This is not a checkpoint"),
        "foreign": (save_tensors({"weight": weight}), "This safetensors file was not saved by the playground"),
        "pickle": (pickle.dumps(Evil(trap)), "This is a PyTorch or pickle file"),
        "torch": (archive.getvalue(), "This is a PyTorch or pickle file"),
        "shapes": (
            to_bytes(replace(checkpoint, weights=checkpoint.weights | {name: weight[:, :-1].contiguous()})),
            "The checkpoint's weights do not fit its configuration",
        ),
        "markup": (
            save_tensors(checkpoint.weights, {"playground": json.dumps(about)}),
            f"The checkpoint's val_loss is not what the playground saves: '{MARKUP}'.",
        ),
    }


def test_a_bad_checkpoint(visitor, tiny_checkpoint, shipped, tmp_path: Path):
    trap = tmp_path / "it-was-run"
    for case, (data, sentence) in bad_checkpoints(to_bytes(tiny_checkpoint), trap).items():
        visitor.upload_checkpoint(data, f"{case}.safetensors")
        visitor.expect_message(sentence)
        visitor.expect_model(shipped.name)
        expect(visitor.at("checkpoints").locator("label")).to_have_text([f"{shipped.name} (in use)"])
        expect(visitor.at("checkpoint-facts").locator(".title")).to_have_text(shipped.name)
    assert not trap.exists()
    visitor.expect_nothing_run()
    visitor.use(tiny_checkpoint)  # the good one still gets in


def text_file(data: bytes, name: str = "text.txt") -> dict:
    return {"name": name, "mimeType": "text/plain", "buffer": data}


def expect_as_before(visitor, shipped) -> None:
    """The model in use, its past on the plot, and a page that is ready for the next try."""
    visitor.expect_model(shipped.name)
    visitor.expect_state("finished")
    expect(visitor.own("chart").locator(".name")).to_have_text(shipped.name)
    expect(visitor.at("start")).to_be_enabled()
    visitor.expect_nothing_run()
