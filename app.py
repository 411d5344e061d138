"""Builds the page and serves it: `python app.py`, and the entry of a Hugging Face Space."""

import sys

from playground.errors import BadInput
from playground.settings import Settings
from playground.ui.page import serve

if __name__ == "__main__":
    try:
        serve(Settings.from_environment())
    except BadInput as error:
        sys.exit(f"playground: {error}")
