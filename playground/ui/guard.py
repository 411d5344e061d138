"""What reaches the server although no page of ours sends it: forged events, endless bodies, addresses of nothing.

Gradio fails at some of it, with a traceback in the log and no word to the sender. Here it is refused in a sentence.
"""

import logging
import re
from pathlib import Path

import gradio as gr
from gradio_client.utils import is_file_obj_with_meta, traverse
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.corpus import MAX_BYTES
from playground.errors import BadInput
from playground.workspaces import Host, Workspaces

UNUSABLE = "The page sent what the server cannot use, such as a file that is gone: reload the page and choose again."
NOTHING_THERE = "There is nothing here that could answer this request: reload the page."

# Gradio would fetch whatever address one of these names, or start a video converter; our server asks no other host.
UNUSED = re.compile(r"/gradio_api/(file[=/]\s*https?:|proxy=|process_recording|vibe)", re.IGNORECASE)


class GuardedBlocks(gr.Blocks):
    """A page whose events are refused in a sentence when their values are too few, of the wrong type, or forged."""

    async def preprocess_data(self, block_fn, inputs, *args, **kwargs):
        try:
            if not block_fn.fn:
                raise LookupError("this event happens in the page alone")
            traverse(inputs, _check_file, is_file_obj_with_meta)
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except Exception as error:
            logging.info("the event %s was refused: %r", block_fn.name, error)
            raise gr.Error(UNUSABLE, duration=6, print_exception=False) from None


class Guard:
    """Around the whole server: where Gradio fails at a request, a sentence in answer and a line in the log."""

    def __init__(self, app: ASGIApp, host: Host):
        self.app, self.host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def answer(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            if scope["type"] == "http" and UNUSED.search(scope["path"]):
                await JSONResponse({"detail": NOTHING_THERE}, 404)(scope, receive, send)
                return
            if scope["type"] == "http" and scope["path"].startswith("/gradio_api/upload"):
                self.host.check_disk()
            await self.app(scope, receive, answer)
        except BadInput as error:
            await JSONResponse({"detail": str(error)}, 507)(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            logging.warning("%s %r failed: %r", scope["method"], scope["path"], error)
            if answered:  # such as a stream of events that nobody has begun, which says so as its first event
                await send({"type": "http.response.body"})
            else:
                await JSONResponse({"detail": NOTHING_THERE}, 400)(scope, receive, send)


def app_kwargs(workspaces: Workspaces) -> dict:
    """For Gradio's `launch`. A pasted text may take twice its size on the way, and an upload some more than its own."""
    max_bytes = max(2 * MAX_BYTES, workspaces.settings.upload_mb * 2**20) + 2**20
    return {"middleware": [Middleware(Guard, host=workspaces.host)], "max_body_size": max_bytes}


def _check_file(file: dict) -> dict:
    """Gradio sees to it that a file was uploaded; but it would fetch an address, and never get rid of a folder."""
    if not Path(file["path"]).is_file():
        raise ValueError("not a file")
    return file
