"""Continuous batching: lanes that schedule, encode, step and advance, until there is nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dragoman_server.admission import Admission
from dragoman_server.lane import Lane
from dragoman_server.lanes import EngineState, LaneEngine
from dragoman_server.request import Request
from dragoman_server.runtime import Runtime
from dragoman_server.scheduler import Scheduler

__all__ = ["Engine", "EngineState"]


class Engine(LaneEngine[Request]):
    """Decodes requests on one thread per runtime; every request that ``submit`` takes ends exactly once.

    ``max_waiting`` and ``max_waiting_tokens`` (source tokens) bound the queue that all lanes share; ``encode_tokens``
    bounds the source tokens that one lane encodes between two steps; ``ageing_seconds`` of waiting are worth one level
    of priority. ``clock`` tells the seconds by which requests arrive and expire.
    """

    _lanes: Sequence[Lane]

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        *,
        bos: int,
        eos: int,
        max_waiting: int,
        max_waiting_tokens: int,
        encode_tokens: int = 512,
        ageing_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        scheduler: Scheduler[Request] = Scheduler(
            [runtime.max_rows for runtime in runtimes],
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            encode_tokens=encode_tokens,
            ageing_seconds=ageing_seconds,
        )
        lanes = [
            Lane(number, runtime, bos=bos, eos=eos, next_plan=self._next_plan, clock=clock)
            for number, runtime in enumerate(runtimes)
        ]
        admission = Admission(
            scheduler,
            [lane.pace for lane in lanes],
            most_steps=max(runtime.target_capacity for runtime in runtimes),
        )
        super().__init__(scheduler, lanes, admission, clock=clock)
        self._source_capacity = min(runtime.source_capacity for runtime in runtimes)
        self._target_capacity = min(runtime.target_capacity for runtime in runtimes)
        self._rows = min(runtime.max_rows for runtime in runtimes)

    def _fault(self, request: Request) -> str | None:
        if not 1 <= len(request.source_ids) <= self._source_capacity:
            return f"source has {len(request.source_ids)} tokens: 1 to {self._source_capacity}"
        if not 1 <= request.options.max_length <= self._target_capacity:
            return f"max_length = {request.options.max_length}: 1 to {self._target_capacity}"
        if request.width > self._rows:  # every lane must be able to take it, or it might wait for ever
            return f"{request.width} hypotheses at one time: 1 to {self._rows}"
        return None
