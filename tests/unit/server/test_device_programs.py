"""The small graphs that move what lies on a device, and which of a session's nodes are where."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import structlog.testing

from dragoman_server.cell_moves import MOST_NUMBERS, SCRATCH, CellMover, Cells, Places, mover_type
from dragoman_server.device import CPU, Device
from dragoman_server.device_memory import DeviceCaches, DeviceMemory
from dragoman_server.gpu_memory import WORKING
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


class Recorded:
    """A mover's session: how many numbers each run gathers; more than ``room`` are too many for its memory."""

    def __init__(self, graph: bytes, device: Device, gathered: list[int], room: int) -> None:
        self._session, self._gathered, self._room = lane_session(graph, device), gathered, room
        self.moves = "moved" in [output.name for output in self._session.get_outputs()]

    def io_binding(self) -> RecordedBinding:
        return RecordedBinding(self._session.io_binding())

    def run_with_iobinding(self, binding: RecordedBinding) -> None:
        if self.moves:
            counts = [binding.shapes[name][0] for name in ("origin_items", "origin_layers", "run")]
            numbers = int(np.prod(counts)) * binding.shapes["target"][1]
            if numbers > self._room:
                raise RuntimeError("Available memory is smaller than requested")
            self._gathered.append(numbers)
        self._session.run_with_iobinding(binding.values)


class RecordedBinding:
    """The shapes of what is bound."""

    def __init__(self, values: Any) -> None:
        self.values = values
        self.shapes: dict[str, Sequence[int]] = {}

    def bind_cpu_input(self, name: str, array: npt.NDArray[np.int64]) -> None:
        self.shapes[name] = array.shape
        self.values.bind_cpu_input(name, array)

    def bind_input(self, name: str, *place: Any) -> None:
        *_, self.shapes[name], _ = place
        self.values.bind_input(name, *place)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.values, name)


def recorded(scratch: int, room: int) -> tuple[CellMover, list[int]]:
    gathered: list[int] = []
    make = partial(Recorded, gathered=gathered, room=room)
    return CellMover(Device(resident=True), "int64", scratch=scratch, least_scratch=CELL, make=make), gathered


CELL = 2 * 8 + 48
"""Bytes to move one cell of those below with: its two numbers of 64 bits, and its places."""


SHAPE = (4, 6, 2, 5, 8)


def filled(mover: CellMover, most: int = MOST_NUMBERS) -> tuple[DeviceCaches, npt.NDArray[np.float16]]:
    """Caches, and what every row of them holds."""
    caches = DeviceCaches(Device(resident=True), mover, SHAPE, "float16", most=most)
    held = np.random.default_rng(2).integers(-100, 100, SHAPE).astype(np.float16)
    for row in range(SHAPE[1]):
        given = ort.OrtValue.ortvalue_from_numpy(held[:, row].copy())
        caches.write([row], np.zeros(1, np.int64), np.array([SHAPE[3]]), given)
    return caches, held


def assert_holds(caches: DeviceCaches, held: npt.NDArray[np.float16]) -> None:
    for row in range(SHAPE[1]):
        np.testing.assert_array_equal(caches.read(row, SHAPE[3]), held[:, row])


def fork(caches: DeviceCaches, held: npt.NDArray[np.float16]) -> None:
    """Three rows to three others, of which one position is alike already."""
    sources, targets, begins, ends = np.array([[0, 1, 0], [3, 4, 5], [1, 1, 1], [4, 5, 5]])
    caches.copy(sources, targets, begins, ends)
    held[:, targets, :, 1:5] = held[:, sources, :, 1:5]


def test_moves_are_made_in_parts_that_their_scratch_memory_has_room_for() -> None:
    mover, gathered = recorded(scratch=10 * CELL, room=MOST_NUMBERS)
    caches, held = filled(mover)
    fork(caches, held)
    assert_holds(caches, held)
    assert 10 <= max(gathered) <= 20


def test_a_move_that_fails_for_want_of_memory_is_made_in_smaller_parts() -> None:
    mover, gathered = recorded(scratch=1 << 20, room=20)
    caches, held = filled(mover)
    fork(caches, held)
    assert_holds(caches, held)
    assert 10 <= max(gathered) <= 20
    mover, _ = recorded(scratch=1 << 20, room=1)
    with pytest.raises(RuntimeError, match="Available memory"):
        filled(mover)


def test_a_move_that_fails_with_little_is_not_made_in_countless_parts() -> None:
    mover = CellMover(Device(resident=True), "int64", make=partial(Recorded, gathered=[], room=20))
    with structlog.testing.capture_logs() as logs, pytest.raises(RuntimeError, match="Available memory"):
        filled(mover)
    assert not logs


def test_moves_compute_with_a_small_part_of_what_a_lanes_sessions_may_take() -> None:
    assert SCRATCH * 4 <= WORKING


@pytest.mark.parametrize("most", [MOST_NUMBERS, 2 * 6 * 2 * 5 * 2, 3 * 6 * 2 * 5 * 2 - 1, 6 * 2 * 5 * 2])
def test_caches_that_are_more_than_kernels_can_count_lie_in_pieces(most: int) -> None:
    mover, _ = recorded(scratch=1 << 20, room=MOST_NUMBERS)
    caches, held = filled(mover, most)
    fork(caches, held)
    assert_holds(caches, held)
    staging = DeviceCaches(Device(resident=True), mover, (4, 1, 2, 5, 8), "float16", most=most)
    given = ort.OrtValue.ortvalue_from_numpy(held[:, 1].copy())
    staging.write([0], np.zeros(1, np.int64), np.array([5]), given)
    caches.take(2, staging, 3)
    held[:, 2, :, :3] = held[:, 1, :, :3]
    assert_holds(caches, held)
    for layer in range(4):
        assert caches.layer(layer) % 8 == 0
    with pytest.raises(ValueError, match="6 rows of 5 positions: more than a GPU's kernels can count in a layer"):
        filled(mover, 119)


def test_cells_are_moved_as_numbers_of_64_bits_where_they_divide_one() -> None:
    assert mover_type(64, "float16") == "int64"
    assert mover_type(12, "int8") == "int8"
    assert mover_type(3, "float32") == "float32"


def test_memory_that_stays_is_not_bound_as_what_is_computed_with() -> None:
    made: list[int | None] = []

    def make(graph: bytes, device: Device) -> Any:
        made.append(device.arena_bytes)
        return lane_session(graph, device)

    CellMover(Device(resident=True, arena_bytes=99), "int64", make=make)
    assert made == [99, None]


class Numbered:
    """A session's face that notes which capture each run is of."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.captures: list[str] = []
        self.io_binding = session.io_binding

    def run_with_iobinding(self, values: Any, options: ort.RunOptions) -> None:
        self.captures.append(options.get_run_config_entry("gpu_graph_id"))
        self._session.run_with_iobinding(values, options)


def test_no_two_bindings_of_a_session_share_a_capture() -> None:
    """Each has addresses of its own, whichever memory has made it."""
    data = program(
        [Operation("Add", ["x", "x"], "twice")],
        [Tensor("x", "float32", [None])],
        Tensor("twice", "float32", [None]),
        {},
    )
    session = Numbered(lane_session(data))
    for _ in range(2):
        memory = DeviceMemory(Device(resident=True, cuda_graphs=True))
        for steady in (True, True, False):
            given, found = np.ones(2, np.float32), np.zeros(2, np.float32)
            memory.bind(session, 2, {"x": given}, [], {"twice": found}, steady=steady).run()
            np.testing.assert_array_equal(found, [2, 2])
    captured = [number for number in session.captures if number != "-1"]
    assert len(captured) == len(set(captured)) == 4


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
