"""One runtime, its rows and its thread: schedule -> join -> step -> advance -> rows, without end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import cast

from dragoman_server.decoding.batch import Advance, Batch, Copies
from dragoman_server.decoding.ranking import n_best
from dragoman_server.endings import Running
from dragoman_server.errors import Unavailable
from dragoman_server.joining import Joining
from dragoman_server.outcomes import end, fail, give_up
from dragoman_server.pace import Pace
from dragoman_server.request import Completion, Request
from dragoman_server.rows import RowTable
from dragoman_server.runtime import StepOutput
from dragoman_server.scheduler import Plan
from dragoman_server.seldom_log import logger
from dragoman_server.telemetry.lane_meter import LaneMeter


class Lane:
    """Requests that run have rows; ``next_plan`` waits for work and returns None when the lane has to end.

    ``has_news`` tells whether a plan would say anything: it is asked before a step that follows another, since a plan
    takes a lock, and as long as a tenth of a small model's step. ``clock`` tells the seconds.
    """

    def __init__(
        self,
        number: int,
        joining: Joining,
        *,
        eos: int,
        next_plan: Callable[[Lane], Plan[Request] | None],
        has_news: Callable[[Lane], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.runtime = joining.runtime
        self.joining = joining
        self.running: Running[Request] = Running()
        """Everything that has rows, or is about to."""
        self.pace = Pace()
        self.busy = False
        """Between two plans; guarded by the engine's lock."""
        self._batch = Batch(joining.runtime, eos=eos, source_capacity=joining.source_capacity)
        self._joined: list[Request] = []
        """Since the last step."""
        self._ending: list[Request] = []
        """Those that have just left their rows, until they hear of it."""
        self._watched: list[Request] = []
        """Those of the running that want to hear of their progress."""
        self._next_plan = next_plan
        self._has_news = has_news
        self._clock = clock
        self._turned = 0.0
        """When the last step ended, or the lane was woken; put off by what encoding took since."""
        self._steps = 0
        self._row_steps = 0

    @property
    def rows(self) -> RowTable:
        """How many rows are in use."""
        return self._batch.rows

    @property
    def rows_used(self) -> int:
        """Rows that are in use."""
        return self.rows.used

    @property
    def rows_free(self) -> int:
        """Rows that are not."""
        return self.rows.free_rows

    @property
    def meter(self) -> LaneMeter:
        """What it has done."""
        return self.pace.meter

    @property
    def step_seconds(self) -> float:
        """What a step takes with as many rows as are used now, one at least; 0 before the first."""
        return self.pace.step.at(max(1, self.rows.used))

    def warm_up(self) -> None:
        """Do everything that is slow the first time."""
        self.runtime.warm_up()

    def run(self) -> None:
        """The life of the lane."""
        while (plan := self._next_plan(self)) is not None:
            if not self.running:
                self._turned = self._clock()
            try:
                self._leave(plan)
                if plan.joiners or self.joining.under_way:
                    self._join(plan.joiners)
                while self._batch.rows.used:
                    self._advance(self._step())
                    if self.joining.under_way or self._has_news(self):
                        break
            except Exception as error:
                involved = dict.fromkeys((*plan.leavers, *plan.joiners, *plan.dropped, *self._ending))
                self._fail(list(dict.fromkeys(self._clear()) | involved), error)
        abandoned = self._clear()
        end(abandoned, Unavailable("the server is shutting down"))

    def _leave(self, plan: Plan[Request]) -> None:
        if plan.leavers:
            self.joining.forget(plan.leavers)
            self._batch.leave(plan.leavers)
            self._release(plan.leavers)
        if gone := [*plan.leavers, *plan.dropped]:
            self.meter.gives_up(gone)
            give_up(gone)

    def _join(self, joiners: Sequence[Request]) -> None:
        self.running.add(joiners)
        began = self._clock()
        turn = self.joining.turn(joiners, self._batch, self.pace)
        self._turned += self._clock() - began
        for request in turn.joined:
            request.lane = self.number
            request.steps_before, request.row_steps_before = self._steps, self._row_steps
        self._joined += turn.joined
        self._watched += [request for request in turn.joined if request.progress]
        for requests, error in turn.failed:
            self._batch.leave(requests)
            self._release(requests)
            self._fail(requests, error)

    def _fail(self, requests: Sequence[Request], error: Exception) -> None:
        # Counted first: whoever hears of the end finds it counted.
        self.meter.fails(requests)
        fail(requests, error, self.number)

    def _step(self) -> StepOutput:
        batch = self._batch
        self._copy(batch.settle())
        output = self.runtime.step(batch.tokens, with_logits=batch.needs_logits, with_attention=batch.needs_attention)
        rows = batch.rows.used
        self._steps += 1
        self._row_steps += rows
        # From the end of one step to that of the next, so that all which is done between them counts too.
        began, self._turned = self._turned, self._clock()
        self.pace.stepped(rows, self._turned - began)
        if self._joined:
            for request in self._joined:
                request.first_token = self._turned
            self._joined = []
        return output

    def _advance(self, output: StepOutput) -> None:
        advance = self._batch.advance(output)
        self._copy(advance.copies)
        if advance.finished or advance.failed:
            self._end(advance)
        elif self._watched:
            self._tell()

    def _end(self, advance: Advance) -> None:
        finished, failed = cast("list[Request]", advance.finished), cast("dict[Request, Exception]", advance.failed)
        self.meter.nonfinite_rows += advance.nonfinite_rows
        # Rows first: whoever hears of the end finds them free.
        self._ending = [*finished, *failed]
        self._release(self._ending)
        if self._watched:
            self._tell()
        for request in finished:
            self._complete(request)
        for request, error in failed.items():
            self._fail([request], error)
        self._ending = []

    def _complete(self, request: Request) -> None:
        request.steps = self._steps - request.steps_before
        request.row_steps = self._row_steps - request.row_steps_before
        options, answers = request.options, request.answers
        if not options.forced:
            self.pace.finished(self.joining.size(request), request.steps)
        if len(answers) == 1:
            tokens = len(answers[0].token_ids)
        else:
            tokens = sum([len(answer.token_ids) for answer in answers])
            answers = n_best(answers, max(options.num_hypotheses, options.alternatives))
        self.meter.completes(request, self._turned, tokens)
        end([request], Completion(answers, request.receipt()))

    def _tell(self) -> None:
        """Let those that want to hear know how far they are; a caller that raises hurts nobody, but hears no more."""
        for request in list(self._watched):
            try:
                assert request.progress
                request.progress(self._batch.progress(request))
            except Exception as error:
                self._watched.remove(request)
                logger(__name__).error("progress could not be delivered", request=request.number, exc_info=error)

    def _copy(self, copies: Copies) -> None:
        """What stands in some rows goes to others."""
        for moves in copies:
            self.runtime.copy(moves)

    def _release(self, requests: Sequence[Request]) -> None:
        """The requests are not decoded any more."""
        self.running.remove(requests)
        if self._watched:
            gone = set(requests)
            self._watched = [request for request in self._watched if request not in gone]

    def _clear(self) -> list[Request]:
        requests, self._watched, self._joined, self._ending = self.running.clear(), [], [], []
        self._batch.clear()
        self.joining.clear()
        return requests
