"""Files that are whole: whoever reads one, at any moment and after any crash, finds the old content or the new."""

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


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
    if os.name == "posix":  # elsewhere a folder cannot be brought to the disk by itself
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


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


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes a folder with files by their names, all of them or, if that fails, none. An empty one may be there."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # a crash's
    try:
        unfinished.mkdir(parents=True)
        for name, data in files.items():
            write_bytes(unfinished / name, data)
        if folder.exists():
            folder.rmdir()
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_json(path: Path, content: dict) -> None:
    write_bytes(path, json.dumps(content, allow_nan=False).encode())


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
    """A file in the safetensors format, with some words in its header. Raises `OSError` like the others."""
    try:
        write_whole(path, lambda unfinished: save_file(tensors, unfinished, about))
    except SafetensorError as error:  # the library's wrapping of what the system said
        raise OSError(None, re.sub(r".*I/O error: | \(os error.*", "", str(error))) from error
