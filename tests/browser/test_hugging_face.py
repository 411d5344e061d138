"""A model goes to Hugging Face's format and comes back, in the browser."""

import io
import zipfile

import pytest
from handmade import random_checkpoint
from playwright.sync_api import expect

from playground.checkpoint import from_bytes
from playground.export import export_files
from playground.tokenizer import CharTokenizer

pytestmark = pytest.mark.browser


def test_a_model_is_downloaded_for_hugging_face_and_comes_back(visitor, bpe_checkpoint, tmp_path):
    visitor.use(bpe_checkpoint)
    name, data = visitor.download("download", "Download for Hugging Face")
    assert name.endswith(".zip")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == export_files(bpe_checkpoint)

    visitor.open("Train")  # so that the next model in use is another one
    visitor.open("Checkpoints")
    with visitor.page.expect_file_chooser() as chooser:
        visitor.at("upload-gpt2").click()
    chooser.value.set_files([*folder.iterdir()])
    visitor.until(lambda: visitor.at("checkpoints").locator("label").count() == 3, "it stands in the list")
    back, checkpoint = visitor.download_checkpoint()
    assert checkpoint.name.startswith(bpe_checkpoint.name) and checkpoint.name != bpe_checkpoint.name
    assert from_bytes(back).weights.keys() == bpe_checkpoint.weights.keys()


def test_a_model_without_a_class_is_refused_in_a_sentence(visitor):
    other = random_checkpoint(CharTokenizer.train("abc"), activation="relu2")
    visitor.use(other)
    visitor.at("download").get_by_role("button", name="Download for Hugging Face").click()
    expect(visitor.at("download").get_by_role("status")).to_contain_text("Activation: Squared ReLU")
    visitor.download_checkpoint()  # which goes as before
    expect(visitor.at("download").get_by_role("status")).to_have_text("")
