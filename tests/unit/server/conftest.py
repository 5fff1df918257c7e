from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dragoman_server.compiled_kernels import open_library
from dragoman_server.engine import Engine
from dragoman_server.kernels.build import build, compiler
from dragoman_server.runtime import Runtime
from tests.unit.server.fake_runtime import BOS, EOS, FakeRuntime, Start


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of operators, compiled from these sources."""
    if compiler() is None:
        pytest.skip("no C++ compiler")
    return build(tmp_path_factory.mktemp("kernels") / "library.so")


@pytest.fixture(params=["avx512", "avx2", "portable"])
def library(compiled: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, held to one instruction set."""
    monkeypatch.setenv("DRAGOMAN_INSTRUCTION_SET", request.param)
    if open_library(compiled).instructions != request.param:
        pytest.skip(f"this processor has no {request.param}")
    return compiled


@pytest.fixture
def start() -> Iterator[Start]:
    engines: list[Engine] = []
    gates: list[threading.Semaphore] = []

    def make(
        *runtimes: Runtime,
        max_waiting: int = 100,
        max_waiting_tokens: int = 10_000,
        ageing_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> Engine:
        gates.extend(r.gate for r in runtimes if isinstance(r, FakeRuntime) and r.gate)
        engine = Engine(
            runtimes,
            bos=BOS,
            eos=EOS,
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            ageing_seconds=ageing_seconds,
            clock=clock,
        )
        engines.append(engine)
        engine.start()
        return engine

    yield make
    for gate in gates:
        gate.release(10_000)
    for engine in engines:
        engine.stop(0)
