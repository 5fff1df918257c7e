"""One encoder and its thread: whoever waits joins the next pass, and a pass answers all who are in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from dragoman_server.outcomes import end, fail, give_up
from dragoman_server.pace import Pace
from dragoman_server.pass_request import PassCompletion, PassRequest
from dragoman_server.pass_runtime import EncoderOutput, PassRuntime
from dragoman_server.scheduler import Plan
from dragoman_server.telemetry.lane_meter import LaneMeter

_log = structlog.get_logger(__name__)


class PassLane:
    """``next_plan`` waits for work and returns None when the lane has to end. ``clock`` tells the seconds."""

    def __init__(
        self,
        number: int,
        runtime: PassRuntime,
        *,
        next_plan: Callable[[PassLane], Plan[PassRequest] | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.runtime = runtime
        self.running: list[PassRequest] = []
        """Everything that is in the pass; nothing between two passes."""
        self.pace = Pace()
        """Passes are measured as encodings, by their tokens."""
        self.busy = False
        """Between two plans; guarded by the engine's lock."""
        self._passes = 0
        self._next_plan = next_plan
        self._clock = clock

    @property
    def rows_used(self) -> int:
        """Texts in the pass."""
        return len(self.running)

    @property
    def rows_free(self) -> int:
        """Texts that the pass could have beside them."""
        return self.runtime.max_rows - len(self.running)

    @property
    def meter(self) -> LaneMeter:
        """What it has done."""
        return self.pace.meter

    @property
    def step_seconds(self) -> float:
        """What a pass over the tokens of the running one takes, over one at least; 0 before the first."""
        return self.pace.encoding.at(max(1, sum(len(request.source_ids) for request in self.running)))

    def warm_up(self) -> None:
        """Do everything that is slow the first time."""
        self.runtime.warm_up()

    def run(self) -> None:
        """The life of the lane."""
        while (plan := self._next_plan(self)) is not None:
            involved = [*plan.joiners, *plan.dropped]
            try:
                self.meter.gives_up(plan.dropped)
                give_up(plan.dropped)
                if plan.joiners:
                    self._read(plan.joiners)
            except Exception as error:
                self.running = []
                self._fail(involved, error)

    def _read(self, requests: list[PassRequest]) -> None:
        try:
            outputs = self._pass(requests)
        except Exception as error:
            if len(requests) == 1:
                self._fail(requests, error)
                return
            # One text may have broken the pass: the others are not to suffer for it.
            _log.warning("a pass failed: its texts are read one by one", lane=self.number, requests=len(requests))
            for request in requests:
                if request.cancelled or request.expired(self._clock()):
                    self.meter.gives_up([request])
                    give_up([request])
                else:
                    self._read([request])
            return
        for request, output in zip(requests, outputs, strict=True):
            if all(values is None or np.isfinite(values).all() for values in output):
                self.meter.completes(request, self._clock(), 0)
                end([request], PassCompletion(output, request.receipt(), request.steps_before))
            else:
                self.meter.nonfinite_rows += 1
                fault = ArithmeticError("an output of the model is not finite")
                self._fail([request], fault)

    def _fail(self, requests: Sequence[PassRequest], error: Exception) -> None:
        # Counted first: whoever hears of the end finds it counted.
        self.meter.fails(requests)
        fail(requests, error, self.number)

    def _pass(self, requests: list[PassRequest]) -> list[EncoderOutput]:
        began = self._clock()
        for request in requests:
            request.lane, request.joined, request.steps_before = self.number, began, self._passes
        self._passes += 1
        self.running = requests
        try:
            outputs = self.runtime.run([request.options for request in requests])
        finally:
            self.running = []
        seconds = self._clock() - began
        self.meter.batch_rows.observe(len(requests))
        self.pace.encoded(sum(len(request.source_ids) for request in requests), seconds)
        for request in requests:
            request.encode_ms, request.steps, request.row_steps = seconds * 1e3, 1, len(requests)
        return outputs
