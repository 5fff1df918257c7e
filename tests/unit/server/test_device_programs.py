"""The small graphs that move what lies on a device, and which of a session's nodes are where."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dragoman_server.cell_moves import CellMover, Cells, Places
from dragoman_server.device import CPU, Device
from dragoman_server.device_memory import DeviceMemory
from dragoman_server.onnx_program import Operation, Tensor, program
from dragoman_server.sessions import lane_session, nodes_on_cpu

ELEMENTS = ("float32", "float16", "int8")


def test_a_program_is_an_onnx_model() -> None:
    data = program(
        [
            Operation("Gather", ["table", "places"], "found", {"axis": 1}),
            Operation("Reshape", ["found", "flat"], "row"),
        ],
        [Tensor("table", "float32", [2, None]), Tensor("places", "int64", [None])],
        Tensor("row", "float32", [None]),
        {"flat": np.array([-1])},
    )
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    table = np.arange(400, dtype=np.float32).reshape(2, 200)
    (row,) = lane_session(data).run(None, {"table": table, "places": np.array([199, 0])})
    np.testing.assert_array_equal(row, [199, 0, 399, 200])


@pytest.mark.parametrize("element", ELEMENTS)
def test_cells_are_moved_and_nothing_else_is_touched(element: str) -> None:
    """Two places in each of two layers, three cells from the second on at each."""
    random = np.random.default_rng(1)
    source = random.integers(-100, 100, (40, 5)).astype(element)
    target = random.integers(-100, 100, (60, 5)).astype(element)
    expected = target.copy()
    for item, goal in ((0, 14), (10, 0)):
        for origin_layer, goal_layer in ((0, 0), (20, 30)):
            for cell in (1, 2, 3):
                expected[goal + goal_layer + cell] = source[item + origin_layer + cell]
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in (source, target)]
    cells = [Cells(value.data_ptr(), len(array), 5) for value, array in zip(values, (source, target), strict=True)]
    origins, goals = Places([0, 10], np.array([0, 20])), Places([14, 0], np.array([0, 30]))
    CellMover(CPU, element).move(cells[0], cells[1], origins, goals, (1, 4))
    np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("element", ELEMENTS)
def test_a_devices_caches_begin_with_zeros(element: str) -> None:
    memory = DeviceMemory(Device(resident=True))
    caches = memory.caches((2, 3, 2, 7, 4), element)
    found = caches.read(2, 7)
    assert found.dtype == element
    assert found.shape == (2, 2, 7, 4)
    assert not found.any()
    vectors = memory.vectors((2, 3, 1, 8), element)
    assert vectors.read(1).shape == (2, 1, 8)
    assert not vectors.read(1).any()


def test_nodes_on_the_processor_are_named_but_for_those_of_shapes() -> None:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    data = program(
        [Operation("Shape", ["x"], "size"), Operation("Reshape", ["x", "size"], "same")],
        [Tensor("x", "float32", [None, None])],
        Tensor("same", "float32", [None, None]),
        {},
    )
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert nodes_on_cpu(ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])) == ["Reshape same"]
