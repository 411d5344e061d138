"""The page: seven tabs around one checkpoint."""

import ctypes
import html
import os
import signal
import threading
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path

# Before gradio is imported: no calls to other hosts, no summing up of all past events at each new one, and no import of
# matplotlib's windows at the first.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "100000")
os.environ.setdefault("MPLBACKEND", "agg")

import gradio as gr
import torch

from playground import checkpoint as checkpoints
from playground.course import SECTIONS
from playground.generation import MAX_PROMPT
from playground.settings import Settings
from playground.tokenizer import without_surrogates
from playground.ui import attention, evaluate, generate, learn, tokenizer, train
from playground.ui import checkpoints as checkpoints_tab
from playground.ui.components.facts import facts
from playground.ui.guard import GuardedBlocks, app_kwargs
from playground.ui.site import QUIET, TITLES, Site, shortened, tell
from playground.workspaces import Workspaces

SHIPPED = Path(__file__).parents[2] / "checkpoints"
SHOWN = ", ".join(f'[data-section="{section.slug}"] .of-{section.slug}' for section in SECTIONS)  # of the course
CSS = f"{Path(__file__).with_name('page.css').read_text()}\n:is({SHOWN}) {{ display: block; }}\n"
M_ARENA_MAX = -8  # of glibc's malloc.h
PREPARE_AFTER = 5.0  # seconds; a visitor who waits for the page to start comes first
SECONDS_TO_LEAVE = 4.5  # from the order to end to the end; a Space waits longer, a host that is asked for 5 does not
# The js of a tab's event; what else a link says is put into the address by the parts that show it. Gradio sends the
# event of the first tab also when the page opens, before the link has been followed.
PUT_TAB_INTO_ADDRESS = '() => void (document.body.dataset.linked && putIntoAddress({{tab: "{}"}}))'
NO_SUCH_MODEL = "The model of this link, “{}”, does not come with this page: ask its owner for the file."
TABS = dict(
    zip(TITLES, (train, tokenizer, attention, generate, evaluate, learn, checkpoints_tab), strict=True)
)  # in the order of the page
NAMES = [title.lower() for title in TITLES]  # in addresses
HEAD = f"<script>const TAB_NAMES = {NAMES};\n{Path(__file__).with_name('page.js').read_text()}</script>"


def serve(settings: Settings) -> None:
    """Serves the page until the process is told to end (SIGTERM, or Ctrl-C), and then has every run's state written."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # from here on the same as Ctrl-C
    _share_arenas()
    workspaces = open_workspaces(settings)
    try:
        launch(build(workspaces), workspaces, prevent_thread_lock=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    in_time = workspaces.close(SECONDS_TO_LEAVE)
    # Not by way of Python's own end, which waits for open connections, and aborts while a thread is inside torch.
    os._exit(0 if in_time else 1)


def _share_arenas() -> None:
    """Has all threads take memory from two places. By default glibc gives each a place of its own, and keeps there what
    was freed: with 16 visitors 906 MB after two minutes instead of 841.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library has no such choice
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def open_workspaces(settings: Settings) -> Workspaces:
    """The visitors' workspaces, with the shipped checkpoints in each."""
    shipped = [checkpoints.load(file) for file in sorted(SHIPPED.glob(f"*/{checkpoints.FILE_NAME}"))]
    return Workspaces({checkpoint.name: checkpoint for checkpoint in shipped}, settings)


def build(workspaces: Workspaces) -> gr.Blocks:
    """The page, on what the visitors have."""
    os.environ["GRADIO_TEMP_DIR"] = str(workspaces.uploads.absolute())
    with GuardedBlocks(title="Transformer Playground", analytics_enabled=False) as demo:
        visitor = gr.BrowserState(None, storage_key="transformer-playground", secret="visitor")
        shown_version = gr.State(-1)
        site = Site(workspaces, visitor)
        gr.Markdown(
            "# Transformer Playground\nTrain a small transformer from scratch, look inside it, and write with it.",
            elem_id="page-title",
        )
        in_use = facts(elem_id="model-in-use")
        tabs = []
        with gr.Tabs() as bar:
            for title, tab in TABS.items():
                with gr.Tab(title, id=title.lower()) as opened:
                    tabs.append(tab.build(site))
                opened.select(None, js=PUT_TAB_INTO_ADDRESS.format(title.lower()), **QUIET)
        asked = {name: component for tab in tabs for name, component in tab.asked.items()}
        sizes = [len(tab.inputs) for tab in tabs]
        outputs = [visitor, shown_version, in_use, *(component for tab in tabs for component in tab.outputs)]

        def show(key, version, *values):
            """Every tab on the checkpoint in use, unless that is what they show already; the tab in front first."""
            workspace = workspaces.get(key)
            checkpoint, current_version = workspace.in_use
            if version == current_version:
                yield [gr.skip()] * len(outputs)
                return
            values = iter(values)

            def shown(tab, size):
                with site.visit():
                    return tab.show(workspace, checkpoint, *islice(values, size))

            first, *others = zip(tabs, sizes, strict=True)
            head = [key, current_version, checkpoints_tab.describe_briefly(checkpoint)]
            now = shown(*first)
            yield head + now + [gr.skip()] * (len(outputs) - len(head) - len(now))
            # The key once more, for programs that read the last answer only.
            yield head + [gr.skip()] * len(now) + [value for other in others for value in shown(*other)]

        def enter(key, request: gr.Request, *values):
            key, workspace = workspaces.enter(key)
            model = _asked(request, "model")
            if model in workspaces.shipped:
                workspace.use(model)
            elif model:
                gr.Warning(html.escape(NO_SUCH_MODEL.format(shortened(model))))
            # The tabs' own first inputs are the visitor's key, which may be a new one now.
            filled = {visitor: key} | {
                component: _asked(request, name) for name, component in asked.items() if _asked(request, name)
            }
            values = [filled.get(component, value) for component, value in zip(inputs[1:], values, strict=True)]
            yield from show(key, None, *values)

        def follow_link(request: gr.Request):
            shown = _shown_tabs(request)
            tab = _asked(request, "tab").lower() or ("learn" if _asked(request, "section") else "")
            tab = tab if tab in shown else shown[0]
            fills = [_asked(request, name) or gr.skip() for name in asked]
            return [gr.skip() if tab == NAMES[0] else gr.Tabs(selected=tab), *fills]

        inputs = [visitor, *(component for tab in tabs for component in tab.inputs)]
        followed = demo.load(follow_link, None, [bar, *asked.values()], queue=False, **QUIET)
        followed.then(None, js='() => void (document.body.dataset.linked = "yes")', **QUIET)
        demo.load(tell(enter), inputs, outputs, **QUIET)
        for tab in tabs:
            for change in tab.changes:
                change.success(tell(show), [visitor, shown_version, *inputs[1:]], outputs, **QUIET)
    return demo


def _asked(request: gr.Request, name: str) -> str:
    """A text that the page's address asks for, or ""."""
    return without_surrogates(request.query_params.get(name, ""))[:MAX_PROMPT]


def _shown_tabs(request: gr.Request) -> list[str]:
    """The names of the tabs that the page's address asks for in its `show`; all of them if it names none."""
    wanted = _asked(request, "show").lower().split(",")
    return [name for name in NAMES if name in wanted] or NAMES


def launch(demo: gr.Blocks, workspaces: Workspaces, **kwargs) -> tuple:
    """Serves the page with the project's settings; `kwargs` go to Gradio's `launch`.

    GRADIO_SERVER_NAME, GRADIO_SERVER_PORT and GRADIO_ROOT_PATH are Gradio's own and hold.
    """
    preparing = threading.Timer(PREPARE_AFTER, tokenizer.prepare)
    preparing.daemon = True
    preparing.start()
    torch.set_num_threads(1)  # here as in the engine
    return demo.queue(default_concurrency_limit=8).launch(
        theme=gr.themes.Default(
            primary_hue="orange",
            secondary_hue="blue",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ).set(
            # Gradio's own greys and orange are too pale to read on a projector.
            block_info_text_color="*neutral_500",
            block_info_text_color_dark="*neutral_400",
            button_primary_background_fill="*primary_700",
            button_primary_background_fill_hover="*primary_800",
            button_primary_background_fill_dark="*primary_700",
            button_primary_background_fill_hover_dark="*primary_600",
        ),
        css=CSS,
        head=HEAD,
        max_file_size=f"{workspaces.settings.upload_mb}mb",
        app_kwargs=app_kwargs(workspaces),
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=["settings"],
        **kwargs,
    )
