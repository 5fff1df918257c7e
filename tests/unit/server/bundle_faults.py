"""Spoils bundles, and tells what loading finds wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from dragoman_server.bundle import BundleError, load_bundle
from tests.unit.server import tiny

Manifest = dict[str, Any]


def faults(path: Path, precision: str = "fp32") -> list[str]:
    with pytest.raises(BundleError) as caught:
        load_bundle(path, precision)
    assert caught.value.path == path
    return caught.value.faults


def faults_after(path: Path, edit: Callable[[Manifest], object]) -> list[str]:
    manifest = tiny.read_manifest(path)
    edit(manifest)
    tiny.write_manifest(path, manifest)
    return faults(path)


def relist(path: Path) -> None:
    manifest = tiny.read_manifest(path)
    del manifest["files"]
    tiny.write_manifest(path, manifest)


def replace_graph(path: Path, name: str, edit: Callable[[onnx.ModelProto], object]) -> None:
    file = path / "fp32" / f"{name}.onnx"
    model = onnx.load_model_from_string(file.read_bytes())
    edit(model)
    file.write_bytes(model.SerializeToString())
    relist(path)
