"""What the engine takes and refuses, on a clock of the test's own: a step takes 1/8 s, ten of them are expected."""

from __future__ import annotations

import threading
import time

import pytest

from dragoman_server.engine import Engine
from dragoman_server.errors import DeadlineExceeded, Overloaded
from dragoman_server.request import Completion
from tests.unit.server.fake_runtime import (
    PATIENCE,
    Clock,
    FakeRuntime,
    Start,
    TimedRuntime,
    assert_empty,
    counting,
    submit,
    wait_for_step,
)

STEP, STEPS = 0.125, 10


def measure(engine: Engine) -> None:
    """Let the engine see what a request takes."""
    caller = counting(STEPS - 1)
    submit(engine, caller)
    assert caller.completion().receipt.steps == STEPS


def refusal(engine: Engine, deadline: float, priority: int = 0) -> float:
    """Submit what must be refused and leave no trace; returns the pushback."""
    before, refused = engine.state(), counting(STEPS - 1, 500, deadline=deadline, priority=priority)
    with pytest.raises(Overloaded, match="deadline") as caught:
        submit(engine, refused)
    after = engine.state()
    assert (before.waiting, before.waiting_tokens) == (after.waiting, after.waiting_tokens)
    assert not refused.outcomes
    assert refused.request.lane == -1
    return caught.value.retry_after


@pytest.mark.parametrize("bounds", [{"max_waiting": 2}, {"max_waiting_tokens": 6}])
def test_full_queue_refuses_with_a_time_to_retry(start: Start, bounds: dict[str, int]) -> None:
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(1, gate)
    engine, running, queued = start(runtime, **bounds), counting(1), [counting(1, 200), counting(1, 300)]
    submit(engine, running)
    wait_for_step(runtime)
    submit(engine, *queued)
    refused = counting(1, 400)
    with pytest.raises(Overloaded, match="queue is full") as caught:
        submit(engine, refused)
    assert 0 < caught.value.retry_after <= 30
    gate.release(100)
    for caller in (running, *queued):
        assert isinstance(caller.result(), Completion)
    assert not refused.outcomes


def test_before_anything_is_measured_every_deadline_is_taken(start: Start) -> None:
    clock = Clock()
    engine, caller = start(TimedRuntime(1, clock), clock=clock), counting(STEPS - 1, deadline=clock() + STEP / 2)
    submit(engine, caller)
    assert isinstance(caller.result(), DeadlineExceeded)


def test_an_idle_engine_takes_what_encoding_and_steps_leave_time_for(start: Start) -> None:
    clock = Clock()
    engine = start(TimedRuntime(1, clock, token_seconds=0.25), clock=clock)
    measure(engine)
    needed = 3 * 0.25 + STEPS * STEP
    assert refusal(engine, clock() + needed - 0.01) == 0.02  # it could start at once
    deadline = clock() + needed
    caller = counting(STEPS - 1, 200, deadline=deadline)
    submit(engine, caller)
    assert isinstance(caller.result(), Completion)
    assert clock() == pytest.approx(deadline)
    assert_empty(engine)


def test_fewer_steps_at_most_make_a_deadline_possible(start: Start) -> None:
    clock = Clock()
    engine = start(TimedRuntime(1, clock), clock=clock)
    measure(engine)
    deadline = clock() + 4 * STEP
    refusal(engine, deadline)
    caller = counting(STEPS - 1, 200, max_length=4, deadline=deadline)
    submit(engine, caller)
    assert caller.answer().token_ids == [200, 201, 202, 203]


def test_what_runs_and_what_waits_ahead_count(start: Start) -> None:
    clock, gate = Clock(), threading.Semaphore(STEPS)
    runtime = TimedRuntime(1, clock, gate)
    engine = start(runtime, clock=clock)
    measure(engine)
    running, ahead = counting(STEPS - 1, 200), counting(STEPS - 1, 300)
    submit(engine, running)
    gate.release(3)
    for _ in range(STEPS + 4):  # it is in its fourth step
        wait_for_step(runtime)
    submit(engine, ahead)
    now = clock()
    turn = (2 * STEPS - 3) * STEP
    assert refusal(engine, now + turn + STEPS * STEP - 0.01) == pytest.approx(turn)
    # Nobody that waits is ahead of a higher priority.
    turn -= STEPS * STEP
    assert refusal(engine, now + turn + STEPS * STEP - 0.01, priority=1) == pytest.approx(turn)
    caller = counting(STEPS - 1, 400, deadline=now + turn + STEPS * STEP, priority=1)
    submit(engine, caller)
    gate.release(100)
    assert [type(c.result()) for c in (running, ahead, caller)] == [Completion] * 3
    assert runtime.encoded[-2:] == [caller.source, ahead.source]
    assert_empty(engine)


def test_a_step_counts_as_long_as_it_takes_with_the_rows_that_there_will_be(start: Start) -> None:
    clock, gate = Clock(), threading.Semaphore(STEPS)
    runtime = TimedRuntime(3, clock, gate, base_seconds=STEP, row_seconds=STEP)
    engine = start(runtime, clock=clock)
    measure(engine)  # one row: 2/8 s
    callers = [counting(STEPS - 1, 200), counting(STEPS - 1, 300)]
    submit(engine, callers[0])
    for _ in range(STEPS + 1):
        wait_for_step(runtime)
    submit(engine, callers[1])
    gate.release()
    wait_for_step(runtime)
    gate.release()
    wait_for_step(runtime)  # now two rows were measured: 3/8 s, so three take 4/8 s
    needed = STEPS * 4 * STEP
    assert refusal(engine, clock() + needed - 0.01) == 0.02
    callers.append(counting(STEPS - 1, 400, deadline=clock() + needed))
    submit(engine, callers[2])
    gate.release(100)
    assert [type(caller.result()) for caller in callers] == [Completion] * 3


def test_an_engine_that_was_idle_for_long_measures_again_instead_of_refusing(start: Start) -> None:
    clock = Clock()
    engine = start(TimedRuntime(1, clock), clock=clock)
    measure(engine)
    refusal(engine, clock() + STEP)
    clock.now += 1.5
    patience = time.monotonic() + PATIENCE
    while True:
        caller = counting(STEPS - 1, 200, deadline=clock() + STEP)
        try:
            submit(engine, caller)
            break
        except Overloaded:  # the lane is still on its way to sleep
            assert time.monotonic() < patience
    assert caller.request.unjudged
    assert isinstance(caller.result(), DeadlineExceeded)


def test_an_aged_request_is_decoded_before_a_higher_priority(start: Start) -> None:
    clock, gate = Clock(), threading.Semaphore(0)
    runtime = TimedRuntime(1, clock, gate)
    engine = start(runtime, clock=clock, ageing_seconds=2.0)
    callers = [counting(1, 100), counting(1, 200), counting(1, 300, priority=9), counting(1, 400, priority=9)]
    submit(engine, callers[0])
    wait_for_step(runtime)
    submit(engine, callers[1])
    clock.now += 17.5  # not yet nine periods of ageing
    submit(engine, callers[2])
    clock.now += 1.0  # more than nine
    submit(engine, callers[3])
    gate.release(100)
    for caller in callers:
        assert isinstance(caller.result(), Completion)
    assert [source[1] for source in runtime.encoded] == [100, 300, 200, 400]
