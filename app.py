"""Builds the page and serves it: `python app.py`, and the entry of a Hugging Face Space."""

import gc
import sys


def main() -> None:
    gc.disable()  # there is no garbage among what is being imported, and looking for it takes a quarter of the time
    from playground.errors import BadInput
    from playground.settings import Settings
    from playground.ui.page import serve

    gc.freeze()  # nor is there later
    gc.enable()
    try:
        serve(Settings.from_environment())
    except BadInput as error:
        sys.exit(f"playground: {error}")


if __name__ == "__main__":
    main()
