"""What is captured on a device is captured alone, and only before requests are taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman_server.bundle import load_bundle
from dragoman_server.captures import Captures
from dragoman_server.device import Device
from dragoman_server.device_memory import DeviceMemory
from dragoman_server.onnx_program import Operation, Tensor, program
from dragoman_server.runtime import OnnxRuntime
from dragoman_server.sessions import Sessions, lane_session
from tests.unit.server import tiny

PATIENCE = 20.0
BRIEF = 0.05
GRAPHS = Device(resident=True, cuda_graphs=True)


class Noted(Captures):
    """Notes how it was entered."""

    def __init__(self) -> None:
        super().__init__()
        self.entered: list[str] = []

    @contextmanager
    def alone(self) -> Iterator[None]:
        self.entered.append("alone")
        with super().alone():
            yield

    @contextmanager
    def beside(self) -> Iterator[None]:
        self.entered.append("beside")
        with super().beside():
            yield


def test_one_that_captures_waits_for_all_others_and_they_for_it() -> None:
    captures = Captures()
    events: list[str] = []
    captured, leave = threading.Event(), threading.Event()

    def capture() -> None:
        with captures.alone():
            events.append("captures")
            captured.set()
            assert leave.wait(PATIENCE)
            events.append("has captured")

    def use() -> None:
        with captures.beside():
            events.append("uses")

    threads = [threading.Thread(target=one) for one in (capture, use)]
    with captures.beside(), captures.beside():
        threads[0].start()
        assert not captured.wait(BRIEF)
    assert captured.wait(PATIENCE)
    threads[1].start()
    threads[1].join(BRIEF)
    leave.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert events == ["captures", "has captured", "uses"]


def test_a_capture_that_fails_lets_the_others_go_on() -> None:
    captures = Captures()
    for way in (captures.alone, captures.beside):
        with pytest.raises(ValueError, match="broken"), way():
            raise ValueError("broken")
    with captures.alone():
        pass


@pytest.mark.parametrize(
    ("device", "steady", "expected"),
    [
        (GRAPHS, True, ["alone", "beside"]),
        (GRAPHS, False, ["beside", "beside"]),
        (Device(resident=True), True, ["beside", "beside"]),
    ],
)
def test_the_first_run_of_a_steady_binding_is_made_alone(device: Device, steady: bool, expected: list[str]) -> None:
    data = program(
        [Operation("Add", ["x", "x"], "y")], [Tensor("x", "float32", [None])], Tensor("y", "float32", [None]), {}
    )
    noted = Noted()
    given, found = np.ones(2, np.float32), np.zeros(2, np.float32)
    binding = DeviceMemory(device, noted).bind(lane_session(data), 2, {"x": given}, [], {"y": found}, steady=steady)
    noted.entered.clear()
    for number in (1, 2):
        given[:] = number
        binding.run()
        np.testing.assert_array_equal(found, given * 2)
    assert noted.entered == expected


class Noting:
    """A session's face that notes which capture each run is of."""

    def __init__(self, session: Any, captures: list[str]) -> None:
        self._session, self._captures = session, captures

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, values: Any, options: Any = None) -> None:
        if options is not None:
            self._captures.append(options.get_run_config_entry("gpu_graph_id"))
        self._session.run_with_iobinding(values, options)


class NotingSessions(Sessions):
    """Sessions with that face."""

    def __init__(self) -> None:
        super().__init__()
        self.captures: list[str] = []

    def of(self, graph: Path, device: Device = GRAPHS, *, captured: bool = False, kernels: Path | None = None) -> Any:
        """As ``Sessions`` says."""
        return Noting(super().of(graph, device, captured=captured, kernels=kernels), self.captures)


def test_nothing_new_is_captured_once_a_runtime_is_warm(tmp_path: Path) -> None:
    """Steps that give logits or attention are not captured, whenever they come."""
    bundle = load_bundle(tiny.write_bundle(tmp_path / "1"), "fp32")
    sessions = NotingSessions()
    runtime = OnnxRuntime(
        bundle.encoder,
        bundle.decoder,
        dimensions=bundle.manifest.dimensions,
        limits=bundle.manifest.limits,
        max_rows=4,
        device=GRAPHS,
        sessions=sessions,
    )
    runtime.warm_up()
    warmed = set(sessions.captures)
    assert len(warmed) == 4
    assert "-1" not in warmed
    # The largest bucket, whose number is the last, before all others: the memory that it takes does for them too.
    assert sessions.captures == sorted(warmed, key=int, reverse=True)
    sessions.captures.clear()
    runtime.encode([0, 1], [[7, 8], [9]])
    runtime.step([5, 5])
    assert set(sessions.captures) < warmed
    sessions.captures.clear()
    runtime.step([5, 5], with_logits=True)
    runtime.step([5, 5], with_attention=True)
    runtime.step([5, 5], with_logits=True, with_attention=True)
    assert set(sessions.captures) == {"-1"}
