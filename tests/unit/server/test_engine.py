from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import structlog.testing

from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.engine import Engine
from dragoman_server.errors import Cancelled, DeadlineExceeded, Internal, Overloaded, Unavailable
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.rows import Move
from dragoman_server.runtime import OnnxRuntime, Runtime, StepOutput
from tests.unit.server import tiny

BOS, EOS, NAN, BREAK_STEP, BREAK_ENCODE = 2, 3, 90, 91, 92
PATIENCE = 20.0


class FakeRuntime:
    """Counts up from the source's second token, for as many steps as its first; checks what it is fed.

    While ``gate`` is a semaphore, each step needs a permit, so a test decides when a step ends.
    """

    def __init__(self, max_rows: int, gate: threading.Semaphore | None = None) -> None:
        self.max_rows, self.source_capacity, self.target_capacity, self.top_k = max_rows, 64, 200, 2
        self.gate = gate
        self.encoded: list[Sequence[int]] = []
        self.warm = False
        self.stepping = threading.Semaphore(0)
        self._rows: list[tuple[Sequence[int], int]] = [((), 0)] * max_rows

    def warm_up(self) -> None:
        self.warm = True

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        self.encoded += sources
        if any(BREAK_ENCODE in source for source in sources):
            raise RuntimeError("encoder: secret text")
        for row, source in zip(rows, sources, strict=True):
            self._rows[row] = (source, 0)

    def copy(self, moves: Sequence[Move]) -> None:
        sources, targets = [move.source for move in moves], [move.target for move in moves]
        assert not set(sources) & set(targets)
        for source, target in zip(sources, targets, strict=True):
            self._rows[target] = self._rows[source]

    def step(
        self, tokens: Sequence[int] | npt.NDArray[np.int64], *, with_logits: bool = False, with_attention: bool = False
    ) -> StepOutput:
        assert not with_logits, "greedy needs none"
        self.stepping.release()
        if self.gate is not None:
            assert self.gate.acquire(timeout=PATIENCE)
        ids, scores = [], []
        for row, token in enumerate(tokens):
            (length, first, *_), count = self._rows[row]
            assert token == (first + count - 1 if count else BOS), "a row got another row's token"
            if first == BREAK_STEP and count == 1:
                raise RuntimeError("step: secret text")
            ids.append([EOS if count == length else first + count, 0])
            scores.append([np.nan if first == NAN and count == 1 else -0.5, -1.0])
            self._rows[row] = (self._rows[row][0], count + 1)
        return StepOutput(np.array(scores, np.float32), np.array(ids, np.int64))


@dataclass
class Caller:
    """A request and what came of it."""

    source: list[int]
    options: DecodingOptions = DecodingOptions(max_length=200)  # noqa: RUF009  (frozen)
    deadline: float | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.request = Request(self.source, self.options, self._reply, deadline=self.deadline)

    def _reply(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.ended.set()

    def result(self) -> Outcome:
        assert self.ended.wait(PATIENCE)
        assert len(self.outcomes) == 1
        return self.outcomes[0]

    def completion(self) -> Completion:
        outcome = self.result()
        assert isinstance(outcome, Completion)
        return outcome

    def answer(self) -> Answer:
        return self.completion().best


def counting(length: int, first: int = 100, max_length: int = 200, deadline: float | None = None) -> Caller:
    return Caller([length, first, EOS], DecodingOptions(max_length=max_length), deadline)


Start = Callable[..., Engine]


@pytest.fixture
def start() -> Iterator[Start]:
    engines: list[Engine] = []
    gates: list[threading.Semaphore] = []

    def build(*runtimes: Runtime, max_waiting: int = 100, max_waiting_tokens: int = 10_000) -> Engine:
        gates.extend(r.gate for r in runtimes if isinstance(r, FakeRuntime) and r.gate)
        engine = Engine(runtimes, bos=BOS, eos=EOS, max_waiting=max_waiting, max_waiting_tokens=max_waiting_tokens)
        engines.append(engine)
        engine.start()
        return engine

    yield build
    for gate in gates:
        gate.release(10_000)
    for engine in engines:
        engine.stop(0)


def submit(engine: Engine, *callers: Caller) -> None:
    for caller in callers:
        engine.submit(caller.request)


def wait_for_step(runtime: FakeRuntime) -> None:
    """Until a step has begun that had not been waited for."""
    assert runtime.stepping.acquire(timeout=PATIENCE)


def assert_empty(engine: Engine) -> None:
    state = engine.state()
    assert (state.waiting, state.waiting_tokens, state.running, state.rows_used) == (0, 0, 0, 0)


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
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(3, gate)
    engine = start(runtime)
    callers = [counting(50, 100), counting(50, 200), counting(5, 300)]
    submit(engine, callers[0])
    wait_for_step(runtime)
    submit(engine, *callers[1:])
    gate.release()
    wait_for_step(runtime)
    if how == "cancel":
        callers[0].request.cancel()
    else:
        callers[0].request.deadline = time.monotonic()
    gate.release()
    assert isinstance(callers[0].result(), Cancelled if how == "cancel" else DeadlineExceeded)
    wait_for_step(runtime)
    assert engine.state().rows_used == 2
    gate.release(100)
    assert callers[1].answer().token_ids == list(range(200, 250))
    assert callers[2].answer().token_ids == list(range(300, 305))
    assert_empty(engine)


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


def test_a_deadline_that_would_pass_in_the_queue_is_refused_at_once(start: Start) -> None:
    gate = threading.Semaphore(0)
    runtime = FakeRuntime(1, gate)
    engine, slow, running, queued = start(runtime), counting(0), counting(1, 200), counting(1, 300)
    submit(engine, slow)
    wait_for_step(runtime)
    time.sleep(0.05)  # the step is measured: it took at least this long
    gate.release()
    slow.completion()
    submit(engine, running)
    wait_for_step(runtime)
    submit(engine, queued)
    with pytest.raises(Overloaded, match="deadline") as caught:
        submit(engine, counting(1, deadline=time.monotonic() + 0.04))
    assert caught.value.retry_after >= 0.05
    gate.release(100)
    assert isinstance(queued.result(), Completion)


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


def test_a_request_without_room_is_refused(start: Start) -> None:
    engine = start(FakeRuntime(1))
    with pytest.raises(ValueError, match="source has 65 tokens: 1 to 64"):
        submit(engine, Caller([1] * 65))
    for max_length in (0, 201):
        with pytest.raises(ValueError, match=f"max_length = {max_length}: 1 to 200"):
            submit(engine, counting(1, max_length=max_length))
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
