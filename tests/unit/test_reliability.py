"""docs/reliability.md names the test for every fault: each is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_HEADS = ("| fault |", "|---")


@cache
def names_in(path: str) -> set[str]:
    """The names of all test functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return {function.name for function in functions if function.name.startswith("test_")}


def test_every_named_test_is_there() -> None:
    named = _NAMED.findall(PAGE)
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def test_every_fault_has_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(_HEADS)]
    assert len(rows) >= 35
    assert [row for row in rows if not _NAMED.search(row)] == []
