"""Continuous batching: lanes that schedule, encode, step and advance, until there is nothing to do."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from dragoman_server.decoding.greedy import NonFiniteScoreError, advance
from dragoman_server.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    Overloaded,
    Unavailable,
)
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.rows import RowTable
from dragoman_server.runtime import Runtime, StepOutput
from dragoman_server.scheduler import Plan, Scheduler

_log = structlog.get_logger(__name__)

_SMOOTHING = 0.1
_RETRY_SECONDS = (0.02, 30.0)


@dataclass(frozen=True)
class EngineState:
    """A glance at the engine; its parts may be a step apart."""

    waiting: int
    waiting_tokens: int
    running: int
    rows_used: int
    rows_free: int
    step_seconds: tuple[float, ...]
    """Per lane: moving average of a step's duration, 0 before the first."""


class Engine:
    """Decodes requests on one thread per runtime; every request that ``submit`` takes ends exactly once.

    ``max_waiting`` and ``max_waiting_tokens`` (source tokens) bound the queue that all lanes share; ``encode_tokens``
    bounds the source tokens that one lane encodes between two steps.
    """

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        *,
        bos: int,
        eos: int,
        max_waiting: int,
        max_waiting_tokens: int,
        encode_tokens: int = 512,
    ) -> None:
        self._scheduler = Scheduler(
            [runtime.max_rows for runtime in runtimes],
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            encode_tokens=encode_tokens,
        )
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._drained = threading.Condition(lock)
        self._lanes = [_Lane(number, runtime, bos, eos, self) for number, runtime in enumerate(runtimes)]
        self._threads: list[threading.Thread] = []
        self._source_capacity = min(runtime.source_capacity for runtime in runtimes)
        self._target_capacity = min(runtime.target_capacity for runtime in runtimes)
        self._accepting = False
        self._ending = False

    def start(self) -> None:
        """Warm every runtime up and start the lanes. Once."""
        assert not self._threads, "started before"
        for lane in self._lanes:
            lane.runtime.warm_up()
        for lane in self._lanes:
            thread = threading.Thread(target=lane.run, name=f"dragoman-lane-{lane.number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        with self._work:
            self._accepting = not self._ending

    def submit(self, request: Request) -> None:
        """Queue the request. Any thread; does not wait.

        Raises Overloaded where the queue is full or the deadline would pass in it, Unavailable before ``start`` and
        after ``stop``, and ValueError for a request that no runtime has room for.
        """
        if not 1 <= len(request.source_ids) <= self._source_capacity:
            raise ValueError(f"source has {len(request.source_ids)} tokens: 1 to {self._source_capacity}")
        if not 1 <= request.max_length <= self._target_capacity:
            raise ValueError(f"max_length = {request.max_length}: 1 to {self._target_capacity}")
        now = time.monotonic()
        with self._work:
            if not self._accepting:
                raise Unavailable("the server is starting or shutting down")
            wait = self._expected_wait()
            if request.deadline is not None and now < request.deadline <= now + wait:
                raise Overloaded("the deadline would pass in the queue", _clamp(wait))
            if not self._scheduler.offer(request, now):
                raise Overloaded("the queue is full", _clamp(wait))
            self._work.notify()

    def stop(self, grace: float) -> None:
        """Refuse new requests, let the others finish for ``grace`` seconds, then end them with Unavailable.

        Blocks until the lanes have ended; a step that is running is never cut short.
        """
        with self._work:
            self._accepting = False
            self._drained.wait_for(lambda: self._ending or self._idle(), timeout=grace)
            self._ending = True
            waited = self._scheduler.clear()
            self._work.notify_all()
            self._drained.notify_all()
        end(waited, Unavailable("the server is shutting down"))
        for thread in self._threads:
            thread.join()

    def state(self) -> EngineState:
        """What waits and what runs."""
        with self._work:
            running = sum(len(lane.running) for lane in self._lanes)
            return EngineState(
                waiting=self._scheduler.waiting,
                waiting_tokens=self._scheduler.waiting_tokens,
                running=running,
                rows_used=sum(lane.rows.used for lane in self._lanes),
                rows_free=sum(lane.rows.free_rows for lane in self._lanes),
                step_seconds=tuple(lane.step_seconds for lane in self._lanes),
            )

    def next_plan(self, lane: _Lane) -> Plan | None:
        """The lane's next plan, waiting for work where it has none; None when the engine ends."""
        with self._work:
            while not self._ending:
                plan = self._scheduler.schedule(lane.number, lane.running, time.monotonic())
                lane.busy = bool(plan or lane.running)
                if lane.busy:
                    return plan
                # An idle lane is always allowed to join, so here the queue is empty: nothing can expire or be
                # cancelled while it sleeps.
                self._drained.notify_all()
                self._work.wait()
            return None

    def _idle(self) -> bool:
        return not self._scheduler.waiting and not any(lane.busy for lane in self._lanes)

    def _expected_wait(self) -> float:
        """Seconds until a request that queues now would join, by the measured steps. 0 where none waits."""
        rows = sum(lane.rows.capacity for lane in self._lanes)
        request_seconds = sum(lane.steps_per_request * lane.step_seconds for lane in self._lanes) / len(self._lanes)
        return self._scheduler.waiting * request_seconds / rows


class _Lane:
    """One runtime, its rows and its thread. ``running[i]`` is the request of row i."""

    def __init__(self, number: int, runtime: Runtime, bos: int, eos: int, engine: Engine) -> None:
        self.number = number
        self.runtime = runtime
        self.rows = RowTable(runtime.max_rows)
        self.running: list[Request] = []
        self.step_seconds = 0.0
        self.steps_per_request = 0.0
        self.busy = False
        """Between two plans; guarded by the engine's lock."""
        self._bos = bos
        self._eos = eos
        self._engine = engine

    def run(self) -> None:
        """The life of the lane."""
        while (plan := self._engine.next_plan(self)) is not None:
            involved = [*self.running, *plan.joiners, *plan.dropped]
            try:
                self._leave(plan)
                self._join(plan.joiners)
                if self.running:
                    self._advance(self._step())
            except Exception as error:
                self._clear()
                self._fail(involved, error)
        abandoned = self._clear()
        end(abandoned, Unavailable("the server is shutting down"))

    def _leave(self, plan: Plan) -> None:
        self._release(plan.leavers)
        for request in (*plan.leavers, *plan.dropped):
            end([request], Cancelled("cancelled") if request.cancelled else DeadlineExceeded("the deadline passed"))

    def _join(self, joiners: list[Request]) -> None:
        if not joiners:
            return
        began = time.monotonic()
        for request in joiners:
            request.lane, request.row, request.joined = self.number, self.rows.allocate(), began
            self.running.append(request)
        try:
            self.runtime.encode([request.row for request in joiners], [request.source_ids for request in joiners])
        except Exception as error:
            # The rows that run already were not touched.
            self._release(joiners)
            self._fail(joiners, error)
            return
        encode_ms = (time.monotonic() - began) * 1e3
        for request in joiners:
            request.encode_ms = encode_ms

    def _step(self) -> StepOutput:
        began = time.perf_counter()
        output = self.runtime.step([r.token_ids[-1] if r.token_ids else self._bos for r in self.running])
        self.step_seconds = _smooth(self.step_seconds, time.perf_counter() - began)
        return output

    def _advance(self, output: StepOutput) -> None:
        rows = len(self.running)
        ids, log_probs = output.top_ids[:, 0].tolist(), output.top_log_probs[:, 0].tolist()
        finished: list[tuple[Request, Completion]] = []
        failed: list[tuple[Request, NonFiniteScoreError]] = []
        for request, token_id, log_prob in zip(self.running, ids, log_probs, strict=True):
            request.steps += 1
            request.row_steps += rows
            try:
                reason = advance(request, token_id, log_prob, self._eos)
            except NonFiniteScoreError as fault:
                failed.append((request, fault))
                continue
            if reason is not None:
                completion = Completion(request.token_ids, request.log_probs, reason, request.receipt())
                finished.append((request, completion))
        if finished or failed:
            # Rows first: whoever hears of the end finds them free.
            self._release([request for request, _ in (*finished, *failed)])
        for request, completion in finished:
            self.steps_per_request = _smooth(self.steps_per_request, request.steps)
            end([request], completion)
        for request, error in failed:
            self._fail([request], error)

    def _release(self, requests: Iterable[Request]) -> None:
        """Free rows from the last to the first, so that no row is moved that is itself to be freed."""
        for request in sorted(requests, key=lambda request: request.row, reverse=True):
            move = self.rows.free(request.row)
            last = self.running.pop()
            if move is not None:
                self.runtime.move(*move)
                last.row = move.target
                self.running[move.target] = last

    def _clear(self) -> list[Request]:
        requests, self.running = self.running, []
        self.rows.clear()
        return requests

    def _fail(self, requests: Iterable[Request], error: Exception) -> None:
        incident = uuid.uuid4().hex
        failed = list(requests)
        _log.error("decoding failed", incident=incident, lane=self.number, requests=len(failed), exc_info=error)
        end(failed, Internal(incident))


def end(requests: Iterable[Request], outcome: Outcome) -> None:
    """Deliver the outcome; a reply channel that raises hurts nobody else."""
    for request in requests:
        try:
            request.finish(outcome)
        except Exception as error:
            kind = type(outcome).__name__
            _log.error("a reply could not be delivered", request=request.number, outcome=kind, exc_info=error)


def _smooth(average: float, value: float) -> float:
    return value if average == 0.0 else average + _SMOOTHING * (value - average)


def _clamp(seconds: float) -> float:
    low, high = _RETRY_SECONDS
    return min(high, max(low, seconds))
