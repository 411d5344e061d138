"""The one call to another host: the files of a model on the Hugging Face Hub, when a visitor asks for it by its id.

So that Gradio asks nobody of its own accord, ui/page.py sets HF_HUB_OFFLINE, which stops the whole of the library
`huggingface_hub`. So this asks the Hub's two addresses itself: without a token, so that a visitor gets what is public
and nothing of the host's, without a cache, and for no more files and bytes than are wanted.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from playground.config import quote
from playground.errors import BadInput
from playground.export import CONFIG
from playground.interop import files_of_model, read_config

MB = 2**20
MAX_LISTING = 4 * MB  # bytes of what the Hub says of a model
TIMEOUT = httpx.Timeout(20, connect=5)  # seconds, of each wait; a download may take as long as it goes on
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Fetched:
    """How far a download is, in bytes."""

    done: int
    total: int


def fetch(model_id: str, folder: Path, max_mb: float) -> Iterator[Fetched]:
    """Downloads the files of a GPT-2, or of an export of ours, into a folder.

    Raises `BadInput`, before anything large is fetched wherever it can.
    """
    model_id = checked_id(model_id)
    with _telling(model_id), httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        commit, sizes = _listing(client, model_id)
        names = files_of_model(sizes)
        done, total = 0, sum(sizes[name] for name in names)
        if total > max_mb * MB:
            size = f"{total / MB:,.0f} MB, and {max_mb:,g} MB are this server's limit"
            raise BadInput(f"{model_id} has {size}: choose a smaller model.")
        yield Fetched(0, total)
        for name in names:
            with (folder / name).open("wb") as file:
                for chunk in _chunks(client, f"{model_id}/resolve/{commit}/{name}", sizes[name]):
                    file.write(chunk)
                    done += len(chunk)
                    yield Fetched(done, total)
            if name == CONFIG:  # the first: whatever is no GPT-2 is not fetched further
                read_config(folder / name)


def checked_id(model_id: object) -> str:
    """A model's id as the Hub writes it, without spaces around. Raises `BadInput` for what can be none."""
    model_id = model_id.strip() if isinstance(model_id, str) else ""
    try:
        validate_repo_id(model_id)
    except HFValidationError as error:
        raise BadInput(f"{quote(model_id)} is no model's id: write one such as openai-community/gpt2.") from error
    return model_id


def _listing(client: httpx.Client, model_id: str) -> tuple[str, dict[str, int]]:
    """The latest commit of a model, and the sizes in bytes of its files."""
    answer = json.loads(b"".join(_chunks(client, f"api/models/{model_id}?blobs=true", MAX_LISTING)))
    match answer:
        case {"sha": str(commit), "siblings": list(files)} if COMMIT.fullmatch(commit):
            return commit, dict(_named_size(file) for file in files)
    raise ValueError("the Hub's answer has another form")


def _named_size(file: object) -> tuple[str, int]:
    match file:
        case {"rfilename": str(name), "size": int(size)} if size >= 0:
            return name, size
    raise ValueError("the Hub's answer has another form")


def _chunks(client: httpx.Client, path: str, max_bytes: int) -> Iterator[bytes]:
    """What is at an address of the Hub, up to `max_bytes`; ValueError for more."""
    n_bytes = 0
    with client.stream("GET", f"{ENDPOINT}/{path}", headers={"Accept-Encoding": "identity"}) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes(MB):
            n_bytes += len(chunk)
            if n_bytes > max_bytes:
                raise ValueError("the Hub sends more than it told")
            yield chunk


@contextmanager
def _telling(model_id: str) -> Iterator[None]:
    """Turns what can go wrong between two hosts into one sentence."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403, 404):  # the Hub says 401 of what is not there, so as not to tell what is private
            raise BadInput(
                f"There is no model {model_id} on the Hugging Face Hub that is open to all: look for its id there."
            ) from error
        raise BadInput(f"The Hugging Face Hub answers with error {status}: try again in some minutes.") from error
    except httpx.HTTPError as error:
        raise BadInput(
            "The Hugging Face Hub cannot be reached from this server: try again later, or download the model's files "
            "where there is internet and upload them here."
        ) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput("The Hugging Face Hub answers in an unknown way: upload the model's files instead.") from error
