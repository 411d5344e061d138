"""Models by their ids: what is fetched from a Hub, and the one sentence for all that can go wrong between hosts."""

import json
import time
from pathlib import Path

import pytest
from fake_hub import COMMIT, Handler, fake_hub, listing
from gpt2 import save_gpt2
from surroundings import free_port

from playground import hub
from playground.checkpoint import to_bytes
from playground.errors import BadInput
from playground.export import export_files
from playground.files import write_folder
from playground.hub import Fetched, checked_id, fetch
from playground.interop import open_folder

MODEL = "somebody/tiny-gpt2"
API = f"/api/models/{MODEL}"
WANTED = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    save_gpt2(folder)
    (folder / "README.md").write_text("not wanted")
    (folder / "pytorch_model.bin").write_bytes(bytes(1_000))
    return folder


@pytest.fixture
def serve(folder, monkeypatch):
    """Fetches from a Hub that has the model and answers some paths otherwise; the list of paths it was asked for."""
    hubs = []

    def start(answers: dict[str, tuple[int, bytes]] | None = None) -> list[str]:
        hubs.append(fake_hub({MODEL: folder}, answers))
        address, asked = hubs[-1].__enter__()
        monkeypatch.setattr(hub, "ENDPOINT", address)
        return asked

    yield start
    for each in hubs:
        each.__exit__(None, None, None)


def refusal(folder: Path, model_id: object = MODEL, max_mb: float = 10) -> str:
    """The sentence that a download is refused with; nothing of the weights was written before."""
    with pytest.raises(BadInput) as caught:
        list(fetch(model_id, folder, max_mb))
    sentence = str(caught.value)
    assert sentence.endswith(".") and len(sentence) < 300 and sentence.isprintable()
    return sentence


def test_the_files_of_a_model_arrive_and_nothing_else(serve, folder, tmp_path):
    asked = serve()
    steps = list(fetch(f" {MODEL}\n", tmp_path, max_mb=10))
    total = sum((folder / name).stat().st_size for name in WANTED)
    assert steps[0] == Fetched(0, total) and steps[-1] == Fetched(total, total)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        name: (folder / name).read_bytes() for name in WANTED
    }
    assert asked == [API, *(f"/{MODEL}/resolve/{COMMIT}/{name}" for name in WANTED)]
    here, there = open_folder(tmp_path.iterdir(), "a"), open_folder(folder.iterdir(), "a")
    assert here.tokenizer.to_dict() == there.tokenizer.to_dict()


def test_a_model_that_was_exported_here_comes_back_whole(tiny_checkpoint, tmp_path, monkeypatch):
    there, here = tmp_path / "there", tmp_path / "here"
    write_folder(there, export_files(tiny_checkpoint))
    here.mkdir()
    with fake_hub({MODEL: there}) as (address, asked):
        monkeypatch.setattr(hub, "ENDPOINT", address)
        list(fetch(MODEL, here, max_mb=10))
    assert [path.rpartition("/")[-1] for path in asked[1:]] == ["playground.safetensors", "model.safetensors"]
    assert to_bytes(open_folder(here.iterdir(), "a")) == to_bytes(tiny_checkpoint)


def test_no_token_of_the_hosts_is_sent(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    headers, answer = [], Handler.answer
    monkeypatch.setattr(Handler, "answer", lambda self, path: headers.append(dict(self.headers)) or answer(self, path))
    serve()
    list(fetch(MODEL, tmp_path, max_mb=10))
    assert len(headers) == 1 + len(WANTED)
    assert not any("Authorization" in each or "hf_secret" in str(each) for each in headers)


@pytest.mark.parametrize(
    "model_id",
    [
        "",
        "  ",
        None,
        7,
        "a/b/c",
        "../etc",
        "a--b",
        "a b",
        "https://elsewhere.example/x",
        "a?b",
        "a#b",
        "a@b",
        "a%2fb",
        "x" * 97,
    ],
)
def test_what_can_be_no_id_is_asked_of_nobody(model_id, serve, tmp_path):
    asked = serve()
    assert "is no model's id" in refusal(tmp_path, model_id)
    assert not asked


def test_ids_as_the_hub_has_them():
    assert checked_id(" openai-community/gpt2 ") == "openai-community/gpt2"
    assert checked_id("distilgpt2") == "distilgpt2"


def test_without_internet_a_sentence_comes_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in refusal(tmp_path)
    monkeypatch.setattr(hub, "ENDPOINT", "http://no-such-host.invalid")
    assert "cannot be reached" in refusal(tmp_path)


def test_a_hub_that_says_nothing_is_given_up(monkeypatch, tmp_path, serve):
    monkeypatch.setattr(hub, "TIMEOUT", 0.2)
    monkeypatch.setattr(Handler, "answer", lambda *_: time.sleep(1) or (200, b""))
    serve()
    assert "cannot be reached" in refusal(tmp_path)


def test_a_model_that_is_not_there(serve, tmp_path):
    serve()
    assert "no model somebody/else" in refusal(tmp_path, "somebody/else")


def test_a_model_that_is_too_large_is_not_fetched(serve, tmp_path):
    asked = serve({API: (200, listing({"config.json": 500, "tokenizer.json": 500, "model.safetensors": 11 * 2**20}))})
    assert "11 MB, and 10 MB are this server's limit" in refusal(tmp_path)
    assert asked == [API] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "can run code"),
        (["config.json", "tokenizer.json"], "model.safetensors is missing"),
        (["config.json", "model.safetensors"], "tokenizer is missing"),
        ([], "config.json is missing"),
    ],
)
def test_a_model_without_what_is_needed_is_not_fetched(names, sentence, serve, tmp_path):
    asked = serve({API: (200, listing(dict.fromkeys(names, 100)))})
    assert sentence in refusal(tmp_path)
    assert asked == [API]


def test_the_weights_of_another_kind_of_model_are_not_fetched(serve, folder, tmp_path):
    config = (folder / "config.json").read_bytes().replace(b'"gpt2"', b'"bert"')
    asked = serve({f"/{MODEL}/resolve/{COMMIT}/config.json": (200, config)})
    assert "'bert'" in refusal(tmp_path)
    assert not any(path.endswith(".safetensors") for path in asked)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"[" * 100_000,
        b'{"sha": "main", "siblings": []}',
        json.dumps({"sha": COMMIT, "siblings": {}}).encode(),
        json.dumps({"sha": "../../x", "siblings": []}).encode(),
        json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "config.json", "size": -1}]}).encode(),
        json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}).encode(),
        b" " * (hub.MAX_LISTING + 1),
    ],
)
def test_answers_of_another_form(body, serve, tmp_path):
    serve({API: (200, body)})
    assert "answers in an unknown way" in refusal(tmp_path)


def test_more_bytes_than_were_told(serve, tmp_path):
    serve({f"/{MODEL}/resolve/{COMMIT}/config.json": (200, b"x" * 100_000)})
    assert "answers in an unknown way" in refusal(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_errors_of_the_hub(status, serve, tmp_path):
    serve({API: (status, b"")})
    assert f"error {status}" in refusal(tmp_path)


def test_a_server_error_halfway(serve, tmp_path):
    serve({f"/{MODEL}/resolve/{COMMIT}/model.safetensors": (502, b"")})
    assert "error 502" in refusal(tmp_path)
