"""Files are whole, whatever happens while they are written."""

import os

import pytest
from surroundings import no_file_beyond

from playground.files import write_bytes, write_folder, write_whole


def test_a_file_is_written_and_written_again(tmp_path):
    path = tmp_path / "run.json"
    for content in (b"", b"first", b"the second is longer", b"\x00\r\n\xff"):
        write_bytes(path, content)
        assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_the_old_content_stands_until_the_new_is_on_the_disk(tmp_path, monkeypatch):
    path, synced = tmp_path / "run.json", []
    write_bytes(path, b"old")
    sync = os.fsync

    def remembering_sync(file: int) -> None:
        synced.append((os.fstat(file).st_ino, path.read_bytes()))
        sync(file)

    def write(unfinished) -> None:
        unfinished.write_bytes(b"ne")
        assert path.read_bytes() == b"old"
        unfinished.write_bytes(b"newer")

    monkeypatch.setattr(os, "fsync", remembering_sync)
    write_whole(path, write)
    assert path.read_bytes() == b"newer"
    # This very file while the old one stood, then the folder with its new name.
    assert synced == [(path.stat().st_ino, b"old"), (tmp_path.stat().st_ino, b"newer")]


@pytest.mark.parametrize("before", [b"old", None])
def test_a_write_that_fails_in_the_middle_changes_nothing(before, tmp_path):
    """A real limit on the size of files: the system takes the first 50 kB and then refuses, as a full disk does."""
    path = tmp_path / "state"
    if before is not None:
        path.write_bytes(before)
    with no_file_beyond(50_000), pytest.raises(OSError, match="File too large"):
        write_bytes(path, bytes(100_000))
    assert list(tmp_path.iterdir()) == ([path] if before else [])
    assert before is None or path.read_bytes() == before


def test_where_there_is_no_folder_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "nowhere" / "state", b"")


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "what a crash left"])
def test_a_folder_is_written_with_all_its_files(before, tmp_path):
    folder, files = tmp_path / "new" / "folder", {"a": b"first", "b.json": b"{}"}
    if before == "an empty folder":
        folder.mkdir(parents=True)
    elif before == "what a crash left":
        (tmp_path / "new" / "folder.unfinished").mkdir(parents=True)
        (tmp_path / "new" / "folder.unfinished" / "c").touch()
    write_folder(folder, files)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
    assert [*folder.parent.iterdir()] == [folder]


def test_a_folder_that_cannot_be_written_whole_is_not_there(tmp_path):
    with no_file_beyond(50_000), pytest.raises(OSError, match="File too large"):
        write_folder(tmp_path / "folder", {"a": b"first", "b": bytes(100_000)})
    assert [*tmp_path.iterdir()] == []


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine").write_bytes(b"kept")
    with pytest.raises(OSError):
        write_folder(folder, {"a": b"first"})
    assert [*tmp_path.iterdir()] == [folder] and [*folder.iterdir()] == [folder / "mine"]
