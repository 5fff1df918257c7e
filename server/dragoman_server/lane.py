"""One runtime, its rows and its thread: schedule -> encode -> step -> advance -> rows, without end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence

import structlog

from dragoman_server.decoding.batch import Batch, Copies
from dragoman_server.decoding.ranking import n_best
from dragoman_server.decoding.table import Task
from dragoman_server.errors import Cancelled, DeadlineExceeded, Internal, Unavailable
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.rows import RowTable
from dragoman_server.runtime import Runtime, StepOutput
from dragoman_server.scheduler import Plan

_log = structlog.get_logger(__name__)

_SMOOTHING = 0.1


class Lane:
    """Requests that run have rows; ``next_plan`` waits for work and returns None when the lane has to end."""

    def __init__(
        self, number: int, runtime: Runtime, *, bos: int, eos: int, next_plan: Callable[[Lane], Plan | None]
    ) -> None:
        self.number = number
        self.runtime = runtime
        self.running: list[Request] = []
        """Everything that has rows."""
        self.step_seconds = 0.0
        self.steps_per_request = 0.0
        self.busy = False
        """Between two plans; guarded by the engine's lock."""
        self._batch = Batch(runtime, bos=bos, eos=eos)
        self._watched: list[Request] = []
        """Those of the running that want to hear of their progress."""
        self._next_plan = next_plan
        self._steps = 0
        self._row_steps = 0

    @property
    def rows(self) -> RowTable:
        """How many rows are in use."""
        return self._batch.rows

    def run(self) -> None:
        """The life of the lane."""
        while (plan := self._next_plan(self)) is not None:
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
        if plan.leavers:
            self._release(plan.leavers, self._batch.leave(plan.leavers))
        for request in (*plan.leavers, *plan.dropped):
            end([request], Cancelled("cancelled") if request.cancelled else DeadlineExceeded("the deadline passed"))

    def _join(self, joiners: list[Request]) -> None:
        if not joiners:
            return
        began = time.monotonic()
        for request in joiners:
            request.lane, request.joined = self.number, began
            request.steps_before, request.row_steps_before = self._steps, self._row_steps
        self.running += joiners
        self._watched += [request for request in joiners if request.progress]
        rows = [self._batch.join(request) for request in joiners]
        try:
            self.runtime.encode(rows, [request.source_ids for request in joiners])
        except Exception as error:
            # The rows that run already were not touched.
            self._release(joiners, self._batch.leave(joiners))
            self._fail(joiners, error)
            return
        encode_ms = (time.monotonic() - began) * 1e3
        for request in joiners:
            request.encode_ms = encode_ms

    def _step(self) -> StepOutput:
        batch, began = self._batch, time.perf_counter()
        output = self.runtime.step(batch.tokens, with_logits=batch.needs_logits, with_attention=batch.needs_attention)
        self._steps += 1
        self._row_steps += batch.rows.used
        self.step_seconds = _smooth(self.step_seconds, time.perf_counter() - began)
        return output

    def _advance(self, output: StepOutput) -> None:
        advance = self._batch.advance(output)
        # Rows first: whoever hears of the end finds them free.
        self._release((*advance.finished, *advance.failed), advance.copies)
        if self._watched:
            self._tell()
        for request in map(_request, advance.finished):
            request.steps = self._steps - request.steps_before
            request.row_steps = self._row_steps - request.row_steps_before
            self.steps_per_request = _smooth(self.steps_per_request, request.steps)
            wanted = max(request.options.num_hypotheses, request.options.alternatives)
            end([request], Completion(n_best(request.answers, wanted), request.receipt()))
        for task, error in advance.failed.items():
            self._fail([_request(task)], error)

    def _tell(self) -> None:
        """Let those that want to hear know how far they are; a caller that raises hurts nobody, but hears no more."""
        for request in list(self._watched):
            try:
                assert request.progress
                request.progress(self._batch.progress(request))
            except Exception as error:
                self._watched.remove(request)
                _log.error("progress could not be delivered", request=request.number, exc_info=error)

    def _release(self, requests: Sequence[Task], copies: Copies) -> None:
        """The requests are not decoded any more, and what stands in other rows has moved."""
        if requests:
            gone = set(requests)
            self.running = [request for request in self.running if request not in gone]
            self._watched = [request for request in self._watched if request not in gone]
        for moves in copies:
            self.runtime.copy(moves)

    def _clear(self) -> list[Request]:
        requests, self.running, self._watched = self.running, [], []
        self._batch.clear()
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


def _request(task: Task) -> Request:
    assert isinstance(task, Request)
    return task
