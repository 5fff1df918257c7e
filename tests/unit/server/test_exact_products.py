"""Products of 8-bit numbers are exact whatever the processor has: none are cut off at 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dragoman_server.sessions import lane_session
from tests.unit.server.kernel_graphs import model

DEPTH, COLUMNS = 64, 40


def greatest_products(path: Path) -> Path:
    """A linear map whose weights are the greatest that there are, with signs that differ from column to column."""
    weights = np.full((DEPTH, COLUMNS), 127, np.int8)
    weights[:, 1::2] = -127
    weights[1::2, 2::4] = -127
    constants = [
        numpy_helper.from_array(np.array(1, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.uint8), "zero"),
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.ones(COLUMNS, np.float32), "scales"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["left"]),
        helper.make_node(
            "MatMulIntegerToFloat", ["left", "weights", "scale", "scales", "zero"], ["y"], domain="com.microsoft"
        ),
    ]
    values = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", DEPTH])
    path.write_bytes(model(nodes, [values], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants))
    return path


@pytest.mark.parametrize("rows", [1, 3, 7])
@pytest.mark.parametrize("operators", ["onnxruntime's", "compiled"])
def test_the_greatest_numbers_give_the_greatest_sums(compiled: Path, tmp_path: Path, operators: str, rows: int) -> None:
    path = greatest_products(tmp_path / "graph.onnx")
    (found,) = lane_session(path, kernels=compiled if operators == "compiled" else None).run(
        None, {"x": np.full((rows, DEPTH), 255, np.float32)}
    )
    expected = np.full(COLUMNS, 255 * 127 * DEPTH)
    expected[1::2] *= -1
    expected[2::4] = 0
    np.testing.assert_array_equal(found, np.tile(expected, (rows, 1)))
