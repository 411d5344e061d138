"""A Hugging Face Hub on this machine, with as much of it as a download needs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    """Answers for models by their ids; `answers` are (status, body) for paths that are to be answered otherwise."""

    def __init__(self, *args, models: dict[str, Path], answers: dict[str, tuple[int, bytes]], asked: list[str]):
        self.models, self.answers, self.asked = models, answers, asked
        super().__init__(*args)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.asked.append(path)
        status, body = self.answers.get(path) or self.answer(path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, path: str) -> tuple[int, bytes]:
        for name, folder in self.models.items():
            if path == f"/api/models/{name}":
                return 200, listing({file.name: file.stat().st_size for file in folder.iterdir()})
            if path.startswith(f"/{name}/resolve/{COMMIT}/"):
                return 200, (folder / path.rpartition("/")[-1]).read_bytes()
        return 401, b'{"error": "Invalid username or password."}'  # what the Hub says of a model that is not there

    def log_message(self, *_) -> None:
        pass


def listing(sizes: dict[str, int]) -> bytes:
    """What the Hub says of a model with files of these sizes in bytes."""
    files = [{"rfilename": name, "size": size, "blobId": "0" * 40} for name, size in sizes.items()]
    return json.dumps({"id": "x", "sha": COMMIT, "private": False, "gated": False, "siblings": files}).encode()


@contextmanager
def fake_hub(
    models: dict[str, Path], answers: dict[str, tuple[int, bytes]] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """The address of a Hub with these models, and the list of all paths it was asked for."""
    asked: list[str] = []
    handler = partial(Handler, models=models, answers=answers or {}, asked=asked)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
