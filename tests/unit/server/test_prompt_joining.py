"""How prompts join a running batch chunk by chunk, and how each of them ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import structlog.testing

from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import Cancelled, DeadlineExceeded, Internal, Overloaded, Unavailable
from dragoman_server.prompt_engine import PromptEngine
from dragoman_server.request import Completion
from dragoman_server.runtime import StepOutput
from tests.unit.server.conftest import Started
from tests.unit.server.fake_runtime import PATIENCE, Caller, Clock
from tests.unit.server.prompt_callers import (
    Start,
    assert_empty,
    engine_of,
    expected_of,
    forever,
    submit,
    wait_for_work,
)
from tests.unit.server.prompt_reference import BROKEN, ToyPromptRuntime
from tests.unit.server.toy_model import BOS


@pytest.fixture
def start(started: Started) -> Start:
    def make(*runtimes: ToyPromptRuntime, **others: Callable[[], float]) -> PromptEngine:
        return started.add(engine_of(*runtimes, **others), *runtimes)

    return make


def test_a_long_prompt_comes_in_one_chunk_between_two_steps_and_nobody_else_meanwhile(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = ToyPromptRuntime(8, gate=gate)
    engine, running, long, other = start(runtime), forever(), forever(*[5] * 10, max_length=3), forever(6, 7)
    submit(engine, running)
    wait_for_work(runtime)
    submit(engine, long, other)
    gate.release(100)
    for caller in (running, long, other):
        assert isinstance(caller.result(), Completion)
    events = runtime.events
    assert events[:8] == [
        "admit 0",
        "step 1",
        "prefill 0 4",
        "step 1",
        "prefill 4 8",
        "step 1",
        "prefill 8 10",
        "admit 10",
    ]
    # The step after, both; then the last one's, whose chunk comes between two steps too.
    assert events[7:12] == ["admit 10", "step 2", "prefill 0 2", "admit 2", "step 3"]
    assert long.completion().receipt.encode_ms > 0
    assert long.completion().receipt.steps == 3


def test_short_prompts_join_together_as_many_as_a_chunk_holds(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = ToyPromptRuntime(8, gate=gate, chunk=6)
    engine, running = start(runtime), forever()
    submit(engine, running)
    wait_for_work(runtime)
    callers = [forever(*prompt) for prompt in ((5,), (6, 7), (8, 9, 10), ())]
    submit(engine, *callers)
    gate.release(100)
    for caller in callers:
        assert isinstance(caller.result(), Completion)
    assert runtime.events[2:7] == ["prefill 0 1", "admit 1", "prefill 0 2", "admit 2", "step 3"]


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_prompt_that_is_given_up_between_two_chunks_is_read_no_further(start: Start, how: str) -> None:
    gate, clock = threading.Semaphore(0), Clock()
    runtime = ToyPromptRuntime(4, gate=gate)
    engine = start(runtime, clock=clock)
    given_up, next_one = forever(*[5] * 20, max_length=3, deadline=clock.now + 9), forever(*[6] * 6, max_length=3)
    submit(engine, given_up, next_one)
    wait_for_work(runtime)
    gate.release()
    wait_for_work(runtime)
    if how == "cancel":
        given_up.request.cancel()
    else:
        clock.now += 10
    gate.release(100)
    assert isinstance(given_up.result(), Cancelled if how == "cancel" else DeadlineExceeded)
    assert next_one.answer().token_ids == list(expected_of(next_one)[0].tokens)
    assert runtime.events[:5] == ["prefill 0 4", "prefill 4 8", "prefill 0 4", "prefill 4 6", "admit 6"]
    assert_empty(engine)


def test_a_prefill_that_fails_fails_its_request_alone(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = ToyPromptRuntime(6, gate=gate)
    engine, running = start(runtime), forever()
    submit(engine, running)
    wait_for_work(runtime)
    broken, others = forever(5, BROKEN, 6), [forever(7), forever(*[8] * 9)]
    with structlog.testing.capture_logs() as logs:
        submit(engine, broken, *others)
        gate.release(1000)
        outcome = broken.result()
        for caller in (running, *others):
            assert caller.answer().token_ids == list(expected_of(caller)[0].tokens)
    assert isinstance(outcome, Internal)
    assert "secret" not in str(outcome)
    assert [(entry["incident"], entry["requests"]) for entry in logs] == [(outcome.incident, 1)]
    assert_empty(engine)


def test_a_row_that_cannot_be_admitted_is_given_back(start: Start) -> None:
    class Refusing(ToyPromptRuntime):
        def admit(self, row: int, length: int) -> None:
            super().admit(row, length)
            if length == 2:
                raise RuntimeError("admit: secret text")

    engine = start(Refusing(6, chunk=10))
    callers = [forever(5), forever(6, 7), forever(8, 9, 10), forever()]
    with structlog.testing.capture_logs():
        submit(engine, *callers)
        assert isinstance(callers[1].result(), Internal)
        for caller in (callers[0], *callers[2:]):
            assert caller.answer().token_ids == list(expected_of(caller)[0].tokens)
    assert_empty(engine)


def test_stop_ends_what_is_still_being_read(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = ToyPromptRuntime(4, gate=gate)
    engine, reading, waiting = start(runtime), forever(*[5] * 20), forever(6)
    submit(engine, reading, waiting)
    wait_for_work(runtime)
    stopping = threading.Thread(target=engine.stop, args=(0,))
    stopping.start()
    assert isinstance(waiting.result(), Unavailable)
    gate.release(100)
    stopping.join(PATIENCE)
    assert isinstance(reading.result(), Unavailable)
    assert_empty(engine)


def test_drain_waits_for_what_is_being_read(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = ToyPromptRuntime(4, gate=gate)
    engine, caller = start(runtime), forever(*[5] * 15, max_length=4)
    submit(engine, caller)
    wait_for_work(runtime)
    stopping = threading.Thread(target=engine.stop, args=(PATIENCE,))
    stopping.start()
    gate.release(100)
    stopping.join(PATIENCE)
    assert caller.answer().token_ids == list(expected_of(caller)[0].tokens)


def test_a_request_without_room_is_refused(start: Start) -> None:
    engine = start(ToyPromptRuntime(2, capacity=12))
    wide, attending = DecodingOptions(max_length=5, beam_size=3), DecodingOptions(max_length=5, with_attention=True)
    cases: Sequence[tuple[Caller, str]] = [
        (Caller([]), "prompt has 0 tokens: at least 1"),
        (forever(5, 6, 7, max_length=10), "prompt and max_length take 13 positions: 1 to 12"),
        (forever(max_length=13), "max_length = 13: 1 to 12"),
        (Caller([BOS], wide), "3 hypotheses at one time: 1 to 2"),
        (Caller([BOS], attending), "attention to a source was asked for: there is none"),
    ]
    for caller, message in cases:
        with pytest.raises(ValueError, match=message):
            submit(engine, caller)
    full = forever(5, 6, 7, max_length=9)
    submit(engine, full)
    assert full.answer().token_ids == list(expected_of(full)[0].tokens)


class TimedRuntime(ToyPromptRuntime):
    """A second for each token that is prefilled, and for a step."""

    def __init__(self, max_rows: int, clock: Clock, gate: threading.Semaphore) -> None:
        super().__init__(max_rows, capacity=60, gate=gate)
        self._clock = clock

    def prefill(self, tokens: Sequence[int], begin: int) -> None:
        super().prefill(tokens, begin)
        self._clock.now += len(tokens)

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        output = super().step(tokens, with_logits=with_logits, with_attention=with_attention)
        self._clock.now += 1
        return output


def test_deadlines_are_judged_by_what_prefilling_takes_and_how_far_texts_go_on(start: Start) -> None:
    gate, clock = threading.Semaphore(0), Clock()
    runtime = TimedRuntime(4, clock, gate)
    engine = start(runtime, clock=clock)
    for tokens, work in ((8, 2 + 10), (16, 4 + 10)):
        gate.release(work)
        caller = forever(*[5] * tokens, max_length=10)
        submit(engine, caller)
        assert caller.completion().receipt.encode_ms == pytest.approx(1e3 * tokens)
        wait_for_work(runtime, work)
    submit(engine, forever(max_length=20))
    wait_for_work(runtime)
    # Some 16 seconds of prefilling, a step of the running row between two of the four chunks, and ten steps.
    late, in_time = (forever(*[5] * 16, max_length=10, deadline=clock.now + left) for left in (27.5, 29.5))
    with pytest.raises(Overloaded, match="the deadline cannot be met"):
        submit(engine, late)
    submit(engine, in_time)
    gate.release(100)
    assert isinstance(in_time.result(), Completion)
