"""Builds the page and serves it: `python app.py`, and the entry of a Hugging Face Space."""

from playground.ui.page import build, launch

if __name__ == "__main__":
    launch(build())
