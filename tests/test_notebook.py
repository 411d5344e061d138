"""The notebook to take home: what is in it, and that it runs to the loss of the run that it is of."""

import ast
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from handmade import random_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from playground import excerpt, notebook
from playground.checkpoint import Checkpoint, Provenance
from playground.config import ModelConfig, Recipe, TrainConfig
from playground.corpus import Text
from playground.errors import BadInput
from playground.generation import write_sample
from playground.notebook import MAX_READABLE, MAX_TEXT
from playground.tokenizer import CharTokenizer, GPT2Tokenizer
from playground.training import make_trainer

PROMPT = "the goose"
MAY_IMPORT = {"torch", "numpy", "matplotlib", "tqdm"} | sys.stdlib_module_names

# Between them they have every kind of layer that there is two of, dropout, and what a visitor may do to a run.
CLASSIC = Recipe(
    "Classic",
    "char",
    300,
    ModelConfig(
        **{"block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16, "dropout": 0.2, "bias": True, "qk_norm": False},
        **{"position": "learned", "norm": "layernorm", "activation": "gelu"},
    ),
    TrainConfig(max_iters=60, batch_size=9, learning_rate=0.01, warmup_iters=2, optimizer="adamw", eval_interval=20),
)
MODERN = Recipe(
    "Modern",
    "bpe",
    300,
    ModelConfig(block_size=16, n_layer=2, n_head=2, n_embd=16),
    TrainConfig(max_iters=40, batch_size=8, warmup_iters=2, eval_interval=20, seed=7),
)


def run(text: Text, recipe: Recipe, n_steps: int, rates: dict[int, float]) -> Checkpoint:
    """As a run in the page: stopped after some steps, with learning rates that were chosen before some of them."""
    trainer = make_trainer(text, recipe, sampler=write_sample, device="cpu")
    for number in range(1, n_steps + 1):
        if number in rates:
            trainer.set_learning_rate(rates[number])
        trainer.step()
    return trainer.checkpoint("Verses", trainer.val_loss())


def code_cells(made: dict) -> list[str]:
    return [cell["source"] for cell in made["cells"] if cell["cell_type"] == "code"]


def markdown(made: dict) -> str:
    return "\n\n".join(cell["source"] for cell in made["cells"] if cell["cell_type"] == "markdown")


def the_cell(made: dict, start: str) -> str:
    """The one code cell with a line that starts so."""
    (cell,) = [code for code in code_cells(made) if any(line.startswith(start) for line in code.splitlines())]
    return cell


def values(cell: str) -> dict:
    """What a cell assigns, read as Jupyter reads it."""
    names: dict = {"ModelConfig": ModelConfig, "TrainConfig": TrainConfig}
    exec(TransformerManager().transform_cell(cell), names)
    return names


def made_of(checkpoint: Checkpoint, text: str) -> dict:
    """The notebook of a model that learned from this text."""
    of = Text("verses.txt", text)
    learned = (Provenance(of.name, len(text), of.sha256),)
    return notebook.notebook(replace(checkpoint, provenance=learned), of, PROMPT)


@pytest.mark.parametrize(
    ("recipe", "n_steps", "rates"), [(CLASSIC, 45, {11: 0.02, 30: 0.001}), (MODERN, 40, {})], ids=["char", "bpe"]
)
def test_it_runs_to_the_loss_of_the_run(recipe, n_steps, rates, small_text, tmp_path):
    checkpoint = run(small_text, recipe, n_steps, rates)
    made = nbformat.reads(notebook.to_bytes(notebook.notebook(checkpoint, small_text, PROMPT)).decode(), as_version=4)
    nbformat.validate(made)
    client = NotebookClient(made, timeout=300, iopub_timeout=100, resources={"metadata": {"path": str(tmp_path)}})
    own = {"OMP_NUM_THREADS": "1", "IPYTHONDIR": str(tmp_path)}
    env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # which the page sets
    with client.setup_kernel(env=env | own):
        for index, cell in enumerate(made.cells):
            client.execute_cell(cell, index)
    outputs = [output for cell in made.cells for output in cell.get("outputs", ())]
    said = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    assert f"the prompt in {len(checkpoint.tokenizer.encode(PROMPT))} tokens" in said
    figures = dict(line.rsplit(maxsplit=1) for line in said.splitlines()[-3:])
    assert float(figures["validation loss here"]) == pytest.approx(checkpoint.val_loss, abs=1e-3)
    assert float(figures["validation loss on the page"]) == pytest.approx(checkpoint.val_loss, abs=1e-6)
    assert float(figures["difference"]) == pytest.approx(0, abs=1e-3)
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 12 and not [output for output in outputs if output["output_type"] == "error"]
    # So it was this run that it repeated: one of fewer steps, or at another rate, ends elsewhere.
    others = [run(small_text, recipe, n_steps - 10, rates), run(small_text, recipe, n_steps, rates | {5: 0.001})]
    assert all(abs(other.val_loss - checkpoint.val_loss) > 2e-3 for other in others)


def test_it_has_the_ten_sections_in_order(tiny_checkpoint, small_text):
    lines = markdown(notebook.notebook(tiny_checkpoint, small_text, PROMPT)).splitlines()
    assert [line for line in lines if line.startswith("## ")] == [
        "## 1. Introduction",
        "## 2. Tokenizer",
        "## 3. Embedding layer",
        "## 4. Positional encoding",
        "## 5. Masking",
        "## 6. Attention",
        "## 7. Multi-head attention",
        "## 8. Decoder layer",
        "## 9. Language-model head",
        "## 10. Training and evaluation",
        "## Glossary",
    ]


def test_every_section_has_code_of_the_project_and_a_cell_that_does_something_with_it(tiny_checkpoint, small_text):
    sections: list[list[dict]] = []
    for cell in notebook.notebook(tiny_checkpoint, small_text, PROMPT)["cells"]:
        if cell["cell_type"] == "markdown" and cell["source"].startswith("## "):
            sections.append([])
        elif sections:
            sections[-1].append(cell)
    for cells in sections[:10]:
        code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        assert any(source.startswith("# playground/") for source in code)
        assert not code[-1].startswith("# playground/")


def test_it_imports_nothing_but_the_four_packages_and_pythons_own(tiny_checkpoint, small_text):
    for text in (small_text, None):
        for code in code_cells(notebook.notebook(tiny_checkpoint, text, PROMPT)):
            for node in ast.walk(ast.parse(code)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                assert {name.split(".")[0] for name in names} <= MAY_IMPORT


def test_its_source_is_the_files_own_lines(tiny_checkpoint, small_text):
    seen = set()
    for code in code_cells(notebook.notebook(tiny_checkpoint, small_text, PROMPT)):
        first, *lines = code.splitlines()
        if first.startswith("# playground/"):
            seen.add(first)
            file = iter((excerpt.FOLDER.parent / first.removeprefix("# ")).read_text().splitlines())
            assert all(line in file for line in lines)  # in their order, since this moves on
    assert {"# playground/model.py", "# playground/training.py", "# playground/tokenizer.py"} <= seen
    assert "# playground/files.py" not in seen


def test_a_change_of_the_source_is_a_change_of_the_notebook(tiny_checkpoint, small_text, tmp_path, monkeypatch):
    before = code_cells(notebook.notebook(tiny_checkpoint, small_text, PROMPT))
    shutil.copytree(excerpt.FOLDER, tmp_path / "copy", ignore=shutil.ignore_patterns("ui", "__pycache__"))
    monkeypatch.setattr(excerpt, "FOLDER", tmp_path / "copy")
    assert code_cells(notebook.notebook(tiny_checkpoint, small_text, PROMPT)) == before
    file = tmp_path / "copy" / "model.py"
    file.write_text(
        file.read_text().replace("scores = q @ k.transpose(-2, -1)", "scores = 2 * q @ k.transpose(-2, -1)")
    )
    after = code_cells(notebook.notebook(tiny_checkpoint, small_text, PROMPT))
    (changed,) = [new for new, old in zip(after, before, strict=True) if new != old]
    assert "    scores = 2 * q @ k.transpose(-2, -1)" in changed and "def attention(" in changed


def test_the_settings_are_the_runs(small_text):
    checkpoint = run(small_text, CLASSIC, 12, {4: 0.5, 9: 0.01})
    settings = values(the_cell(notebook.notebook(checkpoint, small_text, PROMPT), "PAGE_VAL_LOSS = "))
    assert settings["config"] == checkpoint.config
    assert settings["train_config"] == checkpoint.train_config
    assert settings["N_STEPS"] == 12 and settings["PAGE_VAL_LOSS"] == checkpoint.val_loss
    assert settings["RATES"] == pytest.approx({4: 0.5, 9: 0.01})
    assert (settings["PROMPT"], settings["TOKENIZER"]) == (PROMPT, "char")


# --- The text ---------------------------------------------------------------------------------------------------------


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_short_text_stands_there_to_be_read(text, tiny_checkpoint):
    assert values(the_cell(made_of(tiny_checkpoint, text), "TEXT = "))["TEXT"] == text


@pytest.mark.parametrize(
    "text",
    ['"""', '\\"""', 'a"', "\\", "\r\n", ">>> 1\n>>> 2", "'''\n... 1\n>>> 2", '""', "%%bash\n!ls\na?", "\x0c{0}"],
)
def test_a_text_that_looks_like_code_stays_a_text(text, tiny_checkpoint):
    assert values(the_cell(made_of(tiny_checkpoint, text), "TEXT = "))["TEXT"] == text


def test_a_longer_text_is_compressed_and_folded(tiny_checkpoint):
    text = "über die Brücke\r\n" * (MAX_READABLE // 10)
    made = made_of(tiny_checkpoint, text)
    assert values(the_cell(made, "TEXT = "))["TEXT"] == text
    (cell,) = [cell for cell in made["cells"] if "\nTEXT = " in cell["source"]]
    assert cell["metadata"]["jupyter"] == {"source_hidden": True} and len(cell["source"]) < len(text) / 10


def test_a_text_that_is_too_long_or_not_at_hand_is_read_from_a_file(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = "ab" * (MAX_TEXT // 2) + "c"
    of = Text("long.txt", text)
    checkpoint = replace(tiny_checkpoint, provenance=(Provenance(of.name, len(text), of.sha256),))
    for given_text in (of, None, Text("another", "short")):
        cell = the_cell(notebook.notebook(checkpoint, given_text, PROMPT), "TEXT = ")
        assert len(cell) < 1_000
    with pytest.raises(FileNotFoundError, match=r"text\.txt: long\.txt, 5,000,001 characters\."):
        values(cell)
    Path("text.txt").write_bytes(text.encode())
    assert values(cell)["TEXT"] == text and capsys.readouterr().out == ""
    Path("text.txt").write_text("another one")
    assert values(cell)["TEXT"] == "another one" and "another text" in capsys.readouterr().out


def test_what_others_have_written_stands_in_code_alone(tiny_checkpoint, small_text):
    evil = '<script>alert(1)</script>{0} """ \\ \' %s **bold**'
    learned = replace(tiny_checkpoint.provenance[-1], name=evil)
    checkpoint = replace(tiny_checkpoint, name=evil, provenance=(learned,))
    for text in (small_text, None):
        made = notebook.notebook(checkpoint, text, evil)
        settings = values(the_cell(made, "PAGE_VAL_LOSS = "))
        assert (settings["NAME"], settings["PROMPT"]) == (evil, evil)
        assert "script" not in markdown(made) and "bold" not in markdown(made)
    with pytest.raises(FileNotFoundError, match=re.escape(evil)):
        values(the_cell(made, "TEXT = "))


# --- What cannot be repeated ------------------------------------------------------------------------------------------


def test_of_a_fine_tuned_model_it_says_by_what_it_differs(tiny_checkpoint, small_text, small_recipe):
    assert "fine-tuned" not in markdown(notebook.notebook(tiny_checkpoint, small_text, PROMPT))
    trainer = make_trainer(small_text, small_recipe, tiny_checkpoint)
    trainer.step()
    made = notebook.notebook(trainer.checkpoint("Tuned"), small_text, PROMPT)
    assert "the model of the page was fine-tuned" in markdown(made)
    assert values(the_cell(made, "PAGE_VAL_LOSS = "))["PAGE_VAL_LOSS"] is None


def test_a_model_that_no_run_has_made_is_refused(tiny_checkpoint, small_text):
    made_by_hand = random_checkpoint(CharTokenizer.train("abc"))
    gpt2 = GPT2Tokenizer([bytes([b]) for b in range(256)], range(256), [], {})
    without = ({"provenance": ()}, {"history": ()}, {"tokenizer": gpt2})
    for checkpoint in (made_by_hand, *(replace(tiny_checkpoint, **change) for change in without)):
        with pytest.raises(BadInput, match="no run that a notebook could repeat"):
            notebook.notebook(checkpoint, small_text, PROMPT)


def test_a_strangers_history_makes_no_endless_notebook(tiny_checkpoint, small_text):
    """More steps than the schedule plans for, whose rate is 0 beyond its end; and another rate at every step."""
    step = tiny_checkpoint.history[0]
    longer = tuple(replace(step, step=i, learning_rate=0.5) for i in range(1, 11))
    short = replace(tiny_checkpoint.train_config, max_iters=5, min_lr=0.0)
    cell = the_cell(made_of(replace(tiny_checkpoint, history=longer, train_config=short), small_text.text), "N_STEPS")
    assert values(cell)["N_STEPS"] == 5
    steps = tuple(replace(step, step=i, learning_rate=0.1 + 0.1 * (i % 2)) for i in range(1, 1_500))
    long = replace(short, max_iters=2_000)
    with pytest.raises(BadInput, match="too often for a notebook"):
        made_of(replace(tiny_checkpoint, history=steps, train_config=long), small_text.text)
