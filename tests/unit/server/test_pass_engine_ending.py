"""How texts end that are not read, and how an engine of passes stops."""

from __future__ import annotations

import threading

import pytest

from dragoman_server.errors import Cancelled, DeadlineExceeded, Unavailable
from tests.unit.server.fake_passes import FakePassRuntime, Reader, StartPasses, submit, wait_for_pass
from tests.unit.server.fake_runtime import Clock


def test_cancelled_and_expired_texts_are_never_read(start_passes: StartPasses) -> None:
    clock = Clock()
    runtime = FakePassRuntime(4, threading.Semaphore(0), clock)
    engine = start_passes(runtime, clock=clock)
    first, cancelled, expired, last = Reader([1]), Reader([2]), Reader([3], deadline=clock.now + 1), Reader([4])
    submit(engine, first)
    wait_for_pass(runtime)
    submit(engine, cancelled, expired, last)
    cancelled.request.cancel()
    clock.now += 2
    assert runtime.gate
    runtime.gate.release(100)
    assert isinstance(cancelled.result(), Cancelled)
    assert isinstance(expired.result(), DeadlineExceeded)
    last.assert_read()
    assert runtime.passes == [[[1]], [[4]]]


def test_stopping_lets_passes_finish_and_refuses_what_comes_after(start_passes: StartPasses) -> None:
    runtime = FakePassRuntime(1, threading.Semaphore(0))
    engine, running, waiting = start_passes(runtime), Reader([1]), Reader([2])
    submit(engine, running)
    wait_for_pass(runtime)
    submit(engine, waiting)
    stopping = threading.Thread(target=engine.stop, args=(0,))
    stopping.start()
    assert isinstance(waiting.result(), Unavailable)
    assert runtime.gate
    runtime.gate.release()
    stopping.join()
    running.assert_read()
    with pytest.raises(Unavailable):
        submit(engine, Reader([3]))


def test_draining_answers_all_that_was_taken(start_passes: StartPasses) -> None:
    engine, readers = start_passes(FakePassRuntime(3)), [Reader([number]) for number in range(40)]
    submit(engine, *readers)
    engine.stop(20)
    for reader in readers:
        reader.assert_read()
