"""Continuous batching: lanes that schedule, encode, step and advance, until there is nothing to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dragoman_server.admission import Admission
from dragoman_server.errors import Overloaded, Unavailable
from dragoman_server.lane import Lane, end
from dragoman_server.request import Request
from dragoman_server.runtime import Runtime
from dragoman_server.scheduler import Plan, Scheduler
from dragoman_server.waiting import PRIORITIES

_RETRY_SECONDS = (0.02, 30.0)
_TRUSTED_SECONDS = 1.0
"""An engine that has been idle for longer refuses nobody by what it measured before."""


@dataclass(frozen=True)
class EngineState:
    """A glance at the engine; its parts may be a step apart."""

    waiting: int
    waiting_tokens: int
    running: int
    rows_used: int
    rows_free: int
    step_seconds: tuple[float, ...]
    """Per lane: what a step takes with as many rows as are used now, one at least; 0 before the first."""


class Engine:
    """Decodes requests on one thread per runtime; every request that ``submit`` takes ends exactly once.

    ``max_waiting`` and ``max_waiting_tokens`` (source tokens) bound the queue that all lanes share; ``encode_tokens``
    bounds the source tokens that one lane encodes between two steps; ``ageing_seconds`` of waiting are worth one level
    of priority. ``clock`` tells the seconds by which requests arrive and expire.
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
        ageing_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = Scheduler(
            [runtime.max_rows for runtime in runtimes],
            max_waiting=max_waiting,
            max_waiting_tokens=max_waiting_tokens,
            encode_tokens=encode_tokens,
            ageing_seconds=ageing_seconds,
        )
        self._clock = clock
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._drained = threading.Condition(lock)
        self._lanes = [
            Lane(number, runtime, bos=bos, eos=eos, next_plan=self._next_plan, clock=clock)
            for number, runtime in enumerate(runtimes)
        ]
        self._threads: list[threading.Thread] = []
        self._source_capacity = min(runtime.source_capacity for runtime in runtimes)
        self._target_capacity = min(runtime.target_capacity for runtime in runtimes)
        self._rows = min(runtime.max_rows for runtime in runtimes)
        self._admission = Admission(
            self._scheduler,
            [lane.pace for lane in self._lanes],
            most_steps=max(runtime.target_capacity for runtime in runtimes),
        )
        self._last_busy = clock()
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

        Raises Overloaded where the queue is full or the request would not end before its deadline, Unavailable before
        ``start`` and after ``stop``, and ValueError for a request that no runtime has room for. One whose deadline has
        passed already is taken, and ends with DeadlineExceeded.
        """
        if not 1 <= len(request.source_ids) <= self._source_capacity:
            raise ValueError(f"source has {len(request.source_ids)} tokens: 1 to {self._source_capacity}")
        if not 1 <= request.options.max_length <= self._target_capacity:
            raise ValueError(f"max_length = {request.options.max_length}: 1 to {self._target_capacity}")
        if request.width > self._rows:  # every lane must be able to take it, or it might wait for ever
            raise ValueError(f"{request.width} hypotheses at one time: 1 to {self._rows}")
        if not 0 <= request.priority < PRIORITIES:
            raise ValueError(f"priority = {request.priority}: 0 to {PRIORITIES - 1}")
        with self._work:
            if not self._accepting:
                raise Unavailable("the server is starting or shutting down")
            now = self._clock()
            request.expected_steps = self._admission.expected_steps(request)
            if not (request.expired(now) or self._unproven(now) or self._admission.in_time(request, now)):
                raise Overloaded("the deadline cannot be met", self._retry_after(request, now))
            if not self._scheduler.offer(request, now):
                raise Overloaded("the queue is full", self._retry_after(request, now))
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
                step_seconds=tuple(lane.pace.step.at(max(1, lane.rows.used)) for lane in self._lanes),
            )

    def _next_plan(self, lane: Lane) -> Plan | None:
        """The lane's next plan, waiting for work where it has none; None when the engine ends."""
        with self._work:
            while not self._ending:
                now = self._clock()
                plan = self._scheduler.schedule(lane.number, lane.running, now)
                lane.busy = bool(plan or lane.running)
                if lane.busy:
                    self._last_busy = now
                    return plan
                # An idle lane is always allowed to join, so here the queue is empty: nothing can expire or be
                # cancelled while it sleeps.
                self._drained.notify_all()
                self._work.wait()
            return None

    def _idle(self) -> bool:
        return not self._scheduler.waiting and not any(lane.busy for lane in self._lanes)

    def _unproven(self, now: float) -> bool:
        """Whether the engine has been idle for some time.

        What is refused measures nothing: if a bad moment of the machine was the last thing measured, it would else
        refuse everything for ever.
        """
        return now - self._last_busy > _TRUSTED_SECONDS and self._idle()

    def _retry_after(self, request: Request, now: float) -> float:
        """When the request could start, within bounds."""
        low, high = _RETRY_SECONDS
        return min(high, max(low, self._admission.predict(request, now).start))
