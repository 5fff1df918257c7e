"""What a benchmark leaves behind: tables on stdout, and JSON with machine, versions, settings and every round."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from dragoman_server import machine

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "benchmarks"
_PACKAGES = ("dragoman", "onnxruntime", "ctranslate2", "torch", "transformers", "numpy", "grpcio", "tokenizers")


@dataclass(frozen=True)
class Table:
    """For people: cells are text already."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Result:
    """One run of one benchmark."""

    name: str
    """Of its module, and of its files."""
    settings: dict[str, Any]
    rounds: dict[str, Any]
    """Everything that was measured."""
    tables: Sequence[Table]
    notes: Sequence[str] = field(default=())
    """What a reader of the tables has to know."""

    def publish(self, folder: Path) -> Path:
        """Print the tables and write ``<name>.json``; returns its path."""
        console = Console(width=150)
        for table in self.tables:
            shown = RichTable(*table.columns, title=table.title, title_justify="left")
            for row in table.rows:
                shown.add_row(*row)
            console.print(shown)
        for note in self.notes:
            console.print(f"- {note}", highlight=False)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        content = {
            "benchmark": self.name,
            "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": machine_facts(),
            "versions": versions(),
            "settings": self.settings,
            "notes": list(self.notes),
            "tables": [
                {"title": t.title, "columns": list(t.columns), "rows": [list(r) for r in t.rows]} for t in self.tables
            ],
            "rounds": self.rounds,
        }
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def machine_facts() -> dict[str, Any]:
    """What a reader needs to place the figures."""
    available = machine.available_memory()
    return {
        "processor": _processor(),
        "cores": machine.usable_cores(),
        "int8_instructions": machine.int8_instructions(),
        "available_memory_gb": None if available is None else round(available / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def verdict(value: float, target: float, *, at_most: bool = False) -> str:
    """ "yes" or "no": whether the target is met."""
    return "yes" if (value <= target if at_most else value >= target) else "no"
