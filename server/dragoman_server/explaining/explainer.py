"""One model's explaining: its graph is loaded when the first request comes, and requests run one at a time."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from dragoman_server.errors import Cancelled, DeadlineExceeded, Overloaded, Unavailable
from dragoman_server.explaining.graph import Graph
from dragoman_server.seldom_log import logger
from dragoman_server.telemetry.explain_meter import ExplainMeter, ExplainState

MOST_WAITING = 64
_RETRY_SECONDS = (0.02, 30.0)
_AGEING_SECONDS = 1.0

T = TypeVar("T")


@dataclass(eq=False)
class ExplainJob(Generic[T]):
    """Something to compute with the graph. Exactly one outcome is handed to ``reply``."""

    compute: Callable[[Graph], T]
    reply: Callable[[T | Exception], None]
    """Called once, by the explainer's thread or by whoever stops it; must not block."""
    deadline: float | None = None
    """On ``time.monotonic()``'s clock."""
    priority: int = 0
    cancelled: bool = field(default=False, init=False)
    arrived: float = field(default=0.0, init=False)
    waited_ms: float = field(default=0.0, init=False)
    computed_ms: float = field(default=0.0, init=False)

    def cancel(self) -> None:
        """Ask that it is passed over, if it has not begun. Any thread."""
        self.cancelled = True


class Explainer:
    """A thread of its own and a bounded queue before it, by priority and age (a second is worth one level).

    ``open_graph`` is called once, by the first request; a failure is that request's answer, and the next one tries
    again. ``clock`` tells the seconds by which requests arrive and expire.
    """

    def __init__(
        self,
        open_graph: Callable[[], Graph],
        *,
        max_waiting: int = MOST_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_graph = open_graph
        self._max_waiting = max_waiting
        self._clock = clock
        self._graph: Graph | None = None
        # What has waited longest for its priority comes first: as all age alike, the order never changes.
        self._queue: list[tuple[float, int, ExplainJob[object]]] = []
        self._numbers = itertools.count()
        self._work = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._seconds = 0.0
        """What a job took, lately."""
        self._running = 0
        self._meter = ExplainMeter()

    def state(self) -> ExplainState:
        """What waits, what runs and what was done; from any thread."""
        with self._work:
            return ExplainState(len(self._queue), self._max_waiting, self._running, self._meter)

    def submit(self, job: ExplainJob[T]) -> None:
        """Queue it, from any thread, without waiting. Raises Overloaded where the queue is full, and Unavailable after
        ``stop``.
        """
        with self._work:
            if self._stopped:
                raise Unavailable("the server is shutting down")
            if len(self._queue) >= self._max_waiting:
                self._meter.refused += 1
                low, high = _RETRY_SECONDS
                pause = min(high, max(low, len(self._queue) * self._seconds))
                raise Overloaded("the queue of requests to explain is full", pause, "queue_full")
            job.arrived = self._clock()
            rank = job.arrived - job.priority * _AGEING_SECONDS
            # Its type of outcome is the caller's and the job's; the queue does not care.
            heapq.heappush(self._queue, (rank, next(self._numbers), cast(ExplainJob[object], job)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dragoman-explain", daemon=True)
                self._thread.start()
            self._work.notify()

    def stop(self, grace: float) -> None:
        """Refuse new requests, let the others finish for ``grace`` seconds, then end those that wait. Blocks until the
        one that is being computed is done.
        """
        end = time.monotonic() + grace
        with self._work:
            self._stopped = True
            self._work.notify_all()
            self._work.wait_for(lambda: not self._queue, timeout=max(0.0, end - time.monotonic()))
            waiting = [job for _, _, job in self._queue]
            self._queue.clear()
            self._work.notify_all()
        for job in waiting:
            _reply(job, Unavailable("the server is shutting down"))
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            began = self._clock()
            job.waited_ms = (began - job.arrived) * 1e3
            meter = self._meter
            if job.cancelled:
                meter.cancelled += 1
                _reply(job, Cancelled("the call was cancelled"))
            elif job.deadline is not None and began >= job.deadline:
                meter.expired += 1
                _reply(job, DeadlineExceeded("the deadline passed before the attention was computed"))
            else:
                self._running = 1
                outcome = self._computed(job)
                self._running = 0
                seconds = self._clock() - began
                meter.seconds.observe(seconds)
                meter.queue_seconds.observe(began - job.arrived)
                if isinstance(outcome, Exception):
                    meter.failed += 1
                else:
                    meter.completed += 1
                job.computed_ms = seconds * 1e3
                self._seconds = 0.5 * self._seconds + 0.5 * seconds
                _reply(job, outcome)

    def _next(self) -> ExplainJob[object] | None:
        with self._work:
            while not self._queue:
                if self._stopped:
                    return None
                self._work.wait()
            job = heapq.heappop(self._queue)[-1]
            self._work.notify_all()  # ``stop`` waits for an empty queue
            return job

    def _computed(self, job: ExplainJob[object]) -> object:
        try:
            if self._graph is None:
                self._graph = self._open_graph()
            return job.compute(self._graph)
        except Exception as error:  # its own answer; the next one is not concerned
            return error


def _reply(job: ExplainJob[object], outcome: object) -> None:
    try:
        job.reply(outcome)
    except Exception as error:  # the others are not concerned
        logger(__name__).error("an explanation could not be delivered", exc_info=error)
