"""The real page in a real browser: a server, a Chromium, and a visitor who knows where things stand on the page."""

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from playwright.sync_api import Browser, Error, FilePayload, Locator, Page, expect, sync_playwright
from surroundings import free_port

from playground.checkpoint import Checkpoint, from_bytes, load, to_bytes
from playground.config import Recipe
from playground.corpus import Text
from playground.generation import Sampling, encode_prompt, next_logits, next_token_probs
from playground.settings import Settings
from playground.training import make_trainer, train
from playground.ui.page import SHIPPED, build, launch, open_workspaces

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
PATIENCE = 30_000  # ms; a busy machine is no defect of the page

WHEN_LEFT = re.compile("AbortError: signal is aborted|Unexpected error Connection errored out")

expect.set_options(timeout=PATIENCE)


class Visitor:
    """A person at the page: opens tabs, works the controls, reads what the page shows."""

    # As small as a run can be while it still shows everything.
    TINY: ClassVar[dict] = {
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 16,
        "block_size": 16,
        "max_iters": 40,
        "batch_size": 4,
        "eval_interval": 10,
    }

    def __init__(self, page: Page, faults: list[str]):
        self.page, self.faults = page, faults

    # --- Getting about

    def open(self, tab: str) -> None:
        """Opens a tab, which on a narrow page may stand in the menu of those that do not fit."""
        shown = self.page.get_by_role("tab", name=tab, exact=True)
        menu = self.page.get_by_role("button", name="More tabs")
        if not shown.is_visible() and menu.is_visible():
            menu.click()
            self.page.locator(".overflow-dropdown").get_by_text(tab, exact=True).click()
        else:
            shown.click()
        expect(self.page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")

    def reload(self) -> None:
        self._leave(self.page.reload)

    def go(self, url: str) -> None:
        self._leave(lambda: self.page.goto(url))

    def _leave(self, load: Callable[[], object]) -> None:
        """Loads a page anew. Gradio complains of its own connections when its page is left: that is no fault."""
        before = len(self.faults)
        load()
        self.faults[before:] = [fault for fault in self.faults[before:] if not WHEN_LEFT.search(fault)]

    def at(self, elem_id: str) -> Locator:
        return self.page.locator(f"#{elem_id}")

    def own(self, elem_id: str) -> Locator:
        """The element of one of our own components, on which its `data-…` facts stand."""
        return self.page.locator(f"#{elem_id} [id^=html-]")

    def fact(self, elem_id: str, name: str) -> str | None:
        return self.own(elem_id).get_attribute(f"data-{name}")

    def until(self, condition: Callable[[], bool], what: str, timeout: int = PATIENCE) -> None:
        """Waits until something holds that no single element shows."""
        for _ in range(timeout // 50):
            if condition():
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"Waited {timeout / 1000:g} s in vain until {what}.")

    # --- Controls

    def fill(self, elem_id: str, value: object) -> None:
        """Fills a number, a slider or a text field, and leaves it."""
        field = self.page.locator(f"#{elem_id} :is(input[type=number], textarea, input[type=text])")
        field.fill(str(value))
        field.blur()

    def choose(self, elem_id: str, label: str) -> None:
        self.at(elem_id).get_by_role("radio", name=label, exact=True).check()

    def unfold(self, elem_id: str) -> None:
        content = self.at(elem_id).get_by_test_id("accordion-content")
        if not content.is_visible():
            self.at(elem_id).get_by_role("button").first.click()
        expect(content).to_be_visible()

    # --- Training

    def give_text(self, file: Path | FilePayload) -> None:
        """Uploads a text to train on. A file that is there already makes way."""
        self.choose("source", "Upload")
        clear = self.at("upload").get_by_role("button", name="Clear")
        if clear.is_visible():
            clear.click()
        self.at("upload").locator("input[type=file]").set_input_files(file)

    def paste_text(self, text: str) -> None:
        self.choose("source", "Paste")
        self.at("paste").locator("textarea").fill(text)

    def set_up(self, **settings: object) -> None:
        """Sets numbers of the recipe, by the names they have in the code."""
        self.unfold("model-settings")
        self.unfold("training-settings")
        for name, value in settings.items():
            self.fill(name, value)

    def fine_tune(self) -> None:
        """Has the next run go on from the model in use, with the settings that the page fills in for that."""
        self.page.get_by_label("Fine-tune the model in use").check()
        expect(self.at("plan-facts")).to_contain_text("goes on from")

    def start(self) -> None:
        self.at("start").click()

    def expect_state(self, state: str, timeout: int = PATIENCE) -> None:
        expect(self.own("chart")).to_have_attribute("data-state", state, timeout=timeout)

    def train(self, text: str, **settings: object) -> None:
        """A whole run of a moment on a pasted text."""
        self.open("Train")
        self.paste_text(text)
        self.set_up(**(self.TINY | settings))
        self.start()
        expect(self.own("chart").locator(".name")).to_have_text(re.compile("The pasted text"))
        self.expect_state("finished")
        self.expect_model(re.compile("The pasted text"))

    # --- Checkpoints

    def expect_model(self, name: str | re.Pattern) -> None:
        """The model in use, as the head of the page has it."""
        expect(self.at("model-in-use").locator("dd").first).to_have_text(name)

    def upload_checkpoint(self, data: bytes, name: str = "model.safetensors") -> None:
        self.open("Checkpoints")
        with self.page.expect_file_chooser() as chooser:
            self.at("upload-checkpoint").click()
        chooser.value.set_files(payload(name, data))

    def use(self, checkpoint: Checkpoint) -> None:
        """Brings a checkpoint along and takes it into use."""
        self.upload_checkpoint(to_bytes(checkpoint))
        self.expect_model(checkpoint.name)
        # The other tabs follow a moment after the page's head.
        expect(self.at("checkpoint-facts")).to_contain_text(f"{checkpoint.config.n_params:,}")

    def download(self, elem_id: str, button: str) -> tuple[str, bytes]:
        """The name and the bytes of a file that a button downloads."""
        with self.page.expect_download() as download:
            self.at(elem_id).get_by_role("button", name=button).first.click()
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()

    def download_checkpoint(self) -> tuple[bytes, Checkpoint]:
        """The checkpoint in use, as its file and as Python reads it."""
        self.open("Checkpoints")
        name = self.at("model-in-use").locator("dd").first.text_content()
        expect(self.at("checkpoint-facts")).to_contain_text(name)  # the tab follows a moment after the page's head
        _, data = self.download("download", "Download this checkpoint")
        return data, from_bytes(data)

    # --- Reading

    def expect_message(self, sentence: str | re.Pattern) -> None:
        """A message at the corner of the page; it is closed again, so that it covers nothing and counts once."""
        toast = self.page.get_by_test_id("toast-body")
        expect(toast).to_have_count(1)
        expect(toast).to_contain_text(sentence)
        toast.get_by_test_id("toast-close").click()
        expect(toast).to_have_count(0)

    def bars(self) -> list[list[float]]:
        """The rows of the next token's distribution: [id, probability], the likeliest first."""
        return json.loads(self.fact("next-token", "rows") or "[]")

    def expect_bars(self, checkpoint: Checkpoint, prompt: str, sampling: Sampling) -> None:
        """The bars come to show what Python computes from the same checkpoint."""
        logits = next_logits(checkpoint.model, encode_prompt(checkpoint.tokenizer, prompt))
        expected = next_token_probs(logits, sampling)  # (V,)

        def as_expected() -> bool:
            rows = self.bars()
            return len(rows) == min(12, len(expected)) and all(abs(p - expected[i].item()) < 1e-6 for i, p in rows)

        self.until(as_expected, f"the bars show {expected.sort(descending=True).values[:3].tolist()}…")

    def tokens(self) -> list[int]:
        """The ids into which the model's own tokenizer cuts the text of the Tokenizer tab."""
        ids = self.at("tokens").locator(".view.current").get_attribute("data-ids")
        return [int(i) for i in ids.split(",") if i]

    def generated(self, side: int = 0) -> str:
        """What a model has written, after the prompt; "" before the first time."""
        return "".join(self.own("generated").locator(".wr-text").nth(side).all_text_contents())

    def hover_cell(self, across: float, down: float) -> tuple[int, int, float]:
        """Query, key and the weight shown of the cell under a place (0 to 1) of the large attention map."""
        stage, readout = self.own("heads").locator(".am-light"), self.own("heads").locator(".am-readout")
        self.page.mouse.move(0, 0)
        expect(readout).not_to_have_attribute("data-key", re.compile("."))
        box = stage.bounding_box()
        stage.hover(position={"x": box["width"] * across, "y": box["height"] * down})
        expect(readout).to_have_attribute("data-key", re.compile("."))
        query, key, weight = (readout.get_attribute(f"data-{name}") for name in ("query", "key", "weight"))
        expect(readout.locator("b")).to_have_text(f"{float(weight):.3f}")
        return int(query), int(key), float(weight)

    def expect_nothing_run(self) -> None:
        """No markup of a visitor's became part of the page."""
        assert self.page.evaluate("window.pwned") is None
        assert self.page.locator("img[src=x], script[data-pwned]").count() == 0


def payload(name: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    workspaces, port = open_workspaces(Settings(data=tmp_path_factory.mktemp("data"))), free_port()
    demo = build(workspaces)
    launch(demo, workspaces, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{port}/"
    demo.close(verbose=False)
    workspaces.close(seconds=60)
    for thread in threading.enumerate():  # Python aborts when it ends while a thread is inside torch
        if thread.name.startswith("AnyIO"):
            thread.join(timeout=60)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or else Playwright's own."""
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        except Error as error:
            reason = f"There is no Chromium, so the page was not tested: {error.message.splitlines()[0]}"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
        yield browser
        browser.close()


@pytest.fixture
def new_visitor(browser: Browser, url: str) -> Iterator[Callable[..., Visitor]]:
    """Opens the page as somebody who was never here. The test fails if the page errs or calls another host."""
    contexts, faults = [], []

    def watch(page: Page, url: str) -> None:
        page.on("console", lambda message: message.type == "error" and faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on("request", lambda request: _is_ours(request.url, url) or faults.append(f"request to {request.url}"))

    def enter(width: int = 1280, height: int = 900, dark: bool = False, url: str = url) -> Visitor:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, locale="en-US"))
        page = contexts[-1].new_page()
        watch(page, url.split("?")[0])
        page.goto(f"{url}{'&' if '?' in url else '?'}__theme={'dark' if dark else 'light'}")
        visitor = Visitor(page, faults)
        visitor.expect_state("finished")  # the past of the model that is there from the first second
        return visitor

    yield enter
    for context in contexts:
        context.close()
    assert not faults, "\n".join(faults)


@pytest.fixture
def visitor(new_visitor: Callable[..., Visitor]) -> Visitor:
    return new_visitor()


@pytest.fixture(scope="session")
def shipped() -> Checkpoint:
    """The checkpoint that every visitor finds."""
    return load(next(SHIPPED.iterdir()))


@pytest.fixture(scope="session")
def bpe_checkpoint(small_text: Text, small_recipe: Recipe) -> Checkpoint:
    """A model with byte-pair tokens, hardly trained."""
    recipe = replace(small_recipe, tokenizer="bpe", train=replace(small_recipe.train, max_iters=2))
    trainer = make_trainer(small_text, recipe)
    for _ in train(trainer):
        pass
    return trainer.checkpoint("Pairs")


def _is_ours(address: str, url: str) -> bool:
    return address.startswith((url, url.replace("http", "ws", 1), "data:", "blob:"))
