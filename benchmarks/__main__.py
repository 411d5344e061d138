"""`make bench`: every figure of speed beside another's, measured in one run on this machine, as a table and as JSON.

python -m benchmarks [name …]     all of them, or some of those named in NAMES
"""

import argparse
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.row import Row

NAMES = ("tokenizers", "generation", "throughput", "time_to_loss", "snapshots", "page", "growth")
RESULTS = Path("bench.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures speed, and prints a table.")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="name", help=", ".join(NAMES))
    rows = list(measure(parser.parse_args().names or NAMES))
    RESULTS.write_text(json.dumps({"machine": machine(), "rows": [described(row) for row in rows]}, indent=1))
    print(f"\n{machine()}\n\n{table(rows)}")


def measure(names: list[str]) -> Iterator[Row]:
    for name in names:
        for row in import_module(f"benchmarks.{name}").rows():
            print(described(row), flush=True)
            yield row


def machine() -> str:
    """What the figures were measured on: ratios travel to another machine better than seconds do."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{torch.get_num_threads()} threads on {processor}, {versions}"


def described(row: Row) -> dict:
    return asdict(row) | {"reached": row.reached}


def table(rows: list[Row]) -> str:
    """The rows in Markdown, as the README shows them."""
    lines = ["| what | ours | theirs | ratio | goal |", "| --- | --: | --: | --: | --: |"]
    for row in rows:
        theirs = "" if row.theirs is None else f"{row.theirs:,.4g} {row.unit}"
        figure = "" if row.theirs is None else f"{row.figure:.3g}"
        goal = f"{'≤' if row.at_most else '≥'} {row.goal:g}{'' if row.reached else ', missed'}"
        lines.append(f"| {row.what} | {row.ours:,.4g} {row.unit} | {theirs} | {figure} | {goal} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
