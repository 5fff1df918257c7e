"""Each lane warms up in its own thread, one after the other, before the first request is taken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from dragoman_server.engine import Engine
from dragoman_server.errors import Unavailable
from tests.unit.server.fake_runtime import BOS, EOS, PATIENCE, FakeRuntime, Start, counting, submit


class WarmedRuntime(FakeRuntime):
    """Notes which threads run it; ``during`` is called while it warms up."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        super().__init__(2)
        self.during = during
        self.warmed: list[str] = []
        self.encoding: set[str] = set()

    def warm_up(self) -> None:
        super().warm_up()
        self.warmed.append(threading.current_thread().name)
        self.during()

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        super().encode(rows, sources)
        self.encoding.add(threading.current_thread().name)


def engine(*runtimes: FakeRuntime) -> Engine:
    return Engine(runtimes, bos=BOS, eos=EOS, max_waiting=9, max_waiting_tokens=99)


def lanes() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("dragoman-lane-")}


def test_a_lane_warms_up_in_the_thread_that_decodes(start: Start) -> None:
    runtime = WarmedRuntime()
    caller = counting(3)
    submit(start(runtime), caller)
    assert caller.answer().token_ids == [100, 101, 102]
    assert runtime.warmed == ["dragoman-lane-0"]
    assert runtime.encoding == {"dragoman-lane-0"}


def test_lanes_warm_up_one_after_the_other_and_no_request_is_taken_meanwhile() -> None:
    inside = threading.Lock()
    refused: list[str] = []

    def during() -> None:
        assert inside.acquire(blocking=False), "two warm up at one time"
        with pytest.raises(Unavailable) as raised:
            found.submit(counting(1).request)
        refused.append(str(raised.value))
        inside.release()

    runtimes = [WarmedRuntime(during) for _ in range(3)]
    found = engine(*runtimes)
    found.start()
    assert [runtime.warmed for runtime in runtimes] == [["dragoman-lane-0"], ["dragoman-lane-1"], ["dragoman-lane-2"]]
    assert refused == ["the server is starting or shutting down"] * 3
    found.stop(PATIENCE)


def test_a_warm_up_that_raises_ends_the_start_and_every_lane() -> None:
    def during() -> None:
        raise RuntimeError("out of memory")

    others = lanes()
    runtimes = [WarmedRuntime(), WarmedRuntime(during), WarmedRuntime()]
    found = engine(*runtimes)
    with pytest.raises(RuntimeError, match="out of memory"):
        found.start()
    assert lanes() <= others
    assert not runtimes[2].warmed
    with pytest.raises(Unavailable):
        found.submit(counting(1).request)
    found.stop(0)
