"""When a request would start and end, by what the lanes have measured. Pure Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from dragoman_server.pace import Pace
from dragoman_server.request import Request
from dragoman_server.scheduler import Scheduler


@dataclass(frozen=True)
class Prediction:
    """Seconds from now."""

    start: float
    end: float


class Admission:
    """Predicts from ``paces``, one for each of the scheduler's lanes, whose rows take ``most_steps`` at most.

    All is expectation, without a margin for safety: what is likely to be in time is not refused. What was not measured
    yet takes no time. Not thread-safe: the engine holds the scheduler's lock.
    """

    def __init__(self, scheduler: Scheduler, paces: Sequence[Pace], *, most_steps: int) -> None:
        self._scheduler = scheduler
        self._paces = tuple(paces)
        self._most_steps = most_steps
        self._rows = sum(scheduler.capacities)

    def expected_steps(self, request: Request) -> float:
        """Steps until the request ends: by its source's length, and within what its options allow."""
        options = request.options
        if options.forced:
            return len(options.prefix)
        # Either is followed by one more token, if only by end-of-sentence.
        fewest = max(options.min_length, len(options.prefix)) + 1
        ratio = _mean([pace.steps_per_token for pace in self._paces if pace.steps_per_token])
        steps = ratio * len(request.source_ids)
        return min(options.max_length, max(fewest, steps))

    def in_time(self, request: Request, now: float) -> bool:
        """Whether the request, with its steps set, would end before its deadline were it submitted now."""
        if request.deadline is None:
            return True
        # Mostly there is far more than enough time: then the running requests need not be looked at one by one.
        if now + self._predict(request, now, self._worst_wait).end <= request.deadline:
            return True
        return now + self.predict(request, now).end <= request.deadline

    def predict(self, request: Request, now: float) -> Prediction:
        """When the request, with its steps set, would start and end were it submitted now.

        A row becomes free when what runs in it ends, and again after each of those that are ahead in the queue. For
        requests of one length that is what will happen; else it is so on average.
        """
        return self._predict(request, now, lambda row: sorted(self._seconds_left())[row])

    def _predict(self, request: Request, now: float, free_at: Callable[[int], float]) -> Prediction:
        """``free_at(n)``: in how many seconds n + 1 rows are free, or have been."""
        ahead = self._scheduler.ahead_of(request, now)
        held = sum(self._scheduler.held)
        rows = ahead.rows + request.width
        # The lanes are kept level; where a row must be waited for, all are full.
        step = self._step_seconds(ceil(min(self._rows, held + rows) / len(self._paces)))
        start = self._encode_seconds(ahead.tokens / len(self._paces)) if ahead.tokens else 0.0
        if held + rows > self._rows:
            turns, row = divmod(rows - 1, self._rows)
            start += free_at(row)
            if turns:
                start += turns * ahead.row_steps / ahead.rows * step
        own = self._encode_seconds(len(request.source_ids)) + request.expected_steps * step
        return Prediction(start, start + own)

    def _seconds_left(self) -> list[float]:
        """Of every row, until it is free."""
        seconds: list[float] = []
        scheduler = self._scheduler
        for lane, (capacity, held) in enumerate(zip(scheduler.capacities, scheduler.held, strict=True)):
            step = self._full_step_seconds(lane)
            seconds += [0.0] * (capacity - held)
            for request in scheduler.running[lane]:
                taken = self._paces[lane].steps - request.steps_before if request.lane >= 0 else 0
                # Whoever is still there has one step to go at the least, unless it ended since the plan.
                left = 0.0 if request.finished else max(1.0, request.expected_steps - taken)
                seconds += [left * step] * request.width
        return seconds

    def _worst_wait(self, row: int) -> float:
        """No less than any of ``_seconds_left``."""
        return self._most_steps * max(self._full_step_seconds(lane) for lane in range(len(self._paces)))

    def _full_step_seconds(self, lane: int) -> float:
        """A step of the lane with all its rows; of any lane where this one has not been measured."""
        capacity = self._scheduler.capacities[lane]
        fit = self._paces[lane].step
        return fit.at(capacity) if fit.measured else self._step_seconds(capacity)

    def _step_seconds(self, rows: int) -> float:
        """A step with so many rows, on average over the lanes; with all their rows in those that have fewer."""
        pairs = zip(self._paces, self._scheduler.capacities, strict=True)
        return _mean([pace.step.at(min(rows, capacity)) for pace, capacity in pairs if pace.step.measured])

    def _encode_seconds(self, tokens: float) -> float:
        return _mean([pace.encoding.at(tokens) for pace in self._paces if pace.encoding.measured])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
