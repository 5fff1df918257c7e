"""The rooms stay apart: what importing each brings in, and which imports which."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ROOMS = {
    "dragoman": ROOT / "client/dragoman",
    "dragoman_protos": ROOT / "protos/dragoman_protos",
    "dragoman_server": ROOT / "server/dragoman_server",
    "dragoman_model": ROOT / "model/dragoman_model",
    "dragoman_export": ROOT / "export/dragoman_export",
}

ARROWS = {
    "dragoman": {"dragoman_protos"},
    "dragoman_protos": set(),
    "dragoman_server": {"dragoman_protos"},
    "dragoman_model": set(),
    # What export writes is the message that the server reads.
    "dragoman_export": {"dragoman_model", "dragoman_server", "dragoman_protos"},
}

FOREIGN = {
    "dragoman": {"onnxruntime", "numpy", "torch", "onnx", "tokenizers"},
    "dragoman_server": {"torch", "onnx", "onnxscript"},
    "dragoman_model": {"onnxruntime", "onnx", "grpc"},
}

WALK = """
import importlib, pkgutil, sys
package = importlib.import_module({room!r})
for module in pkgutil.walk_packages(package.__path__, {room!r} + "."):
    importlib.import_module(module.name)
"""


def loaded_by(code: str) -> set[str]:
    """The top-level modules that are loaded after the code ran in a fresh interpreter."""
    tail = "\nimport json, sys; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_the_client_is_light() -> None:
    assert not loaded_by("import dragoman") & {"numpy", "onnxruntime", "torch", "onnx", "tokenizers", "typer", "rich"}


def test_the_whole_client_and_its_command_line_bring_in_no_runtime() -> None:
    assert not loaded_by(WALK.format(room="dragoman")) & {"numpy", "onnxruntime", "torch", "onnx", "tokenizers"}


def test_no_module_of_the_server_brings_in_torch() -> None:
    assert not loaded_by(WALK.format(room="dragoman_server")) & {"torch", "onnx", "onnxscript"}


def imported_names(room: str) -> Iterator[tuple[Path, str]]:
    """Every absolute module name that a room's own source imports, at the top or inside a function."""
    for path in sorted(ROOMS[room].rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
                yield path, node.module


@pytest.mark.parametrize("room", ROOMS)
def test_imports_follow_the_arrows(room: str) -> None:
    allowed = ARROWS[room] | {room}
    strays = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, name in imported_names(room)
        if (top := name.partition(".")[0]) in ROOMS and top not in allowed
    ]
    assert not strays


@pytest.mark.parametrize("room", FOREIGN)
def test_no_room_reaches_for_what_is_not_its_own(room: str) -> None:
    strays = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, name in imported_names(room)
        if name.partition(".")[0] in FOREIGN[room]
    ]
    assert not strays
