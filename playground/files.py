"""Files that are whole: whoever reads one, at any moment and after any crash, finds the old content or the new."""

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Has `write` make the file under another name, brings it to the disk, and only then puts it in place."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        write(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        remove(unfinished)  # if it failed: a full disk needs the room


def remove(*files: Path) -> None:
    """Removes those of the files that are there and can be removed."""
    for file in files:
        with suppress(OSError):
            file.unlink()


def remove_except(folder: Path, names: Collection[str]) -> None:
    """Removes the files of a folder but those of these names: what a crash has left behind."""
    remove(*(file for file in folder.glob("*") if file.name not in names and file.is_file()))


def write_bytes(path: Path, data: bytes) -> None:
    write_whole(path, lambda unfinished: unfinished.write_bytes(data))
