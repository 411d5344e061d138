"""Runs that outlive the page, and the server: reloads, closed pages, kills, and visitors who must never meet."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from surroundings import free_port

from benchmarks.page_client import App

pytestmark = pytest.mark.browser

LONG = 20_000  # steps; more than any test here waits for
UNREACHABLE = re.compile("Failed to fetch|net::ERR_|network error|Connection errored out")


def begin(visitor, text: str, **settings: object) -> tuple[str, str]:
    """Starts a run that does not end by itself; returns the visitor's key and its id."""
    visitor.open("Train")
    visitor.paste_text(text)
    visitor.set_up(**(visitor.TINY | {"max_iters": LONG, "eval_interval": 100} | settings))
    visitor.start()
    visitor.expect_state("running")
    until_step(visitor, 5)
    return asked(visitor)


def until_step(visitor, step: int) -> None:
    visitor.until(lambda: int(visitor.fact("chart", "step") or 0) >= step, f"step {step}")


def asked(visitor) -> tuple[str, str]:
    """The visitor's key and the run's id, as the page sends them when it asks for what is new."""
    with visitor.page.expect_request(lambda request: '"poll"' in (request.post_data or "")) as asking:
        key, run, _ = json.loads(asking.value.post_data)["data"]
    return key, run


def message(visitor):
    return visitor.own("chart").locator(".message")


def stop(visitor) -> None:
    visitor.page.get_by_role("button", name="Stop", exact=True).first.click()
    visitor.expect_state("stopped")


# --- A page comes and goes --------------------------------------------------------------------------------------------


def test_a_reload_and_a_second_tab_find_the_whole_run(visitor, small_text):
    begun = begin(visitor, small_text.text)
    visitor.reload()
    visitor.expect_state("running")
    until_step(visitor, 30)
    second = type(visitor)(visitor.page.context.new_page(), visitor.faults)
    second.page.goto(visitor.page.url)
    second.expect_state("running")
    assert asked(second) == asked(visitor) == begun
    second.page.get_by_role("button", name="Pause").click()
    for page in (visitor, second):
        page.expect_state("paused")
    assert second.fact("chart", "points") == visitor.fact("chart", "points") == visitor.fact("chart", "step")
    second.page.close()
    stop(visitor)


def test_a_run_goes_on_when_its_page_is_closed(visitor, small_text):
    begin(visitor, small_text.text)
    context, address = visitor.page.context, visitor.page.url
    step = int(visitor.fact("chart", "step"))
    visitor.page.close()
    back = type(visitor)(context.new_page(), visitor.faults)
    back.page.wait_for_timeout(2_000)  # in which nobody looks
    back.page.goto(address)
    back.expect_state("running")
    until_step(back, step + 10)
    back.page.get_by_role("button", name="Pause").click()
    back.expect_state("paused")
    assert back.fact("chart", "points") == back.fact("chart", "step")
    stop(back)


def test_who_shares_the_machine_is_told(new_visitor, small_text):
    first, second = new_visitor(), new_visitor()
    begin(first, small_text.text)
    expect(message(first)).not_to_contain_text("Sharing")
    begin(second, small_text.text)
    for visitor in (first, second):
        expect(message(visitor)).to_contain_text("Sharing this machine with 1 other.")
    expect(first.own("chart").locator(".time")).to_have_text(re.compile(r"\d"))
    stop(second)
    expect(message(first)).not_to_contain_text("Sharing")
    stop(first)


# --- The server goes and comes ----------------------------------------------------------------------------------------


@pytest.fixture
def start_app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Starts the real app in a process of its own, always on the same port and data."""
    apps, port = [], free_port()

    def start(**settings: object) -> App:
        apps.append(App(tmp_path / "data", port, **settings).__enter__())
        return apps[-1]

    yield start
    for app in apps:
        if app.process.poll() is None:
            app.process.kill()
            app.process.wait()


def test_the_page_finds_its_run_again_after_a_kill(start_app, new_visitor, small_text):
    app = start_app(save_seconds=0.2)
    visitor = new_visitor(url=f"{app.url}/")
    begun = begin(visitor, small_text.text, n_embd=32)
    until_step(visitor, 50)
    app.process.kill()
    app.process.wait()
    expect(visitor.own("chart").locator(".state")).to_have_text("Connection lost, trying again…")
    points = int(visitor.fact("chart", "points"))

    start_app(save_seconds=0.2)
    expect(message(visitor)).to_contain_text(re.compile(r"The server restarted, and this run went on from step "))
    resumed = int(re.search(r"from step ([\d,]+)", message(visitor).inner_text())[1].replace(",", ""))
    assert resumed > 0
    until_step(visitor, max(resumed, points) + 50)
    assert asked(visitor) == begun
    visitor.page.get_by_role("button", name="Pause").click()  # whose event goes another way than the chart's questions
    visitor.expect_state("paused")
    visitor.expect_model("The pasted text")
    assert visitor.fact("chart", "points") == visitor.fact("chart", "step")
    stop(visitor)
    forgive(visitor)


def test_a_server_that_is_told_to_end_loses_not_a_step(start_app, new_visitor, small_text):
    app = start_app(save_seconds=3600)
    visitor = new_visitor(url=f"{app.url}/")
    begin(visitor, small_text.text, n_embd=32)
    until_step(visitor, 50)
    seen = int(visitor.fact("chart", "step"))
    app.process.send_signal(signal.SIGTERM)
    assert app.process.wait(60) == 0
    start_app()
    expect(message(visitor)).to_contain_text("The server restarted")
    resumed = int(re.search(r"from step ([\d,]+)", message(visitor).inner_text())[1].replace(",", ""))
    assert resumed >= seen
    stop(visitor)
    forgive(visitor)


def test_a_run_that_nobody_looks_at_pauses_itself(start_app, new_visitor, small_text, tmp_path: Path):
    app = start_app(unattended_minutes=0.1)
    visitor = new_visitor(url=f"{app.url}/")
    begin(visitor, small_text.text)
    context = visitor.page.context
    visitor.page.close()
    back = type(visitor)(context.new_page(), visitor.faults)
    record = next((tmp_path / "data").glob("visitors/*/runs/*/run.json"))
    back.until(lambda: json.loads(record.read_bytes())["state"] == "paused", "the run paused itself", timeout=60_000)
    back.page.goto(f"{app.url}/")
    back.expect_state("paused")
    expect(message(back)).to_contain_text("No page was open for 0.1 minutes, so this run paused itself: press Resume.")
    step = int(back.fact("chart", "step"))
    back.page.get_by_role("button", name="Resume").click()
    until_step(back, step + 5)
    stop(back)


def forgive(visitor) -> None:
    """While the server was away the browser told of connections that failed: that is no fault of the page."""
    visitor.faults[:] = [fault for fault in visitor.faults if not UNREACHABLE.search(fault)]


# --- Two visitors -----------------------------------------------------------------------------------------------------

ASK = """async ([id, name, data]) => {
  const found = window.gradio_config.components.find((c) => c.props.elem_id === id);
  const answer = await fetch("gradio_api/component_server", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ session_hash: "forged", component_id: found.id, fn_name: name, data }),
  });
  return [answer.status, await answer.text()];
}"""
GET = """async (address) => {
  const answer = await fetch(address);
  return [answer.status, await answer.text()];
}"""
SECRET = "A secret that nobody else may read.\n"


def test_two_visitors_in_two_browsers_cannot_reach_each_other(start_app, new_visitor, tmp_path: Path):
    app = start_app()
    owner, stranger = new_visitor(url=f"{app.url}/"), new_visitor(url=f"{app.url}/")
    key, run = begin(owner, SECRET * 30)
    own = "A" * 32  # a key that the stranger makes up
    owner.page.get_by_role("button", name="Pause").click()
    owner.expect_state("paused")

    def ask(*what: object) -> dict:
        status, answer = stranger.page.evaluate(ASK, list(what))
        assert status == 200 and "secret" not in answer
        return json.loads(answer)

    folder = next((tmp_path / "data" / "visitors").iterdir()).name
    for guess in (own, folder, key[:-1] + "x", "", key.lower(), "../" + key, "*"):
        assert ask("chart", "poll", [guess, run, 0])["state"] == "gone"
        assert "error" in ask("download", "file", [[guess, "The pasted text"], "safetensors"])

    files = [file.relative_to(tmp_path) for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert any(file.name == "text.txt" for file in files)
    addresses = [f"{root}/{name}" for root in ("data", str(tmp_path / "data")) for name in ("", "visitors", "uploads")]
    addresses += [str(file) for file in files] + [str(tmp_path / file) for file in files]
    for address in addresses:
        for route in ("gradio_api/file=", "file=", "gradio_api/file/", ""):
            status, answer = stranger.page.evaluate(GET, f"{app.url}/{route}{address}")
            assert status >= 400 and "secret" not in answer, f"{route}{address}"

    stranger.open("Checkpoints")
    assert "The pasted text" not in stranger.at("checkpoints").inner_text()
    stop(owner)
    stranger.faults[:] = [fault for fault in stranger.faults if "Failed to load resource" not in fault]  # as it should
