"""The compiled library, and engines that end with their test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dragoman_server.compiled_kernels import open_library
from dragoman_server.engine import Engine
from dragoman_server.kernels.build import build, compiler
from dragoman_server.lanes import LaneEngine
from dragoman_server.pass_engine import PassEngine
from dragoman_server.runtime import Runtime
from tests.unit.server.fake_passes import FakePassRuntime, StartPasses
from tests.unit.server.fake_runtime import BOS, EOS, Start

EngineT = TypeVar("EngineT", bound=LaneEngine[Any])


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


class Started:
    """The engines that a test has started, which end with it."""

    def __init__(self) -> None:
        self._engines: list[LaneEngine[Any]] = []
        self._gates: list[threading.Semaphore] = []

    def add(self, engine: EngineT, *runtimes: object) -> EngineT:
        """The engine, which is ended with the others."""
        gates = (getattr(runtime, "gate", None) for runtime in runtimes)
        self._gates.extend(gate for gate in gates if gate)
        self._engines.append(engine)
        return engine

    def end(self) -> None:
        """Let go of what a gate holds up, and stop."""
        for gate in self._gates:
            gate.release(10_000)
        for engine in self._engines:
            engine.stop(0)


@pytest.fixture
def started() -> Iterator[Started]:
    engines = Started()
    yield engines
    engines.end()


@pytest.fixture
def start(started: Started) -> Start:
    def make(
        *runtimes: Runtime,
        max_waiting: int = 100,
        max_waiting_tokens: int = 10_000,
        ageing_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> Engine:
        engine = Engine(
            runtimes,
            bos=BOS,
            eos=EOS,
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            ageing_seconds=ageing_seconds,
            clock=clock,
        )
        started.add(engine, *runtimes).start()
        return engine

    return make


@pytest.fixture
def start_passes(started: Started) -> StartPasses:
    def make(
        *runtimes: FakePassRuntime,
        max_waiting: int = 100,
        max_waiting_tokens: int = 10_000,
        pass_tokens: int = 40,
        ageing_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> PassEngine:
        engine = PassEngine(
            runtimes,
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            pass_tokens=pass_tokens,
            ageing_seconds=ageing_seconds,
            clock=clock,
        )
        started.add(engine, *runtimes).start()
        return engine

    return make
