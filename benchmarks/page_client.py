"""A visitor without a browser: sends the events that the page would send, over HTTP, and keeps what comes back."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
API = "/gradio_api"
PATIENCE = 60.0  # seconds for the app to start, and for any single answer


class App:
    """The real app in a process of its own, on a data folder; a context manager."""

    def __init__(self, data: Path, port: int, **settings: object):
        self.url, self._log = f"http://127.0.0.1:{port}", data.parent / f"{data.name}.log"
        own = {"DATA": data, **settings}
        self._environment = os.environ | {f"PLAYGROUND_{name.upper()}": str(value) for name, value in own.items()}
        self._environment |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}

    def __enter__(self) -> "App":
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/config", timeout=5).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    raise RuntimeError(f"the app did not start: {self._log.read_text()[-500:]}") from None
                time.sleep(0.1)

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    @property
    def resident_mb(self) -> float:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def log(self) -> str:
        return self._log.read_text()


class Visitor:
    """One visitor with one open page. Values of the page's controls are known by their `elem_id`."""

    def __init__(self, url: str):
        self.session = secrets.token_hex(8)
        self._http = httpx.AsyncClient(base_url=url, timeout=PATIENCE)
        self._waiting: dict[str, asyncio.Queue] = {}

    async def open(self) -> "Visitor":
        config = (await self._http.get("/config")).json()
        self._events = config["dependencies"]
        self._ids = {c["props"]["elem_id"]: c["id"] for c in config["components"] if c["props"].get("elem_id")}
        self.values = {c["id"]: c["props"].get("value") for c in config["components"]}
        self._visitor = next(c["id"] for c in config["components"] if c["type"] == "browserstate")
        async for _ in self.send("", "load"):
            pass
        return self

    async def close(self) -> None:
        await self._http.aclose()

    @property
    def key(self) -> str:
        return self.values[self._visitor]

    def value(self, elem_id: str):
        return self.values[self._ids[elem_id]]

    def set(self, elem_id: str, value: object) -> None:
        self.values[self._ids[elem_id]] = value

    async def click(self, elem_id: str, event: str = "click") -> None:
        """Sends one event and waits for its whole answer."""
        async for _ in self.send(elem_id, event):
            pass

    async def send(self, elem_id: str, event: str) -> AsyncIterator[list]:
        """Sends an event and yields each of its answers, the values of its outputs; raises if it fails."""
        target = self._ids.get(elem_id)
        dependency = next(
            d for d in self._events if any(t[1] == event and target in (t[0], None) for t in d["targets"])
        )
        body = {
            "data": [self.values.get(i) for i in dependency["inputs"]],
            "fn_index": dependency["id"],
            "session_hash": self.session,
            "trigger_id": target,
        }
        joined = await self._http.post(f"{API}/queue/join", json=body)
        joined.raise_for_status()
        wanted, last = joined.json()["event_id"], None
        async with self._http.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("event_id") != wanted:
                    continue
                if message["msg"] in ("process_generating", "process_completed"):
                    if not message["success"]:
                        raise RuntimeError(f"{elem_id} {event}: {message['output'].get('error')}")
                    last = message["output"].get("data", last)
                    if message["msg"] == "process_completed":
                        self._take(dependency["outputs"], last)
                        yield last
                        return
                    yield last

    async def ask(self, elem_id: str, function: str, data: list) -> dict:
        """Calls a component's server function."""
        body = {"session_hash": self.session, "component_id": self._ids[elem_id], "fn_name": function, "data": data}
        answer = await self._http.post(f"{API}/component_server", json=body)
        answer.raise_for_status()
        return answer.json()

    def _take(self, outputs: list[int], data: list) -> None:
        for component, value in zip(outputs, data, strict=True):
            if not (isinstance(value, dict) and value.get("__type__") == "update"):
                self.values[component] = value
            elif "value" in value:
                self.values[component] = value["value"]
