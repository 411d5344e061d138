"""Bad input by the hundreds, against the real server: every one is answered in a sentence, and nothing comes of it.

BAD_INPUTS says how many there are, 500 if it does not; `make soak` takes 10,000.
"""

import bz2
import gzip
import json
import logging
import math
import os
import re
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from surroundings import free_port
from test_checkpoint import JSON, about_of, forged, raw_file

from playground.checkpoint import Checkpoint, from_bytes, to_bytes
from playground.corpus import decode, read_text
from playground.errors import BadInput
from playground.settings import Settings
from playground.ui.page import build, launch, open_workspaces
from playground.workspaces import Workspace, Workspaces

BAD_INPUTS = int(os.environ.get("BAD_INPUTS", "500"))
SHARES = {"texts": 0.3, "checkpoints": 0.2, "events": 0.3, "functions": 0.2}
OVER_HTTP = 1 / 10  # of the texts and checkpoints; the others are given to the function that reads them
DEADLINE = 60  # seconds for any answer; whoever waits that long waits for ever
UPLOAD_MB = 1
ROOT = Path(__file__).parents[1]

# Words that Python uses when it fails, and Gradio when it passes that on.
OF_PYTHON = re.compile(
    r"Traceback|\w(Error|Exception)\b|has no attribute|NoneType|<class |object at 0x|site-packages|\.py\b"
)


def attack(share: str, inputs: st.SearchStrategy, strike: Callable[[object], None], part: float = 1.0) -> None:
    """Strikes with as many generated inputs as are this part of the share's."""
    wanted, struck = math.ceil(BAD_INPUTS * SHARES[share] * part), 0

    @settings(
        max_examples=wanted,
        deadline=None,
        database=None,
        derandomize=BAD_INPUTS <= 500,  # the suite's are always the same; the soak looks further
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def strike_with(given_input):
        nonlocal struck
        struck += 1
        strike(given_input)

    strike_with()
    assert struck >= wanted


def assert_sentence(sentence: object) -> None:
    """It reads as one for a visitor, and tells nothing of the program or the machine."""
    assert isinstance(sentence, str) and sentence[:1].isprintable() and sentence.endswith("."), sentence
    assert len(sentence) < 1_000 and not OF_PYTHON.search(sentence) and str(ROOT) not in sentence, sentence


# --- The server and those who visit it --------------------------------------------------------------------------------


class Server:
    """The page's server, as a program sees it that is not the page."""

    def __init__(self, url: str, workspaces: Workspaces):
        self.url, self.workspaces = url, workspaces
        self._client = httpx.Client(base_url=url, timeout=DEADLINE)
        config = self._client.get("/config").json()
        self.events = config["dependencies"]
        self.components = {component["id"]: component for component in config["components"]}
        self.functions = [
            (number, name) for number, c in self.components.items() for name in c["props"].get("server_fns") or []
        ]

    def post(self, path: str, body: object) -> httpx.Response:
        """Sends JSON as Python writes it, which allows more than JSON does: NaN, and halves of characters."""
        return self._client.post(
            f"/gradio_api{path}", content=json.dumps(body), headers={"content-type": "application/json"}
        )

    def get(self, path: str, **kwargs) -> httpx.Response:
        return self._client.get(f"/gradio_api{path}", **kwargs)

    def stream(self, path: str) -> AbstractContextManager[httpx.Response]:
        return self._client.stream("GET", f"/gradio_api{path}")

    def upload(self, data: bytes, name: str) -> httpx.Response:
        return self._client.post("/gradio_api/upload", files={"files": (name, data)})

    def event(self, number: int, values: object, **more) -> tuple[bool, object]:
        """Whether an event succeeded, and its outputs or the sentence of its refusal."""
        body = {"fn_index": number, "data": values, "session_hash": "session", **more}
        joined = self.post("/queue/join", body)
        if joined.status_code != 200:
            assert 400 <= joined.status_code < 500, joined.text
            return False, joined.json()["detail"]
        with self.stream(f"/queue/data?session_hash={body['session_hash']}") as messages:
            until = monotonic() + DEADLINE
            for line in messages.iter_lines():
                assert monotonic() < until, f"no answer in {DEADLINE} s"
                message = json.loads(line.removeprefix("data:")) if line else {"msg": ""}
                assert message["msg"] not in ("unexpected_error", "close_stream"), message
                if message["msg"] == "process_completed" and message["event_id"] == joined.json()["event_id"]:
                    break
        output = message["output"]
        return message["success"], output.get("data") if message["success"] else output["error"]

    def default(self, number: int) -> object:
        return self.components[number]["props"].get("value")

    def named(self, function: str) -> dict:
        """The first event that calls the handler of this name."""
        return next(event for event in self.events if event["api_name"] == function)


class Attacked:
    """A visitor whose key the attacker has, as every visitor has his own."""

    def __init__(self, workspaces: Workspaces):
        self.key, self.workspace = workspaces.enter(None)

    def settle(self) -> None:
        """Ends what a lawful event began, so that nothing changes by itself."""
        self.workspace.stop()
        until = monotonic() + DEADLINE
        while self.workspace.active_run:
            assert monotonic() < until
            sleep(0.01)


def state_of(workspace: Workspace) -> tuple:
    checkpoint, version = workspace.in_use
    runs = [(run.id, run.state, run.message, run.learning_rate) for run in workspace.runs.values()]
    return workspace.names, checkpoint.name, version, runs


@pytest.fixture(scope="module")
def complaints() -> Iterator[list[str]]:
    """All that the server logs with a traceback, whoever logs it."""
    heard = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info or "Traceback" in record.getMessage():
                heard.append(self.format(record))

    listener, loggers = Listener(), [logging.getLogger(name) for name in (None, "uvicorn", "uvicorn.error")]
    for logger in loggers:
        logger.addHandler(listener)
    yield heard
    for logger in loggers:
        logger.removeHandler(listener)


@pytest.fixture(autouse=True)
def no_traceback(complaints: list[str], capfd: pytest.CaptureFixture) -> Iterator[None]:
    yield
    heard, printed = "\n".join(complaints), "".join(capfd.readouterr())
    complaints.clear()
    assert not heard and "Traceback" not in printed, heard + printed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def server(data: Path, complaints: list[str]) -> Iterator[Server]:
    port = free_port()
    chosen = Settings(data=data, workers=1, run_gb=0.07, upload_mb=UPLOAD_MB)
    workspaces = open_workspaces(chosen)
    demo = build(workspaces)
    launch(demo, workspaces, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", server_port=port)
    yield Server(f"http://127.0.0.1:{port}", workspaces)
    demo.close(verbose=False)
    workspaces.close(DEADLINE)
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="module")
def innocent(server: Server, small_text, small_recipe) -> Workspace:
    """A visitor with a checkpoint of a name of its own and a run that has paused."""
    _, workspace = server.workspaces.enter(None)
    workspace.save_as("Mine")
    run = workspace.start(small_text, replace(small_recipe, train=replace(small_recipe.train, max_iters=10_000)))
    run.pause()
    until = monotonic() + DEADLINE
    while run.state != "paused":
        assert monotonic() < until
        sleep(0.01)
    return workspace


@pytest.fixture(scope="module")
def attacked(server: Server, tiny_checkpoint: Checkpoint) -> Attacked:
    visitor = Attacked(server.workspaces)
    visitor.workspace.add(tiny_checkpoint)  # which writes a long text in a moment
    return visitor


@pytest.fixture
def strike(server: Server, innocent: Workspace, attacked: Attacked) -> Callable[..., tuple[bool, object]]:
    """Sends an event. If it is refused then nothing has changed, and nobody else's things change in any case."""
    untouched = state_of(innocent)

    def send(number: int, values: object, **more) -> tuple[bool, object]:
        attacked.settle()
        before = state_of(attacked.workspace)
        succeeded, answer = server.event(number, values, **more)
        if not succeeded:
            assert_refusal(answer)
            assert state_of(attacked.workspace) == before
        assert state_of(innocent) == untouched
        return succeeded, answer

    return send


def assert_refusal(answer: object) -> None:
    """A sentence of ours, or what FastAPI finds wrong with the form of a request."""
    if isinstance(answer, list):
        assert answer and all(fault["msg"] and not OF_PYTHON.search(fault["msg"]) for fault in answer), answer
    else:
        assert_sentence(answer if not isinstance(answer, str) or answer.endswith(".") else f"{answer}.")


def file_of(path: object) -> dict:
    """An uploaded file as the page names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


# --- Texts ------------------------------------------------------------------------------------------------------------

PROSE = "The miller's cat sat by the door, Größe 7 €, and watched 鵞鳥 go by; ”honk“ said one 🦢.\r\n" * 20
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "gb18030", "utf-7"]


def archives() -> list[bytes]:
    text, zipped, taped = PROSE.encode(), BytesIO(), BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("verses.txt", text)
    with tarfile.open(fileobj=taped, mode="w") as archive:
        entry = tarfile.TarInfo("verses.txt")
        entry.size = len(text)
        archive.addfile(entry, BytesIO(text))
    return [zipped.getvalue(), taped.getvalue(), gzip.compress(text), bz2.compress(text)]


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes], places: int | None = None) -> bytes:
    """One of the files with bytes changed, put in and taken out; mostly among the first `places`."""
    file = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        end = max(0, min(places or len(file), len(file)) - 1)
        place = draw(st.integers(0, end) | st.integers(0, max(0, len(file) - 1)))
        kind = draw(st.sampled_from(["change", "put in", "take out", "cut off"]))
        if kind == "change":
            file[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "put in":
            file[place:place] = draw(st.binary(min_size=1, max_size=20) | st.just(bytes(8)))
        elif kind == "take out":
            del file[place : place + draw(st.integers(1, 50))]
        else:
            del file[place:]
    return bytes(file)


LINES = st.builds(lambda unit, n: unit * n, st.binary(min_size=1, max_size=4), st.integers(1, 200_000))
TEXTS = (
    st.binary(max_size=2_000)
    | damaged([PROSE.encode(encoding) for encoding in ENCODINGS])
    | damaged(archives(), places=20)
    | LINES
)


def check_text(data: bytes) -> None:
    try:
        text = decode(data, "upload.txt")
    except BadInput as error:
        assert_sentence(str(error))
    else:
        assert text.name == "upload.txt" and text.text.strip() and "\x00" not in text.text
        text.text.encode()


def test_any_bytes_are_a_text_or_are_refused():
    attack("texts", TEXTS, check_text, part=1 - OVER_HTTP)


def test_any_uploaded_text_is_described_or_refused(server, strike, attacked):
    plan = server.named("plan")
    upload = next(place for place, number in enumerate(plan["inputs"]) if server.components[number]["type"] == "file")

    def check(data: bytes) -> None:
        values = lawful(server, plan, attacked.key)
        values[1], values[upload] = "Upload", file_of(server.upload(data, "upload.txt").json()[0])
        succeeded, outputs = strike(plan["id"], values)
        assert succeeded, outputs
        facts = outputs[0]
        if facts["warning"]:
            assert_sentence(facts["note"])
        else:
            assert facts["title"] == "upload.txt" and facts["pairs"]

    attack("texts", TEXTS, check, part=OVER_HTTP)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/dev/zero"), os.mkfifo, lambda path: None])
def test_what_is_no_file_is_no_text(tmp_path, make):
    make(tmp_path / "text")
    with pytest.raises(BadInput) as caught:
        read_text(tmp_path / "text")
    assert_sentence(str(caught.value))


# --- Checkpoints ------------------------------------------------------------------------------------------------------


@st.composite
def forged_checkpoints(draw: st.DrawFn, checkpoint: Checkpoint, about: dict) -> bytes:
    """A whole file of the format, in whose header one value is another."""
    changed = json.loads(json.dumps(about))
    place, key = changed, draw(st.sampled_from(sorted(changed)))
    while isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = draw(JSON)
    return forged(changed, checkpoint.weights)


@pytest.fixture(scope="module")
def files(tiny_checkpoint: Checkpoint) -> st.SearchStrategy[bytes]:
    file = to_bytes(tiny_checkpoint)
    header = 8 + int.from_bytes(file[:8], "little")
    headers = JSON | st.fixed_dictionaries({"__metadata__": JSON | st.fixed_dictionaries({"playground": JSON})})
    no_weights = [struct.pack("<f", number) for number in (math.nan, math.inf, -math.inf)]
    places = st.integers(0, (len(file) - header) // 4 - 1).map(lambda n: header + 4 * n)
    return (
        damaged([file], places=header)
        | st.builds(lambda place, no: file[:place] + no + file[place + 4 :], places, st.sampled_from(no_weights))
        | forged_checkpoints(tiny_checkpoint, about_of(tiny_checkpoint))
        | st.builds(raw_file, headers, st.binary(max_size=20))
    )


def check_checkpoint(data: bytes) -> None:
    try:
        checkpoint = from_bytes(data)
    except BadInput as error:
        assert_sentence(str(error))
    else:
        logits = checkpoint.model(torch.zeros(1, 2, dtype=torch.int64))
        assert logits.shape == (1, 2, checkpoint.tokenizer.vocab_size) and logits.isfinite().all()
        assert to_bytes(from_bytes(to_bytes(checkpoint))) == to_bytes(checkpoint)


def test_any_checkpoint_is_sound_or_refused(files):
    attack("checkpoints", files, check_checkpoint, part=1 - OVER_HTTP)


def test_any_uploaded_checkpoint_is_taken_into_use_or_refused(files, server, strike, attacked):
    def check(data: bytes) -> None:
        before = state_of(attacked.workspace)
        file = file_of(server.upload(data, "model.safetensors").json()[0])
        succeeded, _ = strike(server.named("add")["id"], [attacked.key, file])
        if succeeded:
            assert attacked.workspace.in_use[1] > before[2]

    attack("checkpoints", files, check, part=OVER_HTTP)


# --- Events -----------------------------------------------------------------------------------------------------------


def lawful(server: Server, event: dict, key: str) -> list:
    """What the page itself might send with an event."""
    kinds = [server.components[number]["type"] for number in event["inputs"]]
    return [
        key if kind == "browserstate" else server.default(number)
        for kind, number in zip(kinds, event["inputs"], strict=True)
    ]


def junk(data: Path, key: str) -> st.SearchStrategy:
    """Any JSON, more than JSON allows, and what an attacker would try."""
    paths = ["/etc/passwd", "/dev/zero", "app.py", data / "lock", data / "visitors", data / "uploads", data, ""]
    paths += [
        "http://127.0.0.1/",
        "https://example.com/a.txt",
        "file:///etc/passwd",
        "\x00",
        "\ud800",
        "../" * 9,
        "a" * 9_999,
    ]
    numbers = [0, -1, 1e308, -1e308, 2**31, 2**63, -(2**64), 10**400, math.nan, math.inf, -math.inf, 0.5, True]
    texts = [
        "",
        " ",
        "\x00",
        "\ud800",
        "\u202e",
        "<img src=x onerror=alert(1)>",
        "${1}{{1}}",
        "9" * 5_000,
        "the\n" * 9_999,
    ]
    keys = [key[:-1], key + "A", key.lower(), key[::-1], "../" + key[3:], "A" * 32, f" {key}"]
    deep = 1
    for _ in range(300):
        deep = [deep]
    return (
        JSON
        | st.sampled_from(numbers)
        | st.sampled_from(texts)
        | st.sampled_from(keys)
        | st.sampled_from([str(path) for path in paths])
        | st.sampled_from([*map(str, paths), 5, None, {}]).map(file_of)
        | st.sampled_from([*map(str, paths)]).map(lambda path: [file_of(path)])
        | st.sampled_from(
            [deep, {"__type__": "update", "value": 1}, {"path": "/etc/passwd"}, [[]], [None], ["stories"]]
        )
    )


@st.composite
def forgeries(draw: st.DrawFn, values: list, junk: st.SearchStrategy) -> list:
    """Values of which some are others, are missing, or are too many."""
    changed = list(values)
    for place in draw(st.lists(st.integers(0, len(values) - 1), max_size=3)) if values else []:
        changed[place] = draw(junk)
    kind = draw(st.sampled_from(["so", "so", "so", "fewer", "more", "all"]))
    if kind == "fewer":
        return changed[: draw(st.integers(0, max(0, len(values) - 1)))]
    if kind == "more":
        return changed + draw(st.lists(junk, min_size=1, max_size=3))
    return draw(st.lists(junk, min_size=len(values), max_size=len(values))) if kind == "all" else changed


def test_any_event_succeeds_or_is_refused(server, strike, attacked, data):
    bad = junk(data, attacked.key)
    beside = st.fixed_dictionaries(
        {}, optional={"event_data": bad, "trigger_id": bad, "batched": bad, "event_id": bad, "simple_format": bad}
    )

    def send(event: dict) -> Callable[[tuple], None]:
        return lambda sent: strike(event["id"], sent[0], **sent[1])

    for event in server.events:
        sent = st.tuples(forgeries(lawful(server, event, attacked.key), bad), beside)
        attack("events", sent, send(event), part=0.8 / len(server.events))


def test_any_request_for_an_event_is_answered(server, strike, attacked, data):
    """Those that do not even name one, or not in a way that Gradio knows."""
    bad = junk(data, attacked.key)
    numbers = st.integers(-3, 2 * len(server.events)) | bad
    attack("events", st.tuples(numbers, bad), lambda sent: strike(*sent), part=0.1)

    names = st.sampled_from([event["api_name"] for event in server.events]) | st.text("az_", min_size=1, max_size=9)
    routes = st.sampled_from(["/run/", "/api/", "/call/", "/call/v2/"])
    bodies = bad | st.fixed_dictionaries({"data": bad | st.lists(bad)}, optional={"session_hash": bad, "fn_index": bad})

    def ask(sent: tuple) -> None:
        route, name, body = sent
        attacked.settle()
        before = state_of(attacked.workspace)
        answer = server.post(f"{route}{name}", body)
        if answer.status_code != 200:
            answer = answer.json()
            assert_refusal(answer.get("error") or answer.get("detail"))
            assert state_of(attacked.workspace) == before

    attack("events", st.tuples(routes, names, bodies), ask, part=0.1)


def test_what_the_page_itself_sends_succeeds(server, strike, attacked):
    """So what is refused above is refused for what was forged."""
    for name in (
        "enter",
        "plan",
        "plan_1",
        "show",
        "order",
        "order_1",
        "order_2",
        "buttons_now",
        "fill",
        "cut",
        "follow",
    ):
        event = server.named(name)
        assert strike(event["id"], lawful(server, event, attacked.key))[0], name
    sent = [attacked.key, "the goose", 5, 0, True, attacked.workspace.current.name, 0.8, 0, 1, 1.2, 3, 0.5]
    succeeded, begun = strike(server.named("compose")["id"], sent)
    assert succeeded and len(begun[0]["titles"]) == 2


@pytest.mark.parametrize(
    ("name", "values", "more"),
    [
        ("save_as", [None], {}),
        ("add", [file_of("http://127.0.0.1/model.safetensors")], {}),
        ("pick", [["a", 0, 0]], {}),
        ("pick", [{"id": "guess", "layer": 0, "head": 0}], {}),
        ("pick", [{"id": "guess", "layer": [], "head": 0}], {}),
        ("pick", [None], {}),
        ("set_rate", [math.nan], {}),
        ("set_rate", [10**400], {}),
        ("order", [], {}),
        ("describe", [{"path": []}], {}),
        ("js_fn", [None, 1, 0, 1], {}),
    ],
)
def test_these_are_refused(server, strike, attacked, name, values, more):
    number = server.named(name)["id"]
    values = values if name in ("pick", "js_fn", "order") else [attacked.key, *values]
    assert not strike(number, values, **more)[0]


def test_what_cannot_be_sent_back_is_replaced(server, strike, attacked):
    """JSON as the server writes it holds no half of a character and no number beyond 64 bits."""
    sent = [attacked.key, "the \ud800", 2, 0, False, None, 0.8, 0, 1, 0.8, 0, 1]
    succeeded, begun = strike(server.named("compose")["id"], sent)
    assert succeeded and begun[0]["prompt"] == "the \ufffd" and len(begun[0]["titles"]) == 1
    for top_k in (10**30, -(10**30), None):
        succeeded, bars = strike(server.named("follow")["id"], [attacked.key, "the \ud800", 0.8, top_k, 1])
        assert succeeded and bars[0]["prompt"] == "the \ufffd" and 0 <= bars[0]["top_k"] < 100


def test_a_setting_that_only_a_forger_can_choose_is_named(server, strike, attacked):
    plan = server.named("plan")
    places = {server.components[number]["props"].get("elem_id"): i for i, number in enumerate(plan["inputs"])}
    values = lawful(server, plan, attacked.key)
    values[places["tokenizer"]], values[places["built-in"]], values[places["norm"]] = None, ["stories"], None
    succeeded, outputs = strike(plan["id"], values)
    assert succeeded and "no built-in text of this name" in outputs[0]["note"]
    problems = [control["info"] for control in outputs[2:] if "problem" in control["elem_classes"]]
    assert len(problems) == 2 and all("None is not one of" in problem for problem in problems)
    values[places["built-in"]] = "stories"
    assert "tokenizer: None is not one of" in strike(server.named("begin")["id"], [*values, ""])[1]


def test_whoever_leaves_in_the_middle_does_no_harm(server):
    """Of a request, or of an answer that has no end; and whoever asks for events of nobody is told so."""
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    part = b'--a\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nabc'
    for path, kind in (("upload", b"multipart/form-data; boundary=a"), ("queue/join", b"application/json")):
        with socket.create_connection(address) as connection:
            head = f"POST /gradio_api/{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\nContent-Type: ".encode()
            connection.sendall(head + kind + b"\r\n\r\n" + part)
    with server.stream("/heartbeat/nobody") as beats:
        assert next(beats.iter_lines())
    with server.stream("/queue/data?session_hash=nobody") as messages:
        assert "unexpected_error" in next(messages.iter_lines())
    assert server.get("/app_id").status_code == 200


# --- Server functions -------------------------------------------------------------------------------------------------


def test_any_call_of_a_server_function_is_answered_with_data(server, attacked, innocent, data):
    bad, untouched, before = junk(data, attacked.key), state_of(innocent), state_of(attacked.workspace)
    lawful_ones = [
        [attacked.key, "past:0", 0],
        ["id", 0, 0],
        ["id", 0, 0, 0, 1, [1, 0, 1]],
        ["id"],
        [["id", 0, 0], "png"],
        [[attacked.key, "Verses"], "-"],
    ]
    sent = st.sampled_from(lawful_ones).flatmap(lambda values: forgeries(values, bad)) | bad

    def call(given_input: tuple) -> None:
        (component, function), arguments = given_input
        body = {"component_id": component, "fn_name": function, "data": arguments, "session_hash": "session"}
        answer = server.post("/component_server", body)
        assert answer.status_code == 200, answer.text
        answer = answer.json()
        if "error" in answer or answer.get("state") == "gone":
            assert_sentence(answer.get("error") or answer["message"])
        assert state_of(attacked.workspace) == before and state_of(innocent) == untouched

    assert len(server.functions) >= 5
    attack("functions", st.tuples(st.sampled_from(server.functions), sent), call, part=0.8)


def test_any_request_for_a_server_function_is_answered(server, attacked, data):
    bad = junk(data, attacked.key)
    names = st.sampled_from(["poll", "grid", "head", "file", "__init__", "preprocess", "postprocess", "render"])
    numbers = st.sampled_from(sorted(server.components)) | st.integers(-2, 999)
    forms = st.fixed_dictionaries(
        {"component_id": numbers | bad, "fn_name": names | bad, "data": bad, "session_hash": st.just("session") | bad}
    )

    def call(body: object) -> None:
        answer = server.post("/component_server", body)
        assert answer.status_code in (200, 400, 404), answer.text
        if answer.status_code != 200:
            assert_refusal(answer.json()["detail"])

    attack("functions", forms | bad, call, part=0.2)


# --- Files, other hosts, and how much can be sent ---------------------------------------------------------------------


def test_only_uploads_can_be_read_and_only_by_their_whole_path(server, innocent, data):
    secrets = [path for path in data.rglob("*") if path.is_file() and "uploads" not in path.parts]
    assert {path.name for path in secrets} >= {"lock", "workspace.json", "run.json", "text.txt", "state.safetensors"}
    uploaded = Path(server.upload(b"what only its visitor knows", "a.txt").json()[0])
    assert server.get(f"/file={uploaded}").content == b"what only its visitor knows"
    assert len(uploaded.parent.name) == 64  # a digest of the content: who does not have it cannot guess it

    around = [uploaded.parent, uploaded.parents[1], f"{uploaded.parent}/../../lock", uploaded.with_name("b.txt")]
    ours = [ROOT / "app.py", "app.py", "README.md", "playground/workspaces.py", "checkpoints/stories", "../app.py"]
    for path in [*secrets, *around, *ours, "/etc/passwd", "/proc/self/environ", "..%2f..%2fetc%2fpasswd", "%00", "~"]:
        for route in ("/file=", "/file/"):
            answer = server.get(f"{route}{path}")
            assert answer.status_code in (403, 404) and answer.json()["detail"], path


@pytest.mark.parametrize("path", ["/file=http://127.0.0.1/", "/file=HTTPS://example.com", "/file/http://example.com"])
@pytest.mark.parametrize("asked", ["/gradio_api", "/gradio_api/proxy=http://127.0.0.1"])
def test_the_server_asks_no_other_host(server, path, asked):
    answer = httpx.get(f"{server.url}{asked}{path}")
    assert answer.status_code == 404
    assert_sentence(answer.json()["detail"])


def test_a_folder_given_as_a_file_is_refused_and_uploads_can_still_be_removed(server, strike, attacked):
    """Gradio would try to delete the folder as a file, fail, and never delete anything again."""
    folder = str(Path(server.upload(b"text", "a.txt").json()[0]).parent)
    for event in server.events:
        values = lawful(server, event, attacked.key)
        kinds = [server.components[number]["type"] for number in event["inputs"]]
        for place in [place for place, kind in enumerate(kinds) if kind in ("file", "uploadbutton", "browserstate")]:
            succeeded, _ = strike(event["id"], [*values[:place], file_of(folder), *values[place + 1 :]])
            assert not succeeded


def test_a_range_that_is_none_is_refused(server):
    uploaded = server.upload(b"0123456789", "a.txt").json()[0]
    for asked in ("bytes=5-2-3", "bytes=-", "bytes=a-b", "bytes=99-100", "bytes=5-2", "bytes=²-³", f"bytes=0-{10**30}"):
        answer = server.get(f"/file={uploaded}", headers={"Range": asked.encode()})
        assert answer.status_code < 500, asked


def test_a_file_beyond_the_limit_is_refused(server):
    assert server.upload(b"a" * (UPLOAD_MB * 2**20), "a.txt").status_code == 200
    answer = server.upload(b"a" * (UPLOAD_MB * 2**20 + 1), "a.txt")
    assert answer.status_code == 413
    assert_sentence(answer.text)


@pytest.mark.parametrize("path", ["/upload", "/queue/join", "/component_server", "/run/plan", "/cancel"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_all_limits_is_refused(server, path, announced):
    def body(n: int) -> Iterator[bytes]:
        for _ in range(n):
            yield b" " * 2**20

    headers = {"content-type": "multipart/form-data; boundary=a" if path == "/upload" else "application/json"}
    content = b" " * (60 * 2**20) if announced else body(60)
    answer = httpx.post(f"{server.url}/gradio_api{path}", content=content, headers=headers, timeout=DEADLINE)
    assert answer.status_code in (400, 413)


@pytest.mark.parametrize("body", [b"", b"abc", b"--a\r\n\r\n", b"--a\r\nContent-Disposition: form-data\r\n\r\n--a--"])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=a", "multipart/form-data", "text/plain", ""])
def test_an_upload_of_another_form_is_refused_or_holds_nothing(server, body, kind):
    answer = httpx.post(f"{server.url}/gradio_api/upload", content=body, headers={"content-type": kind})
    assert answer.status_code == 400 or answer.json() == []


@pytest.mark.parametrize(
    "name", ["..", "../../../a.txt", "/etc/passwd", "a\x00b", "a\nb", "a" * 5_000, "<b>a</b>.txt", "ä\u202e"]
)
def test_a_name_of_an_upload_leads_nowhere(server, data, name):
    answer = server.upload(b"text", name)
    if answer.status_code == 200:
        path = Path(answer.json()[0])
        assert path.parents[1] == data / "uploads" and path.is_file()
    else:
        assert answer.status_code in (400, 413)
