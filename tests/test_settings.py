"""What a host may choose: every variable, its mistakes, and the table of them in the README."""

import doctest
import re
from dataclasses import fields
from pathlib import Path

import pytest

from playground import settings as settings_module
from playground.errors import BadInput
from playground.settings import Settings

README = Path(__file__).parents[1] / "README.md"
NUMBERS = [f for f in fields(Settings) if f.name != "data"]
every_number = pytest.mark.parametrize("number", NUMBERS, ids=lambda f: f.name)


def variable(name: str) -> str:
    return f"PLAYGROUND_{name.upper()}"


def refusal(name: str, value: str) -> str:
    with pytest.raises(BadInput) as caught:
        Settings.from_environment({variable(name): value})
    return str(caught.value)


def test_the_example_is_true():
    results = doctest.testmod(settings_module)
    assert results.attempted > 0 and results.failed == 0


def test_every_variable_sets_its_own_field():
    chosen = {"data": "kept/here"} | {f.name: str(i + 1) for i, f in enumerate(NUMBERS)}
    settings = Settings.from_environment({variable(name): value for name, value in chosen.items()})
    assert settings.data == Path("kept/here")
    for i, f in enumerate(NUMBERS):
        value = getattr(settings, f.name)
        assert value == i + 1 and type(value) is f.type, f.name


def test_what_is_not_set_or_left_empty_has_its_default():
    empty = {variable(f.name): " " for f in fields(Settings)}
    assert Settings.from_environment(empty) == Settings.from_environment({"HOME": "/root"}) == Settings()
    assert Settings().workers >= 1


def test_the_process_own_environment_counts(monkeypatch):
    monkeypatch.setenv("PLAYGROUND_RUNS_AT_ONCE", " 7 ")
    assert Settings.from_environment().runs_at_once == 7


@every_number
@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf", "1e9", "1,5", "0x10", "None"])
def test_a_value_that_cannot_be_is_refused_in_one_sentence(value, number):
    low, high = number.metadata["range"]
    kind = "whole number" if number.type is int else "number"
    sentence = f"{variable(number.name)} is '{value}': give a {kind} from {low:,} to {high:,}."
    assert refusal(number.name, value) == sentence


@every_number
def test_the_ends_of_the_range_are_still_in_it(number):
    low, high = number.metadata["range"]
    assert low <= getattr(Settings(), number.name) <= high
    for end in (low, high):
        assert getattr(Settings.from_environment({variable(number.name): str(end)}), number.name) == end
    assert refusal(number.name, str(high + 1)) and refusal(number.name, str(low - 1))


def test_half_a_worker_is_none():
    assert "give a whole number" in refusal("workers", "1.5")


def test_a_home_that_nobody_has_is_refused_in_one_sentence():
    assert refusal("data", "~nobody-of-this-name/data").startswith("PLAYGROUND_DATA")


def test_data_may_be_in_ones_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Settings.from_environment({"PLAYGROUND_DATA": "~/runs"}).data == Path("/home/somebody/runs")


def test_persistent_storage_is_used_where_there_is_some(tmp_path, monkeypatch):
    monkeypatch.setattr(settings_module, "PERSISTENT", tmp_path)
    assert Settings().data == tmp_path / "transformer-playground"
    assert Settings.from_environment({"PLAYGROUND_DATA": "elsewhere"}).data == Path("elsewhere")


def test_without_persistent_storage_data_lies_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(settings_module, "PERSISTENT", tmp_path / "nowhere")
    assert Settings().data == Path("data")
    (tmp_path / "file").touch()
    monkeypatch.setattr(settings_module, "PERSISTENT", tmp_path / "file")
    assert Settings().data == Path("data")
    monkeypatch.setattr(settings_module, "PERSISTENT", tmp_path)
    monkeypatch.setattr(settings_module.os, "access", lambda *_: False)  # tests may run as root, who may write anywhere
    assert Settings().data == Path("data")


def test_the_readme_has_every_variable_and_no_other():
    in_readme = set(re.findall(r"`(PLAYGROUND_[A-Z_]+)`", README.read_text(encoding="utf-8")))
    assert in_readme == {variable(f.name) for f in fields(Settings)}
