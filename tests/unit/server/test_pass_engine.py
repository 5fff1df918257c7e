"""Texts that are read together in passes: who is in which, and who fails alone."""

from __future__ import annotations

import threading

import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_server.errors import Cancelled, DeadlineExceeded, Internal, Overloaded, Unavailable
from dragoman_server.pass_engine import PassEngine
from dragoman_server.pass_request import PassCompletion
from tests.unit.server.fake_passes import (
    BREAKS,
    NAN,
    FakePassRuntime,
    Reader,
    StartPasses,
    assert_empty,
    submit,
    wait_for_pass,
)
from tests.unit.server.fake_runtime import Clock


def test_a_text_is_read_in_one_pass_with_a_receipt(start_passes: StartPasses) -> None:
    runtime = FakePassRuntime()
    engine, reader = start_passes(runtime), Reader([2, 7, 3])
    assert runtime.warm
    submit(engine, reader)
    reader.assert_read()
    receipt = reader.completion().receipt
    assert (receipt.steps, receipt.batch_mean, receipt.lane) == (1, 1.0, 0)
    assert receipt.queue_ms >= 0
    assert receipt.encode_ms > 0
    assert_empty(engine)


def test_who_arrives_during_a_pass_is_read_together_in_the_next(start_passes: StartPasses) -> None:
    runtime = FakePassRuntime(4, threading.Semaphore(0))
    engine, readers = start_passes(runtime), [Reader([2, 10 + number, 3]) for number in range(6)]
    submit(engine, readers[0])
    wait_for_pass(runtime)
    assert engine.state().rows_used == 1
    assert engine.state().rows_free == 3
    submit(engine, *readers[1:])
    assert runtime.gate
    runtime.gate.release(100)
    for reader in readers:
        reader.assert_read()
    assert [len(ids) for ids in runtime.passes] == [1, 4, 1]
    assert readers[1].completion().receipt.batch_mean == 4


def test_a_pass_is_bounded_in_tokens_but_takes_any_single_text(start_passes: StartPasses) -> None:
    runtime = FakePassRuntime(4, threading.Semaphore(0))
    engine = start_passes(runtime, pass_tokens=10)
    readers = [Reader([5] * length) for length in (1, 30, 6, 4, 1)]
    submit(engine, readers[0])
    wait_for_pass(runtime)
    submit(engine, *readers[1:])
    assert runtime.gate
    runtime.gate.release(100)
    for reader in readers:
        reader.assert_read()
    assert [[len(ids) for ids in one] for one in runtime.passes] == [[1], [30], [6, 4], [1]]


def test_the_higher_priority_is_read_first_and_waiting_makes_up_for_it(start_passes: StartPasses) -> None:
    clock = Clock()
    runtime = FakePassRuntime(1, threading.Semaphore(0), clock)
    engine = start_passes(runtime, clock=clock)
    first, plain, urgent = Reader([1]), Reader([2]), Reader([3], priority=5)
    late = Reader([4], priority=5)
    submit(engine, first)
    wait_for_pass(runtime)
    submit(engine, plain, urgent)
    clock.now += 6.0  # six periods of ageing are worth more than five levels
    submit(engine, late)
    assert runtime.gate
    runtime.gate.release(100)
    for reader in (first, plain, urgent, late):
        reader.assert_read()
    assert [ids[0][0] for ids in runtime.passes] == [1, 3, 2, 4]


def test_several_lanes_share_the_queue(start_passes: StartPasses) -> None:
    runtimes = [FakePassRuntime(2, threading.Semaphore(0)) for _ in range(2)]
    engine, readers = start_passes(*runtimes), [Reader([2, 10 + number, 3]) for number in range(20)]
    submit(engine, *readers)
    for runtime in runtimes:
        wait_for_pass(runtime)  # both work, since one of them alone is held up
    for runtime in runtimes:
        assert runtime.gate
        runtime.gate.release(100)
    for reader in readers:
        reader.assert_read()
    assert {reader.completion().receipt.lane for reader in readers} == {0, 1}
    assert_empty(engine)


def test_a_text_that_breaks_the_pass_fails_alone(start_passes: StartPasses) -> None:
    runtime = FakePassRuntime(4, threading.Semaphore(0))
    engine = start_passes(runtime)
    readers = [Reader([1]), Reader([2, 10, 3]), Reader([2, BREAKS, 3]), Reader([2, 11, 3])]
    with structlog.testing.capture_logs() as logs:
        submit(engine, readers[0])
        wait_for_pass(runtime)
        submit(engine, *readers[1:])
        assert runtime.gate
        runtime.gate.release(100)
        outcome = readers[2].result()
        for reader in (readers[1], readers[3]):
            reader.assert_read()
    assert isinstance(outcome, Internal)
    assert [entry["incident"] for entry in logs if "incident" in entry] == [outcome.incident]
    assert "secret" not in str(outcome)
    after = Reader([2, 12, 3])
    submit(engine, after)
    after.assert_read()
    assert_empty(engine)


def test_numbers_that_are_none_fail_their_own_text_alone(start_passes: StartPasses) -> None:
    runtime = FakePassRuntime(4, threading.Semaphore(0))
    engine, readers = start_passes(runtime), [Reader([1]), Reader([2, NAN, 3]), Reader([2, 11, 3])]
    with structlog.testing.capture_logs():
        submit(engine, readers[0])
        wait_for_pass(runtime)
        submit(engine, *readers[1:])
        assert runtime.gate
        runtime.gate.release(100)
        assert isinstance(readers[1].result(), Internal)
        readers[2].assert_read()
    assert len(runtime.passes) == 2


def test_a_reply_that_raises_hurts_nobody_else(start_passes: StartPasses) -> None:
    runtime = FakePassRuntime(4, threading.Semaphore(0))
    engine, first, rude, other = start_passes(runtime), Reader([1]), Reader([2]), Reader([3])

    def reply(outcome: object) -> None:
        raise RuntimeError("gone")

    rude.request.reply = reply
    with structlog.testing.capture_logs() as logs:
        submit(engine, first)
        wait_for_pass(runtime)
        submit(engine, rude, other)
        assert runtime.gate
        runtime.gate.release(100)
        other.assert_read()
    assert [entry["event"] for entry in logs] == ["a reply could not be delivered"]


asked = st.fixed_dictionaries(
    {
        "ids": st.lists(st.sampled_from([1, 2, 3, 4, 5, 6, 7, BREAKS, NAN]), min_size=1, max_size=9),
        "priority": st.integers(0, 9),
        "patience": st.none() | st.sampled_from([-1.0, 0.5, 1000.0]),
        "cancelled": st.booleans(),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(asked, max_size=30), st.integers(1, 3), st.integers(1, 5), st.integers(1, 20), st.booleans())
def test_whatever_is_asked_each_request_ends_once_with_its_answer_alone(
    requests: list[dict[str, object]], lanes: int, max_rows: int, pass_tokens: int, drains: bool
) -> None:
    clock = Clock()
    gate = threading.Semaphore(0)
    runtimes = [FakePassRuntime(max_rows, gate, clock, token_seconds=0.125) for _ in range(lanes)]
    engine = PassEngine(runtimes, max_waiting=20, max_waiting_tokens=60, pass_tokens=pass_tokens, clock=clock)
    engine.start()
    readers = []
    with structlog.testing.capture_logs():
        for fields in requests:
            patience = fields["patience"]
            deadline = None if patience is None else clock.now + float(patience)  # type: ignore[arg-type]
            reader = Reader(list(fields["ids"]), deadline, int(fields["priority"]))  # type: ignore[call-overload]
            try:
                submit(engine, reader)
            except Overloaded:
                continue
            readers.append(reader)
            if fields["cancelled"]:
                reader.request.cancel()
            gate.release()
        gate.release(10_000)
        if drains:
            for reader in readers:
                reader.result()
        engine.stop(20 if drains else 0)
    for reader in readers:
        outcome = reader.result()
        if isinstance(outcome, PassCompletion):
            reader.assert_read()
        elif isinstance(outcome, Internal):
            assert {BREAKS, NAN} & set(reader.ids)
        elif isinstance(outcome, Cancelled):
            assert reader.request.cancelled
        elif isinstance(outcome, DeadlineExceeded):
            assert reader.deadline is not None
        else:
            assert isinstance(outcome, Unavailable)
            assert not drains
        assert reader.request.finished
    assert_empty(engine)
    assert all(sum(map(len, one)) <= pass_tokens or len(one) == 1 for runtime in runtimes for one in runtime.passes)
