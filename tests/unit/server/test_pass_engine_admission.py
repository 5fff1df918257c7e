"""Texts that are not taken: no room in the queue, no time, or no lane that could read them."""

from __future__ import annotations

import threading

import pytest

from dragoman_server.errors import Overloaded
from tests.unit.server.fake_passes import FakePassRuntime, Reader, StartPasses, submit, wait_for_pass
from tests.unit.server.fake_runtime import Clock


def test_a_full_queue_refuses_with_the_time_to_come_back(start_passes: StartPasses) -> None:
    runtime = FakePassRuntime(1, threading.Semaphore(0))
    engine = start_passes(runtime, max_waiting=2, max_waiting_tokens=10)
    submit(engine, Reader([1]))
    wait_for_pass(runtime)
    submit(engine, Reader([2] * 9))
    with pytest.raises(Overloaded, match="full") as refused:
        submit(engine, Reader([3] * 2))
    assert refused.value.retry_after > 0
    submit(engine, Reader([4]))
    with pytest.raises(Overloaded, match="full"):
        submit(engine, Reader([5]))


def test_a_deadline_that_cannot_be_met_by_the_measured_pace_is_refused(start_passes: StartPasses) -> None:
    clock = Clock()
    runtime = FakePassRuntime(1, threading.Semaphore(0), clock, token_seconds=0.125)
    engine = start_passes(runtime, clock=clock)
    assert runtime.gate
    runtime.gate.release(2)
    for measured in (Reader([1] * 8), Reader([1] * 4)):
        submit(engine, measured)
        measured.assert_read()
        wait_for_pass(runtime)
    running, waiting = Reader([2] * 8), Reader([3] * 8)
    submit(engine, running)
    wait_for_pass(runtime)
    submit(engine, waiting)
    # One second each for the running and the waiting one, and half a second of its own.
    with pytest.raises(Overloaded, match="deadline"):
        submit(engine, Reader([4] * 4, deadline=clock.now + 2.25))
    in_time = Reader([5] * 4, deadline=clock.now + 2.75)
    submit(engine, in_time)
    runtime.gate.release(100)
    for reader in (running, waiting, in_time):
        reader.assert_read()


def test_what_no_lane_could_take_is_our_fault(start_passes: StartPasses) -> None:
    engine = start_passes(FakePassRuntime())
    with pytest.raises(ValueError, match="65 tokens: 1 to 64"):
        submit(engine, Reader([1] * 65))
    with pytest.raises(ValueError, match="priority = 10"):
        submit(engine, Reader([1], priority=10))
