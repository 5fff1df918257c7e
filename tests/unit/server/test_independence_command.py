"""The command that proves independence: what it passes, fails and refuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import structlog
import typer
from onnx import helper
from typer.testing import CliRunner

from dragoman_server.bench_commands import independence
from tests.unit.server import tiny

bench = typer.Typer()
bench.command()(independence)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("models") / "tiny" / "1")


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """The same bundle, its scores scaled by a maximum over the whole batch, as dynamic quantisation does."""
    root = tiny.write_bundle(tmp_path / "tiny" / "1")
    path = root / "fp32" / "decoder.onnx"
    decoder = onnx.load(path)
    (index,) = (i for i, node in enumerate(decoder.graph.node) if node.op_type == "LogSoftmax")
    decoder.graph.node[index].input[0] = "scaled"
    for number, node in enumerate(
        [
            helper.make_node("ReduceMax", ["logits"], ["greatest"], keepdims=0),
            helper.make_node("Sigmoid", ["greatest"], ["scale"]),
            helper.make_node("Mul", ["logits", "scale"], ["scaled"]),
        ]
    ):
        decoder.graph.node.insert(index + number, node)
    path.write_bytes(decoder.SerializeToString())
    manifest = tiny.read_manifest(root)
    del manifest["files"]
    tiny.write_manifest(root, manifest)
    return root


def run(*args: str | Path) -> Any:
    return CliRunner().invoke(bench, [*map(str, args), "--sentences", "15"])


def test_the_command_passes_a_bundle_that_keeps_the_promise(bundle: Path) -> None:
    result = run(bundle, "--lanes", "1,3", "--seed", "9", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["holds"]
    assert set(report["graphs"]) == {"fp32"}
    assert [line["lanes"] for line in report["results"]] == [1] * 7 + [3] * 6
    encoder = report["results"][0]
    assert encoder["requests"] == 6 * tiny.SOURCE_TOKENS
    assert report["machine"]["cores"] >= 1
    assert "1 lane(s) of 64 rows" in result.stderr


def test_the_command_fails_a_bundle_whose_rows_look_at_each_other(leaky: Path) -> None:
    result = run(leaky)
    assert result.exit_code == 1, result.output
    assert "FAIL" in result.stdout
    assert result.stdout.rstrip().endswith("NOT the same under any load")


def test_all_bad_options_are_told_at_once(bundle: Path) -> None:
    result = CliRunner().invoke(
        bench,
        [str(bundle), "--sentences", "0", "--column", "0", "--max-rows", "7", "--precision", "fp8", "--lanes", "2,2"],
    )
    assert (result.exit_code, result.stdout) == (2, "")
    for field in ("sentences = 0", "column = 0", "max_rows = 7", "precision = fp8", "lanes = 2,2"):
        assert field in result.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--lanes", "many"], "lanes = many: numbers with commas"),
        (["--target", "fr"], "target = fr: one of de, en"),
        (["--precision", "int8"], "precision 'int8': the bundle offers fp32"),
        (["--data", "/nowhere"], "data = /nowhere"),
    ],
)
def test_bad_options(bundle: Path, options: list[str], told: str) -> None:
    result = run(bundle, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
