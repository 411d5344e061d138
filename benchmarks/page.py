"""The page: how soon it can be used, what a live loss curve costs the server, and how soon a click shows."""

import asyncio
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from string import ascii_letters

from playwright.sync_api import Browser, sync_playwright

from benchmarks.page_client import PATIENCE, ROOT, App, Visitor
from benchmarks.row import Row, at_most
from playground.checkpoint import Checkpoint, Past, TrainStep, to_bytes
from playground.config import PRESETS, ModelConfig, TrainConfig
from playground.corpus import Text
from playground.model import GPT
from playground.runs import PAST, RECORD, Run
from playground.tokenizer import CharTokenizer

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
STARTS = 7  # of each page, in turns
LENGTHS = (100, 1_000, 10_000, 100_000)  # steps of a run that is looked at
NEW_STEPS = 50  # in an update
CLICKS = 60
UPDATES, BETWEEN, ROUNDS = 100, 0.05, 3  # updates in a round, and the seconds between two

BARE = """
import gradio as gr
with gr.Blocks() as demo:
    gr.Markdown("A bare page.")
demo.launch(ssr_mode=False)
"""


def rows() -> Iterator[Row]:
    with chromium() as browser:
        yield start(browser)
        yield from clicks(browser)
    yield from live_updates()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, or else Playwright's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


def start(browser: Browser) -> Row:
    ours, bare = [], []
    for _ in range(STARTS):
        bare.append(seconds_to_use(browser, ["-c", BARE], "text=A bare page."))
        ours.append(seconds_to_use(browser, ["app.py"], "#chart [data-state=finished]"))
    ours, bare = median(ours), median(bare)
    return Row("command to usable page, beside a bare Gradio page", "s", ours, bare, ours - bare, 1.5, at_most=True)


def seconds_to_use(browser: Browser, command: list[str], usable: str) -> float:
    """From the command to what makes the page usable being there, in a browser that has never seen the page."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        own = {"PLAYGROUND_DATA": folder, "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
        page = browser.new_context().new_page()
        started = time.perf_counter()
        server = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=os.environ | own, stdout=subprocess.DEVNULL)
        try:
            wait_for(port)
            page.goto(f"http://127.0.0.1:{port}", wait_until="commit")
            page.wait_for_selector(usable, timeout=1000 * PATIENCE)
            return time.perf_counter() - started
        finally:
            page.context.close()
            server.send_signal(signal.SIGTERM)
            server.wait(PATIENCE)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise TimeoutError("the page did not start")
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- A live loss curve


def live_updates() -> Iterator[Row]:
    """The server's processor time for an answer with new points; of a run that stands still, so that it costs none."""
    with tempfile.TemporaryDirectory() as folder:
        key, data = secrets.token_urlsafe(24), Path(folder) / "data"
        runs = {n: long_run(data, key, n) for n in LENGTHS}
        with App(data, free_port()) as app:
            costs = asyncio.run(measure_updates(app, key, runs))
    for n, milliseconds in costs.items():
        what = f"server's CPU for a live loss update, above an idle page, at step {n:,}"
        yield at_most(what, "ms", milliseconds, goal=5)


def long_run(data: Path, key: str, n_steps: int) -> str:
    """A paused run with a long past in a visitor's folder; returns its id."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    folder = data / "visitors" / digest / "runs" / f"run-{n_steps}"
    Run.create(folder, f"{n_steps} steps", Text("some.txt", "ab" * 100), PRESETS["small"], None, 0)
    record = json.loads((folder / RECORD).read_bytes())
    (folder / RECORD).write_text(json.dumps(record | {"state": "paused", "wanted": "paused"}))
    past = Past(ModelConfig(), TrainConfig(max_iters=LENGTHS[-1]), tuple(history(n_steps)))
    (folder / PAST).write_text(json.dumps(past.to_dict()))
    return folder.name


def history(n_steps: int) -> Iterator[TrainStep]:
    dice = random.Random(0)
    for step in range(1, n_steps + 1):
        loss = 1.5 + 3 / (1 + step / 100) + dice.gauss(0, 0.05)
        evaluated = {"val_loss": loss, "sample": "Once upon a time. " * 12} if step % 100 == 0 else {}
        yield TrainStep(step, loss, dice.random(), dice.random(), step / 10, **evaluated)


async def measure_updates(app: App, key: str, runs: dict[int, str]) -> dict[int, float]:
    visitor = await Visitor(app.url).open()
    for run in runs.values():
        await visitor.ask("chart", "poll", [key, run, 0])  # reads it from its file
    costs = {n: [] for n in runs}
    for _ in range(ROUNDS):
        idle = await cpu_milliseconds(app, asyncio.sleep(UPDATES * BETWEEN))
        for n, run in runs.items():
            updates = await cpu_milliseconds(app, poll(visitor, key, run, n - NEW_STEPS))
            costs[n].append((updates - idle) / UPDATES)
    await visitor.close()
    return {n: median(found) for n, found in costs.items()}


async def poll(visitor: Visitor, key: str, run: str, cursor: int) -> None:
    for _ in range(UPDATES):
        answer = await visitor.ask("chart", "poll", [key, run, cursor])
        assert len(answer["train"]) == NEW_STEPS
        await asyncio.sleep(BETWEEN)


async def cpu_milliseconds(app: App, act: Awaitable) -> float:
    before = cpu_seconds(app)
    await act
    return 1000 * (cpu_seconds(app) - before)


def cpu_seconds(app: App) -> float:
    """Of the server's process, all its threads together."""
    times = Path(f"/proc/{app.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]  # user's and system's
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


# --- A click in the Attention tab


def clicks(browser: Browser) -> Iterator[Row]:
    """From a click to the painted map, with 8 layers of 8 heads and 128 tokens, while another visitor's run trains."""
    with tempfile.TemporaryDirectory() as folder, App(Path(folder) / "data", free_port()) as app, training(app):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(app.url)
        page.wait_for_selector("#chart [data-state=finished]")
        page.get_by_role("tab", name="Checkpoints").click()
        file = {"name": "large.safetensors", "mimeType": "application/octet-stream", "buffer": large_checkpoint()}
        with page.expect_file_chooser() as chooser:
            page.locator("#upload-checkpoint").click()
        chooser.value.set_files(file)
        page.wait_for_selector("#model-in-use >> text=8 x 8 heads")
        page.get_by_role("tab", name="Attention").click()
        page.wait_for_selector("#heads [data-layers='8'][data-painted]")
        page.evaluate(CLICKING)
        prompts = [page.evaluate("text => newPrompt(text)", prompt(n)) for n in range(CLICKS)]
        heads = [page.evaluate("n => clickHead(n)", 1 + n % 63) for n in range(63)]
        page.close()
    for what, seconds in (("a new prompt to all heads painted", prompts), ("a head to its map painted", heads)):
        what = f"click for {what}, 8 x 8 heads x 128 tokens, while a run trains, p95"
        yield at_most(what, "ms", quantiles(seconds, n=20)[-1], goal=150)


@contextmanager
def training(app: App) -> Iterator[None]:
    """Another visitor trains the Small preset, and looks on."""
    ended = threading.Event()

    async def train() -> None:
        visitor = await Visitor(app.url).open()
        visitor.set("max_iters", 100_000)
        await visitor.click("start")
        run, cursor = visitor.value("chart")["run"], 0
        while not ended.is_set():
            cursor = (await visitor.ask("chart", "poll", [visitor.key, run, cursor]))["step"]
            await asyncio.sleep(0.5)
        await visitor.close()

    thread = threading.Thread(target=asyncio.run, args=(train(),))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def large_checkpoint() -> bytes:
    tokenizer = CharTokenizer.train(ascii_letters)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, block_size=128, n_layer=8, n_head=8, n_embd=128)
    return to_bytes(Checkpoint("8 x 8 heads", config, tokenizer, GPT(config).state_dict(), TrainConfig()))


def prompt(n: int) -> str:
    return "".join(random.Random(n).choices(ascii_letters, k=128))


# In the page: a click, and the seconds until the frame with the painted map has been drawn.
CLICKING = """() => {
  const heads = document.querySelector("#heads [id^=html-]");
  const painted = async (act) => {
    const start = performance.now();
    await new Promise((done) => {
      new MutationObserver(done).observe(heads, { attributeFilter: ["data-painted"] });
      act();
    });
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - start;
  };
  const box = document.querySelector("#attention-prompt textarea");
  window.newPrompt = async (text) => {
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((done) => setTimeout(done, 200));
    return painted(() => document.querySelector("#attention-prompt .submit-button").click());
  };
  window.clickHead = async (n) => {
    await new Promise((done) => setTimeout(done, 100));
    return painted(() => heads.querySelectorAll(".am-thumb")[n].click());
  };
}"""
