"""Dynamic batching: texts that arrive while a pass runs are read together in the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dragoman_server.lanes import LaneEngine
from dragoman_server.pass_admission import PassAdmission
from dragoman_server.pass_lane import PassLane
from dragoman_server.pass_request import PassRequest
from dragoman_server.pass_runtime import PassRuntime
from dragoman_server.scheduler import Scheduler

PASS_TOKENS = 2048
"""Tokens of a pass, unless it is told otherwise."""


class PassEngine(LaneEngine[PassRequest]):
    """Reads texts on one thread per runtime; every request that ``submit`` takes ends exactly once.

    ``max_waiting`` and ``max_waiting_tokens`` bound the queue that all lanes share; ``pass_tokens`` bounds the tokens
    of a pass, so that nobody waits long for the next, and the runtime's ``max_rows`` its texts; ``ageing_seconds`` of
    waiting are worth one level of priority. ``clock`` tells the seconds by which requests arrive and expire.
    """

    def __init__(
        self,
        runtimes: Sequence[PassRuntime],
        *,
        max_waiting: int,
        max_waiting_tokens: int,
        pass_tokens: int = PASS_TOKENS,
        ageing_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        scheduler: Scheduler[PassRequest] = Scheduler(
            [runtime.max_rows for runtime in runtimes],
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            encode_tokens=pass_tokens,
            ageing_seconds=ageing_seconds,
        )
        lanes = [
            PassLane(number, runtime, next_plan=self._next_plan, clock=clock) for number, runtime in enumerate(runtimes)
        ]
        super().__init__(scheduler, lanes, PassAdmission(scheduler, [lane.pace for lane in lanes]), clock=clock)
        self._source_capacity = min(runtime.source_capacity for runtime in runtimes)

    def _fault(self, request: PassRequest) -> str | None:
        if not 1 <= len(request.source_ids) <= self._source_capacity:
            return f"the text has {len(request.source_ids)} tokens: 1 to {self._source_capacity}"
        return None
