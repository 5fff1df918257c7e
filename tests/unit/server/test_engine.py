from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import structlog.testing

from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.decoding.hypothesis import FinishReason
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import Internal
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.runtime import OnnxRuntime
from tests.unit.server import tiny
from tests.unit.server.fake_runtime import (
    BREAK_ENCODE,
    BREAK_STEP,
    EOS,
    NAN,
    PATIENCE,
    Caller,
    FakeRuntime,
    Start,
    assert_empty,
    counting,
    submit,
    wait_for_step,
)


def test_decodes_to_the_end_of_sentence_with_a_receipt(start: Start) -> None:
    runtime = FakeRuntime(2)
    engine, caller = start(runtime), counting(3)
    assert runtime.warm
    submit(engine, caller)
    answer = caller.answer()
    assert answer.token_ids == [100, 101, 102]
    assert answer.log_probs == [-0.5] * 4
    assert answer.finish_reason is FinishReason.STOP
    receipt = caller.completion().receipt
    assert (receipt.steps, receipt.batch_mean, receipt.lane) == (4, 1.0, 0)
    assert receipt.queue_ms >= 0
    assert receipt.encode_ms > 0
    assert_empty(engine)
    assert engine.state().step_seconds[0] > 0


def test_max_length_ends_decoding(start: Start) -> None:
    engine, caller = start(FakeRuntime(2)), counting(9, max_length=4)
    submit(engine, caller)
    assert caller.answer().finish_reason is FinishReason.LENGTH
    assert caller.answer().token_ids == [100, 101, 102, 103]


def test_more_requests_than_rows_of_mixed_lengths_on_several_lanes(start: Start) -> None:
    engine = start(FakeRuntime(3), FakeRuntime(5))
    callers = [counting(number % 7, 100 + number) for number in range(80)]
    submit(engine, *callers)
    for number, caller in enumerate(callers):
        assert caller.answer().token_ids == list(range(100 + number, 100 + number + number % 7))
    assert_empty(engine)
    assert engine.state().rows_free == 8


def test_a_busy_lane_leaves_a_new_request_to_an_idle_one(start: Start) -> None:
    gates = [threading.Semaphore(0), threading.Semaphore(0)]
    runtimes = [FakeRuntime(8, gate) for gate in gates]
    engine, first, second = start(*runtimes), counting(1), counting(1, 200)
    submit(engine, first)
    deadline = time.monotonic() + PATIENCE
    while first.request.lane < 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    busy = first.request.lane
    submit(engine, second)
    gates[1 - busy].release(10)
    assert second.completion().receipt.lane == 1 - busy
    gates[busy].release(10)
    assert first.completion().receipt.lane == busy


def test_a_row_without_finite_scores_fails_alone(start: Start) -> None:
    engine = start(FakeRuntime(3))
    callers = [counting(4, 100), counting(4, NAN), counting(4, 200)]
    with structlog.testing.capture_logs() as logs:
        submit(engine, *callers)
        outcome = callers[1].result()
        assert callers[0].answer().token_ids == [100, 101, 102, 103]
        assert callers[2].answer().token_ids == [200, 201, 202, 203]
    assert isinstance(outcome, Internal)
    assert [(entry["incident"], entry["requests"]) for entry in logs] == [(outcome.incident, 1)]
    assert_empty(engine)


def test_an_exception_in_a_step_fails_the_lanes_requests_and_the_lane_goes_on(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(2, gate)
    engine = start(runtime)
    callers = [counting(9, 100), counting(9, BREAK_STEP), counting(2, 200)]
    with structlog.testing.capture_logs() as logs:
        submit(engine, callers[0])
        wait_for_step(runtime)
        submit(engine, *callers[1:])
        gate.release(100)
        outcomes = [caller.result() for caller in callers[:2]]
        assert callers[2].answer().token_ids == [200, 201]
    assert all(isinstance(outcome, Internal) and "secret" not in str(outcome) for outcome in outcomes)
    assert {str(outcome) for outcome in outcomes} == {f"internal error, incident {logs[0]['incident']}"}
    assert_empty(engine)


def test_an_exception_while_encoding_fails_the_joiners_alone(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(4, gate)
    engine, running, broken, later = start(runtime), counting(5), counting(1, BREAK_ENCODE), counting(1, 300)
    with structlog.testing.capture_logs() as logs:
        submit(engine, running)
        wait_for_step(runtime)
        submit(engine, broken)
        gate.release(100)
        assert isinstance(broken.result(), Internal)
        assert running.answer().token_ids == list(range(100, 105))
        submit(engine, later)
        assert later.answer().token_ids == [300]
    assert len(logs) == 1
    assert_empty(engine)


def test_a_reply_that_raises_hurts_nobody_else(start: Start) -> None:
    engine, caller = start(FakeRuntime(1)), counting(1)

    def reply(outcome: Outcome) -> None:
        raise RuntimeError("the loop is closed")

    with structlog.testing.capture_logs() as logs:
        engine.submit(Request([1, 100, EOS], DecodingOptions(max_length=5), reply))
        submit(engine, caller)
        assert isinstance(caller.result(), Completion)
    assert [entry["outcome"] for entry in logs] == ["Completion"]


def test_a_request_without_room_is_refused(start: Start) -> None:
    engine = start(FakeRuntime(1))
    with pytest.raises(ValueError, match="source has 65 tokens: 1 to 64"):
        submit(engine, Caller([1] * 65))
    for max_length in (0, 201):
        with pytest.raises(ValueError, match=f"max_length = {max_length}: 1 to 200"):
            submit(engine, counting(1, max_length=max_length))
    for priority in (-1, 10):
        with pytest.raises(ValueError, match=f"priority = {priority}: 0 to 9"):
            submit(engine, counting(1, priority=priority))
    with pytest.raises(ValueError, match="2 hypotheses at one time: 1 to 1"):
        submit(engine, Caller([1, 100, EOS], DecodingOptions(max_length=5, beam_size=2)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return load_bundle(tiny.write_bundle(Path(tmp_path_factory.mktemp("models")) / "1"), "fp32")


def onnx_lane(bundle: LoadedBundle, max_rows: int) -> OnnxRuntime:
    manifest = bundle.manifest
    return OnnxRuntime(
        bundle.encoder, bundle.decoder, dimensions=manifest.dimensions, limits=manifest.limits, max_rows=max_rows
    )


def test_64_requests_together_get_what_each_gets_alone(start: Start, bundle: LoadedBundle) -> None:
    random = np.random.default_rng(3)
    texts = [
        ([tiny.DE, *random.integers(6, 290, random.integers(1, 30)).tolist(), tiny.EOS], int(random.integers(1, 25)))
        for _ in range(64)
    ]
    alone_engine, alone = start(onnx_lane(bundle, 1)), []
    for source, max_length in texts:
        caller = Caller(source, DecodingOptions(max_length=max_length))
        submit(alone_engine, caller)
        alone.append(caller.completion())
    # Fewer rows than requests, so rows are moved, left and taken again.
    engine = start(onnx_lane(bundle, 10), onnx_lane(bundle, 10))
    callers = [Caller(source, DecodingOptions(max_length=max_length)) for source, max_length in texts]
    submit(engine, *callers)
    together = [caller.completion() for caller in callers]
    assert [c.best.token_ids for c in together] == [c.best.token_ids for c in alone]
    assert [c.best.finish_reason for c in together] == [c.best.finish_reason for c in alone]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.best.log_probs, b.best.log_probs, atol=1e-4)
    assert {c.receipt.lane for c in together} == {0, 1}
    assert max(c.receipt.batch_mean for c in together) > 4
    assert len({tuple(c.best.token_ids) for c in alone}) > 32
    assert_empty(engine)
