from __future__ import annotations

import threading
import time

import pytest

from dragoman_server.engine import Engine
from dragoman_server.errors import Cancelled, DeadlineExceeded, Unavailable
from dragoman_server.request import Completion
from tests.unit.server.fake_runtime import (
    BOS,
    EOS,
    PATIENCE,
    Clock,
    FakeRuntime,
    Start,
    assert_empty,
    counting,
    submit,
    wait_for_step,
)


def test_cancelled_in_the_queue_is_never_encoded(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(1, gate)
    engine, running, queued, last = start(runtime), counting(1), counting(1, 200), counting(1, 300)
    submit(engine, running)
    wait_for_step(runtime)
    submit(engine, queued, last)
    queued.request.cancel()
    gate.release(100)
    assert isinstance(queued.result(), Cancelled)
    assert running.answer().token_ids == [100]
    assert last.answer().token_ids == [300]
    assert queued.source not in runtime.encoded


def test_expired_in_the_queue_is_never_encoded(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(1, gate)
    engine, running = start(runtime), counting(1)
    submit(engine, running)
    wait_for_step(runtime)
    queued = counting(1, 200, deadline=time.monotonic() - 1)
    submit(engine, queued)
    gate.release(100)
    assert isinstance(queued.result(), DeadlineExceeded)
    assert isinstance(running.result(), Completion)
    assert queued.source not in runtime.encoded


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_running_requests_end_between_steps_and_the_others_go_on(start: Start, how: str) -> None:
    gate, clock = threading.Semaphore(0), Clock()
    runtime = FakeRuntime(3, gate)
    engine = start(runtime, clock=clock)
    callers = [counting(50, 100, deadline=clock.now + 1), counting(50, 200), counting(5, 300)]
    submit(engine, callers[0])
    wait_for_step(runtime)
    submit(engine, *callers[1:])
    gate.release()
    wait_for_step(runtime)
    if how == "cancel":
        callers[0].request.cancel()
    else:
        clock.now += 1
    gate.release()
    assert isinstance(callers[0].result(), Cancelled if how == "cancel" else DeadlineExceeded)
    wait_for_step(runtime)
    assert engine.state().rows_used == 2
    gate.release(100)
    assert callers[1].answer().token_ids == list(range(200, 250))
    assert callers[2].answer().token_ids == list(range(300, 305))
    assert_empty(engine)


def test_stop_lets_work_finish_within_the_grace(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(1, gate)
    engine, callers = start(runtime), [counting(2, 100), counting(2, 200)]
    submit(engine, *callers)
    wait_for_step(runtime)
    stopper = threading.Thread(target=engine.stop, args=(10 * PATIENCE,))
    stopper.start()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            submit(engine, counting(0, 300))
        except Unavailable:
            break
    gate.release(100)
    assert [caller.answer().token_ids for caller in callers] == [[100, 101], [200, 201]]
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
    assert_empty(engine)


def test_stop_without_grace_ends_all_with_unavailable(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(1, gate)
    engine, running, queued = start(runtime), counting(50), counting(1, 200)
    submit(engine, running, queued)
    wait_for_step(runtime)
    stopper = threading.Thread(target=engine.stop, args=(0.0,))
    stopper.start()
    assert isinstance(queued.result(), Unavailable)
    gate.release()  # the step that runs is never cut short
    assert isinstance(running.result(), Unavailable)
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
    assert queued.source not in runtime.encoded
    assert_empty(engine)
    engine.stop(PATIENCE)  # a second time: nothing to do


def test_stop_of_an_idle_engine_does_not_use_up_the_grace(start: Start) -> None:
    engine = start(FakeRuntime(1), FakeRuntime(1))
    caller = counting(1)
    submit(engine, caller)
    caller.result()
    began = time.monotonic()
    engine.stop(PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2


def test_not_started_or_stopped_is_unavailable() -> None:
    engine = Engine([FakeRuntime(1)], bos=BOS, eos=EOS, max_waiting=1, max_waiting_tokens=9)
    with pytest.raises(Unavailable):
        submit(engine, counting(1))
    engine.stop(PATIENCE)
    with pytest.raises(Unavailable):
        submit(engine, counting(1))
