"""When a text would be read, by what the lanes have measured of their passes. Pure Python."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman_server.pace import Pace
from dragoman_server.pass_request import PassRequest
from dragoman_server.scheduler import Scheduler


class PassAdmission:
    """Predicts from ``paces``, one for each of the scheduler's lanes.

    All is expectation, without a margin for safety: what is likely to be in time is not refused. What was not measured
    yet takes no time. Not thread-safe: the engine holds the scheduler's lock.
    """

    def __init__(self, scheduler: Scheduler[PassRequest], paces: Sequence[Pace]) -> None:
        self._scheduler = scheduler
        self._paces = tuple(paces)

    def expected_steps(self, request: PassRequest) -> float:
        """A text is read in one pass."""
        return 1.0

    def in_time(self, request: PassRequest, now: float) -> bool:
        """Whether the text would be read before its deadline were it submitted now."""
        if request.deadline is None:
            return True
        own = self._mean([pace.encoding.at(len(request.source_ids)) for pace in self._measured])
        return self.seconds_to_start(request, now) + own <= request.deadline - now

    def seconds_to_start(self, request: PassRequest, now: float) -> float:
        """Until the first lane is free, or until all have read what stands ahead in the queue."""
        left = [self._seconds_left(lane, now) for lane in range(len(self._paces))]
        ahead = self._scheduler.ahead_of(request, now).tokens
        if not ahead:
            return min(left)
        return self._mean(left) + ahead * self._mean([pace.encoding.rate for pace in self._measured]) / len(left)

    @property
    def _measured(self) -> list[Pace]:
        return [pace for pace in self._paces if pace.encoding.measured]

    def _seconds_left(self, lane: int, now: float) -> float:
        """Of the lane's pass."""
        reading = [request for request in self._scheduler.running(lane) if not request.finished]
        if not reading:
            return 0.0
        whole = self._paces[lane].encoding.at(sum(len(request.source_ids) for request in reading))
        began = reading[0].joined if reading[0].lane >= 0 else now
        return max(0.0, began + whole - now)

    @staticmethod
    def _mean(values: Sequence[float]) -> float:
        return sum(values) / len(values) if values else 0.0
