"""What every engine is: a bounded queue, and lanes that take from it, each in a thread of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from dragoman_server.errors import Overloaded, Unavailable
from dragoman_server.outcomes import end
from dragoman_server.scheduler import Plan, Scheduler
from dragoman_server.submission import Submission, SubmissionT
from dragoman_server.telemetry.lane_meter import LaneMeter
from dragoman_server.waiting import PRIORITIES

_TakenT_co = TypeVar("_TakenT_co", bound=Submission[Any, Any], covariant=True)
_AskedT_contra = TypeVar("_AskedT_contra", bound=Submission[Any, Any], contravariant=True)

FULL, LATE = "queue_full", "deadline"
"""Why an engine refuses a request."""
_RETRY_SECONDS = (0.02, 30.0)
_TRUSTED_SECONDS = 1.0
"""An engine that has been idle for longer refuses nobody by what it measured before."""


@dataclass(frozen=True)
class LaneState:
    """A glance at a lane, and what it has done; the meter goes on counting."""

    running: int
    rows_used: int
    rows_free: int
    meter: LaneMeter


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
    max_waiting: int = 0
    """Requests that the queue has room for."""
    lanes: tuple[LaneState, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    """Requests that were not taken, by reason, since the start. One that asks again is counted again."""


class AnyLane(Protocol[_TakenT_co]):
    """One runtime and its thread, as its engine sees it."""

    number: int
    busy: bool
    """Between two plans; guarded by the engine's lock."""

    @property
    def running(self) -> Collection[_TakenT_co]:
        """What it works on."""

    @property
    def rows_used(self) -> int:
        """Rows that are in use."""

    @property
    def rows_free(self) -> int:
        """Rows that are not."""

    @property
    def meter(self) -> LaneMeter:
        """What it has done."""

    @property
    def step_seconds(self) -> float:
        """See ``EngineState``."""

    def warm_up(self) -> None:
        """Do everything that is slow the first time."""

    def run(self) -> None:
        """The life of the lane: until it is given no plan."""


class Prospects(Protocol[_AskedT_contra]):
    """When a submission would start and end; the engine holds the scheduler's lock."""

    def expected_steps(self, request: _AskedT_contra) -> float:
        """Steps until it ends."""

    def in_time(self, request: _AskedT_contra, now: float) -> bool:
        """Whether it would end before its deadline were it submitted now."""

    def seconds_to_start(self, request: _AskedT_contra, now: float) -> float:
        """Until it would start were it submitted now."""


class LaneEngine(ABC, Generic[SubmissionT]):
    """Takes submissions and ends every one exactly once.

    ``lanes`` take their plans from ``_next_plan``. ``clock`` tells the seconds by which submissions arrive and expire.
    """

    def __init__(
        self,
        scheduler: Scheduler[SubmissionT],
        lanes: Sequence[AnyLane[SubmissionT]],
        prospects: Prospects[SubmissionT],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._scheduler = scheduler
        self._lanes = lanes
        self._prospects = prospects
        self._clock = clock
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._drained = threading.Condition(lock)
        self._threads: list[threading.Thread] = []
        self._last_busy = clock()
        self._refused = {FULL: 0, LATE: 0}
        self._accepting = False
        self._ending = False

    @abstractmethod
    def _fault(self, request: SubmissionT) -> str | None:
        """Why no lane could ever take it, in words; None where each can."""

    def start(self) -> None:
        """Start the lanes, each of which first warms its runtime up, one after the other. Once.

        Raises what a warm-up raises; no lane is left then.
        """
        assert not self._threads, "started before"
        try:
            for lane in self._lanes:
                warm: Future[None] = Future()
                name = f"dragoman-lane-{lane.number}"
                thread = threading.Thread(target=_live, args=(lane, warm), name=name, daemon=True)
                thread.start()
                self._threads.append(thread)
                warm.result()
        except BaseException:
            self.stop(0)
            raise
        with self._work:
            self._accepting = not self._ending

    def submit(self, request: SubmissionT) -> None:
        """Queue the request. Any thread; does not wait.

        Raises Overloaded where the queue is full or the request would not end before its deadline, Unavailable before
        ``start`` and after ``stop``, and ValueError for a request that no runtime has room for. One whose deadline has
        passed already is taken, and ends with DeadlineExceeded.
        """
        if fault := self._fault(request):
            raise ValueError(fault)
        if not 0 <= request.priority < PRIORITIES:
            raise ValueError(f"priority = {request.priority}: 0 to {PRIORITIES - 1}")
        with self._work:
            if not self._accepting:
                raise Unavailable("the server is starting or shutting down")
            now = self._clock()
            request.expected_steps = self._prospects.expected_steps(request)
            request.unjudged = self._unproven(now)
            if not (request.unjudged or request.expired(now) or self._prospects.in_time(request, now)):
                self._refused[LATE] += 1
                raise Overloaded("the deadline cannot be met", self._retry_after(request, now), LATE)
            if not self._scheduler.offer(request, now):
                self._refused[FULL] += 1
                raise Overloaded("the queue is full", self._retry_after(request, now), FULL)
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
            return EngineState(
                waiting=self._scheduler.waiting,
                waiting_tokens=self._scheduler.waiting_tokens,
                running=sum(len(lane.running) for lane in self._lanes),
                rows_used=sum(lane.rows_used for lane in self._lanes),
                rows_free=sum(lane.rows_free for lane in self._lanes),
                step_seconds=tuple(lane.step_seconds for lane in self._lanes),
                max_waiting=self._scheduler.max_waiting,
                lanes=tuple(
                    LaneState(len(lane.running), lane.rows_used, lane.rows_free, lane.meter) for lane in self._lanes
                ),
                refused=dict(self._refused),
            )

    def _next_plan(self, lane: AnyLane[SubmissionT]) -> Plan[SubmissionT] | None:
        """The lane's next plan, waiting for work where it has none; None when the engine ends."""
        with self._work:
            while not self._ending:
                now = self._clock()
                plan = self._scheduler.schedule(lane.number, lane.running, now, takes=self._takes(lane))
                was_busy, lane.busy = lane.busy, bool(lane.running or plan)
                if was_busy or lane.busy:
                    self._last_busy = now
                if lane.busy:
                    return plan
                # An idle lane is always allowed to join, so here the queue is empty: nothing can expire or be
                # cancelled while it sleeps.
                self._drained.notify_all()
                self._work.wait()
            return None

    def _takes(self, lane: AnyLane[SubmissionT]) -> bool:
        """Whether the lane may be given joiners now; one that works on nothing always may."""
        return True

    def _idle(self) -> bool:
        return not self._scheduler.waiting and not any(lane.busy for lane in self._lanes)

    def _unproven(self, now: float) -> bool:
        """Whether the engine has been idle for some time.

        What is refused measures nothing: if a bad moment of the machine was the last thing measured, it would else
        refuse everything for ever.
        """
        return now - self._last_busy > _TRUSTED_SECONDS and self._idle()

    def _retry_after(self, request: SubmissionT, now: float) -> float:
        """When the request could start, within bounds."""
        low, high = _RETRY_SECONDS
        return min(high, max(low, self._prospects.seconds_to_start(request, now)))


def _live(lane: AnyLane[Any], warm: Future[None]) -> None:
    """A lane's thread. It warms up there, since onnxruntime keeps what a thread has captured for that thread alone."""
    try:
        lane.warm_up()
    except BaseException as error:
        warm.set_exception(error)
        return
    warm.set_result(None)
    lane.run()
