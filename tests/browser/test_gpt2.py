"""A GPT-2 made elsewhere: from its files and by its id, in the same tabs as every other model."""

import pytest
import torch
from fake_hub import fake_hub
from gpt2 import save_gpt2
from playwright.sync_api import expect
from surroundings import free_port

from playground import hub
from playground.generation import Sampling, stream_generate
from playground.interop import open_folder

pytestmark = pytest.mark.browser

PROMPT = "the miller's cat"
FILES = ["config.json", "model.safetensors", "vocab.json", "merges.txt"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder, and the model and the tokenizer that were saved there."""
    folder = tmp_path_factory.mktemp("gpt2")
    return folder, *save_gpt2(folder)


def upload(visitor, files) -> None:
    visitor.open("Checkpoints")
    with visitor.page.expect_file_chooser() as chooser:
        visitor.at("upload-gpt2").click()
    chooser.value.set_files(files)


def test_its_files_open_in_all_tabs(visitor, saved):
    folder, model, tokenizer = saved
    upload(visitor, [folder / name for name in FILES])
    visitor.expect_model("GPT-2")
    expect(visitor.at("checkpoint-facts")).to_contain_text("elsewhere")

    visitor.open("Tokenizer")
    visitor.at("tokenizer-text").locator("textarea").fill(PROMPT + "<|endoftext|>")
    ids = tokenizer(PROMPT + "<|endoftext|>")["input_ids"]
    visitor.until(lambda: visitor.tokens() == ids, f"the tokens are {ids}")

    visitor.open("Attention")
    visitor.at("attention-prompt").locator("textarea").fill(PROMPT)
    visitor.at("attention-prompt").get_by_role("button", name="Show attention").click()
    ids = tokenizer(PROMPT)["input_ids"]
    expect(visitor.own("heads")).to_have_attribute("data-tokens", str(len(ids)))
    expect(visitor.own("heads").locator(".am-thumb")).to_have_count(model.config.n_layer * model.config.n_head)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        attention = model(torch.tensor([ids]), output_attentions=True).attentions[0][0, 0]  # (T, T) of the first head
    query, key, weight = visitor.hover_cell(0.2, 0.9)
    assert weight == pytest.approx(attention[query, key].item(), abs=1e-3)

    visitor.open("Generate")
    checkpoint = open_folder([folder / name for name in FILES], "GPT-2")
    visitor.at("prompt").locator("textarea").fill(PROMPT)
    visitor.expect_bars(checkpoint, PROMPT, Sampling(0.8))
    visitor.fill("length", 30)
    visitor.at("generate").click()
    written = "".join(step.text for step in stream_generate(checkpoint, PROMPT, 30, Sampling(0.8), seed=0))
    visitor.until(lambda: visitor.generated() == PROMPT + written, "all is written")

    _, back = visitor.download_checkpoint()
    assert back.tokenizer.to_dict() == checkpoint.tokenizer.to_dict()
    assert all(torch.equal(back.weights[name], weight) for name, weight in checkpoint.weights.items())


def test_files_that_are_not_complete_are_refused_in_a_sentence(visitor, saved, shipped):
    upload(visitor, [saved[0] / "config.json", saved[0] / "model.safetensors"])
    visitor.expect_message("The GPT-2's tokenizer is missing")
    visitor.expect_model(shipped.name)


def fetch(visitor, model_id: str) -> None:
    visitor.open("Checkpoints")
    visitor.at("model-id").locator("textarea, input").fill(model_id)
    visitor.at("model-id").get_by_role("button", name="Open").click()


def test_it_is_fetched_by_its_id(visitor, saved, monkeypatch):
    with fake_hub({"somebody/tiny-gpt2": saved[0]}) as (address, _):
        monkeypatch.setattr(hub, "ENDPOINT", address)
        fetch(visitor, "somebody/tiny-gpt2")
        visitor.expect_model("tiny-gpt2")
        expect(visitor.at("model-id").locator("textarea, input")).to_have_value("")


def test_without_internet_a_sentence_says_so(visitor, shipped, monkeypatch):
    monkeypatch.setattr(hub, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    fetch(visitor, "openai-community/gpt2")
    visitor.expect_message("cannot be reached from this server")
    expect(visitor.at("model-id").locator("textarea, input")).to_have_value("openai-community/gpt2")
    visitor.expect_model(shipped.name)
