"""Which module may know of which, and what the command line must not need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "playground"

# A module may import only those before it; the modules of ui are one.
ORDER = [
    "errors",
    "course",
    "files",
    "recent",
    "listing",
    "settings",
    "config",
    "tokenizer",
    "merging",
    "corpora",
    "corpus",
    "model",
    "heads",
    "life",
    "checkpoint",
    "card",
    "export",
    "interop",
    "hub",
    "fused",
    "optimizers",
    "parallel",
    "training",
    "unrolled",
    "reader",
    "generation",
    "experiments",
    "writing",
    "inspection",
    "embeddings",
    "walkthrough",
    "tries",
    "ablation",
    "suffixes",
    "ngrams",
    "compression",
    "copies",
    "diversity",
    "learned",
    "evaluation",
    "surprise",
    "engine",
    "runs",
    "comparison",
    "workspaces",
    "excerpt",
    "notebook",
    "figures",
    "ui",
]
NEEDS_MATPLOTLIB, NEEDS_GRADIO = "figures", "ui"

FILES = sorted(PACKAGE.rglob("*.py"))
CORE = [path.stem for path in sorted(PACKAGE.glob("[!_]*.py")) if path.stem != NEEDS_MATPLOTLIB]


def module_of(path: Path) -> str:
    """`model` for playground/model.py, `ui` for all in playground/ui, `__main__` for playground/__main__.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str, package: str = "playground") -> set[str]:
    """The playground's modules that a source file in `package` imports, at its top or deep inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join(parents + ([node.module] if node.module else []))
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("playground.")}


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_way_to_import_is_seen():
    assert imported("import playground.model") == {"model"}
    assert imported("import numpy, playground.config as c") == {"config"}
    assert imported("from playground import corpus, runs") == {"corpus", "runs"}
    assert imported("from playground.ui.components.base import component") == {"ui"}
    assert imported("def f():\n    if x:\n        from playground.figures import y") == {"figures"}
    assert imported("from . import model\nfrom .config import x") == {"model", "config"}
    assert imported("from ..training import x", "playground.ui") == {"training"}
    assert imported("import torch\nfrom playgrounds.model import x") == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    module = module_of(path)
    package = ".".join(["playground", *path.relative_to(PACKAGE).parts[:-1]])
    if module == "__init__":
        allowed = []
    elif module == "__main__":
        allowed = [name for name in ORDER if name not in (NEEDS_MATPLOTLIB, NEEDS_GRADIO)]
    else:
        assert module in ORDER, f"give {module} its place in the order"
        allowed = ORDER[: ORDER.index(module)] + (["ui"] if module == "ui" else [])
    assert imported(path.read_text(encoding="utf-8"), package) <= set(allowed)


def test_the_core_and_the_command_line_bring_neither_gradio_nor_matplotlib():
    modules = ", ".join(f"playground.{name}" for name in ["__main__", *CORE])
    loaded = run_python(f"import sys, playground, {modules}\nprint(*sys.modules)").split()
    assert {"playground.__main__", "playground.model", "playground.runs"} <= set(loaded)
    assert not {"gradio", "matplotlib"} & set(loaded)


def test_the_tokenizer_does_without_torch():
    loaded = run_python("import sys, playground.tokenizer\nprint(*sys.modules)").split()
    assert "playground.tokenizer" in loaded
    assert "torch" not in loaded
