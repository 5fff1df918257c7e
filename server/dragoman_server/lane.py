"""One runtime, its rows and its thread: schedule -> encode -> step -> advance -> rearrange rows, without end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence

import structlog

from dragoman_server.decoding.ending import answered
from dragoman_server.decoding.greedy import advance
from dragoman_server.decoding.hypothesis import Answer, Hypothesis
from dragoman_server.decoding.scores import StepScores
from dragoman_server.decoding.search import Search
from dragoman_server.errors import Cancelled, DeadlineExceeded, Internal, Unavailable
from dragoman_server.pace import Pace
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.row_changes import RowChanges
from dragoman_server.rows import RowTable
from dragoman_server.runtime import Runtime, StepOutput
from dragoman_server.scheduler import Plan

_log = structlog.get_logger(__name__)


class Lane:
    """``live[i]`` is the hypothesis of row i; a request has rows of its own for all its hypotheses.

    ``next_plan`` waits for work and returns None when the lane has to end; ``clock`` tells the seconds.
    """

    def __init__(
        self,
        number: int,
        runtime: Runtime,
        *,
        bos: int,
        eos: int,
        next_plan: Callable[[Lane], Plan | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.runtime = runtime
        self.rows = RowTable(runtime.max_rows)
        self._greedy: list[Request] = []
        """Running requests that are plain greedy, and so have one hypothesis; the others search."""
        self._searching: list[Request] = []
        self.live: list[Hypothesis] = []
        self.pace = Pace()
        self.busy = False
        """Between two plans; guarded by the engine's lock."""
        self._bos = bos
        self._eos = eos
        self._next_plan = next_plan
        self._clock = clock
        self._turned = 0.0
        """When the last step ended, or the lane was woken; put off by what encoding took since."""
        self._steps = 0
        self._row_steps = 0

    @property
    def running(self) -> list[Request]:
        """Everything that has rows."""
        return self._greedy + self._searching

    def run(self) -> None:
        """The life of the lane."""
        while (plan := self._next_plan(self)) is not None:
            if not self.live:
                self._turned = self._clock()
            involved = [*self.running, *plan.joiners, *plan.dropped]
            try:
                self._leave(plan)
                self._join(plan.joiners)
                if self.live:
                    self._advance(self._step())
            except Exception as error:
                self._clear()
                self._fail(involved, error)
        abandoned = self._clear()
        end(abandoned, Unavailable("the server is shutting down"))

    def _leave(self, plan: Plan) -> None:
        if plan.leavers:
            self._release(plan.leavers)
        for request in (*plan.leavers, *plan.dropped):
            end([request], Cancelled("cancelled") if request.cancelled else DeadlineExceeded("the deadline passed"))

    def _join(self, joiners: list[Request]) -> None:
        if not joiners:
            return
        began = self._clock()
        for request in joiners:
            first = Hypothesis(self.rows.allocate(), self._bos, request.options.max_length)
            request.lane, request.hypotheses, request.joined = self.number, [first], began
            request.steps_before, request.row_steps_before = self._steps, self._row_steps
            if request.options.plain:
                self._greedy.append(request)
            else:
                request.search = Search(request.options, eos=self._eos, top_k=self.runtime.top_k)
                self._searching.append(request)
            self.live.append(first)
        try:
            rows = [request.hypotheses[0].row for request in joiners]
            self.runtime.encode(rows, [request.source_ids for request in joiners])
        except Exception as error:
            # The rows that run already were not touched.
            self._release(joiners)
            self._fail(joiners, error)
            return
        seconds = self._clock() - began
        self._turned += seconds
        self.pace.encoded(sum(len(request.source_ids) for request in joiners), seconds)
        for request in joiners:
            request.encode_ms = seconds * 1e3

    def _step(self) -> StepOutput:
        with_logits = any(request.search.needs_logits(request.hypotheses) for request in self._searching)
        output = self.runtime.step([hypothesis.last for hypothesis in self.live], with_logits=with_logits)
        self._steps += 1
        self._row_steps += len(self.live)
        # From the end of one step to that of the next, so that all which is done between them counts too.
        began, self._turned = self._turned, self._clock()
        self.pace.stepped(len(self.live), self._turned - began)
        return output

    def _advance(self, output: StepOutput) -> None:
        finished: list[tuple[Request, list[Answer]]] = []
        failed: list[tuple[Request, Exception]] = []
        if self._greedy:
            self._advance_greedy(output, finished, failed)
        changes = self._advance_searches(output, finished, failed) if self._searching else None
        if finished or failed or changes:
            # Rows first: whoever hears of the end finds them free.
            self._release([request for request, _ in (*finished, *failed)], changes)
        for request, answers in finished:
            request.steps = self._steps - request.steps_before
            request.row_steps = self._row_steps - request.row_steps_before
            if not request.options.forced:
                self.pace.finished(len(request.source_ids), request.steps)
            end([request], Completion(answers, request.receipt()))
        for request, error in failed:
            self._fail([request], error)

    def _advance_greedy(
        self, output: StepOutput, finished: list[tuple[Request, list[Answer]]], failed: list[tuple[Request, Exception]]
    ) -> None:
        ids, log_probs = output.top_ids[:, 0].tolist(), output.top_log_probs[:, 0].tolist()
        for index, reason in advance([request.hypotheses[0] for request in self._greedy], ids, log_probs, self._eos):
            request = self._greedy[index]
            if isinstance(reason, Exception):
                failed.append((request, reason))
            else:
                finished.append((request, [answered(request.hypotheses[0], reason, request.options)]))

    def _advance_searches(
        self, output: StepOutput, finished: list[tuple[Request, list[Answer]]], failed: list[tuple[Request, Exception]]
    ) -> RowChanges:
        changes, scored = RowChanges(), StepScores(output)
        for request in self._searching:
            before = request.hypotheses
            try:
                survivors = request.search.advance(before, scored)
            except Exception as fault:  # most likely a score that is no number; none of it concerns other requests
                failed.append((request, fault))
                continue
            if survivors:
                request.hypotheses = survivors
                changes.note(before, survivors)
            else:
                finished.append((request, request.search.answers()))
        return changes

    def _release(self, requests: Sequence[Request], changes: RowChanges | None = None) -> None:
        """Take the requests off the lane and carry out all changes of rows."""
        changes = changes or RowChanges()
        if requests:
            gone = set(requests)
            self._greedy = [request for request in self._greedy if request not in gone]
            if self._searching:
                self._searching = [request for request in self._searching if request not in gone]
            changes.freed += [hypothesis.row for request in requests for hypothesis in request.hypotheses]
        for moves in changes.apply(self.rows, self.live):
            self.runtime.copy(moves)

    def _clear(self) -> list[Request]:
        requests = self.running
        self._greedy, self._searching, self.live = [], [], []
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
