"""Continuous batching: lanes that schedule, join, step and advance, until there is nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dragoman_server.admission import Admission
from dragoman_server.joining import EncoderJoining, Joining
from dragoman_server.lane import Lane
from dragoman_server.lanes import EngineState, LaneEngine
from dragoman_server.request import Request
from dragoman_server.runtime import ENCODE_TOKENS, Runtime
from dragoman_server.scheduler import Scheduler

__all__ = ["DecodingEngine", "Engine", "EngineState"]


class DecodingEngine(LaneEngine[Request]):
    """Decodes requests on one thread per runtime; every request that ``submit`` takes ends exactly once.

    ``joinings`` take requests into the lanes, whose texts end with ``eos``. ``max_waiting`` and ``max_waiting_tokens``
    (source tokens) bound the queue that all lanes share; ``encode_tokens`` bounds the source tokens that join one lane
    between two steps; ``ageing_seconds`` of waiting are worth one level of priority. ``clock`` tells the seconds by
    which requests arrive and expire. Where prompts are prefilled in chunks, ``chunk`` is their size, else 0.
    """

    _lanes: Sequence[Lane]

    def __init__(
        self,
        joinings: Sequence[Joining],
        *,
        eos: int,
        max_waiting: int,
        max_waiting_tokens: int,
        encode_tokens: int,
        ageing_seconds: float,
        clock: Callable[[], float],
        chunk: int = 0,
    ) -> None:
        runtimes = [joining.runtime for joining in joinings]
        scheduler: Scheduler[Request] = Scheduler(
            [runtime.max_rows for runtime in runtimes],
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            encode_tokens=encode_tokens,
            ageing_seconds=ageing_seconds,
            in_groups=not chunk,
        )
        lanes = [
            Lane(number, joining, eos=eos, next_plan=self._next_plan, has_news=self._has_news, clock=clock)
            for number, joining in enumerate(joinings)
        ]
        admission = Admission(
            scheduler,
            [lane.pace for lane in lanes],
            most_steps=max(runtime.target_capacity for runtime in runtimes),
            size=joinings[0].size,
            chunk=chunk,
        )
        super().__init__(scheduler, lanes, admission, clock=clock)
        self._target_capacity = min(runtime.target_capacity for runtime in runtimes)
        self._rows = min(runtime.max_rows for runtime in runtimes)

    def _has_news(self, lane: Lane) -> bool:
        return self._ending or self._scheduler.has_news(lane.number, lane.running, self._clock())

    def _fault(self, request: Request) -> str | None:
        if not 1 <= request.options.max_length <= self._target_capacity:
            return f"max_length = {request.options.max_length}: 1 to {self._target_capacity}"
        if request.width > self._rows:  # every lane must be able to take it, or it might wait for ever
            return f"{request.width} hypotheses at one time: 1 to {self._rows}"
        return None


class Engine(DecodingEngine):
    """Decodes what follows from a source: ``bos`` is fed first."""

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        *,
        bos: int,
        eos: int,
        max_waiting: int,
        max_waiting_tokens: int,
        encode_tokens: int = ENCODE_TOKENS,
        ageing_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            [EncoderJoining(runtime, bos=bos, clock=clock) for runtime in runtimes],
            eos=eos,
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            encode_tokens=encode_tokens,
            ageing_seconds=ageing_seconds,
            clock=clock,
        )
        self._source_capacity = min(runtime.source_capacity for runtime in runtimes)

    def _fault(self, request: Request) -> str | None:
        if not 1 <= len(request.source_ids) <= self._source_capacity:
            return f"source has {len(request.source_ids)} tokens: 1 to {self._source_capacity}"
        return super()._fault(request)
