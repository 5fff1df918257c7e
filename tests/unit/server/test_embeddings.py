"""Vectors of tokens and places, looked up and added by one operator: onnxruntime's to the bit, and no other look-up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dragoman_server.fusing.fusion import fused
from tests.unit.server.kernel_graphs import model, session

VOCABULARY, PLACES, WIDTH = 70, 40, 48
ODD = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E01]
"""Halves: zeros, the least and greatest without a leading one, the least with it, the greatest, infinite, no number."""


def tables(kind: str) -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(3)
    made: dict[str, npt.NDArray[Any]] = {"places": random.normal(size=(PLACES, WIDTH)).astype(np.float32)}
    if kind == "bytes":
        made["words"] = random.integers(-128, 128, (VOCABULARY, WIDTH)).astype(np.int8)
        made["scales"] = random.uniform(0.001, 0.1, (VOCABULARY, 1)).astype(np.float32)
    else:
        made["words"] = random.normal(size=(VOCABULARY, WIDTH)).astype(np.float16 if kind == "halves" else np.float32)
    if kind == "halves":
        made["words"][7, : len(ODD)] = np.array(ODD, np.uint16).view(np.float16)
        made["places"][0] = 0
    return made


def beginning(path: Path, kind: str, *, decodes: bool, swapped: bool = False, peeked: bool = False) -> Path:
    """How an exporter writes it: a decoder's rows have one token each, an encoder's tokens lie side by side."""
    constants = tables(kind) | {"one": np.array([1])}
    nodes = [helper.make_node("Gather", ["words", "input_ids"], ["word"])]
    word = "word"
    if kind != "floats":
        nodes.append(helper.make_node("Cast", ["word"], ["number"], to=TensorProto.FLOAT))
        word = "number"
    if kind == "bytes":
        nodes.append(helper.make_node("Gather", ["scales", "input_ids"], ["scale"]))
        nodes.append(helper.make_node("Mul", ["number", "scale"], ["scaled"]))
        word = "scaled"
    if decodes:
        nodes.append(helper.make_node("Cast", ["lengths"], ["long"], to=TensorProto.INT64))
        nodes.append(helper.make_node("Unsqueeze", ["long", "one"], ["index"]))
    index = "index" if decodes else "positions"
    nodes.append(helper.make_node("Gather", ["places", index], ["place"], axis=0))
    nodes.append(helper.make_node("Add", ["place", word] if swapped else [word, "place"], ["sum"]))
    outputs = ["sum", word] if peeked else ["sum"]
    inputs: list[tuple[str, int, list[Any]]] = [
        ("input_ids", TensorProto.INT64, ["rows", 1] if decodes else ["tokens"])
    ]
    inputs.append(("lengths", TensorProto.INT32, ["rows"]) if decodes else ("positions", TensorProto.INT64, ["tokens"]))
    path.write_bytes(
        model(
            nodes,
            [helper.make_tensor_value_info(*one) for one in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
    )
    return path


def both(path: Path, library: Path) -> tuple[ort.InferenceSession, ort.InferenceSession, Counter[str]]:
    with fused(path, library) as graph:
        operators = Counter(node.op_type for node in ModelProto.FromString(graph).graph.node)
        return session(path.read_bytes(), None), session(graph, library), operators


def feeds(ids: list[int], places: list[int], *, decodes: bool) -> dict[str, npt.NDArray[Any]]:
    if decodes:
        return {"input_ids": np.array(ids, np.int64)[:, None], "lengths": np.array(places, np.int32)}
    return {"input_ids": np.array(ids, np.int64), "positions": np.array(places, np.int64)}


@pytest.mark.parametrize("kind", ["floats", "halves", "bytes"])
@pytest.mark.parametrize("decodes", [True, False], ids=["decoder", "encoder"])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_sum_is_onnxruntimes_to_the_bit(
    library: Path, tmp_path: Path, kind: str, decodes: bool, swapped: bool
) -> None:
    plain, rewritten, operators = both(
        beginning(tmp_path / "graph.onnx", kind, decodes=decodes, swapped=swapped), library
    )
    assert operators == {"Embedding": 1}
    for ids, places in (([7], [0]), ([0, VOCABULARY - 1, 7, 7], [PLACES - 1, 0, 0, 5]), ([], [])):
        given = feeds(ids, places, decodes=decodes)
        expected, found = plain.run(None, given)[0], rewritten.run(None, given)[0]
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)


def test_what_is_read_elsewhere_too_stays(compiled: Path, tmp_path: Path) -> None:
    plain, rewritten, operators = both(beginning(tmp_path / "g.onnx", "halves", decodes=True, peeked=True), compiled)
    assert operators == {"Gather": 2, "Cast": 2, "Unsqueeze": 1, "Add": 1}
    given = feeds([1, 2], [3, 4], decodes=True)
    for expected, found in zip(plain.run(None, given), rewritten.run(None, given), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("ids", "places", "why"),
    [
        ([VOCABULARY], [0], "vocabulary"),
        ([-1], [0], "vocabulary"),
        ([1], [PLACES], "place"),
        ([1], [-1], "place"),
        ([1, 2], [0], "place for each"),
    ],
)
def test_what_is_in_no_table_is_refused(
    compiled: Path, tmp_path: Path, ids: list[int], places: list[int], why: str
) -> None:
    _, rewritten, _ = both(beginning(tmp_path / "graph.onnx", "bytes", decodes=True), compiled)
    with pytest.raises(Exception, match=f"Embedding: .*{why}"):
        rewritten.run(None, feeds(ids, places, decodes=True))
