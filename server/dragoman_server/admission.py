"""When a request would start and end, by what the lanes have measured. Pure Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from dragoman_server.pace import Pace
from dragoman_server.request import Request
from dragoman_server.scheduler import Scheduler


@dataclass(frozen=True)
class Prediction:
    """Seconds from now."""

    start: float
    end: float


class _Outlook(NamedTuple):
    """What a prediction is made of, all but when a running request gives its row back."""

    row: int | None
    """How many rows must become free before the one that it waits for; None: there is one already."""
    before: float
    """Seconds between that row's first being free and the start."""
    own: float
    """Seconds of encoding and steps."""

    def start(self, seconds_left: float) -> float:
        """Seconds until the start, where the row becomes free in so many."""
        return self.before if self.row is None else self.before + seconds_left


class Admission:
    """Predicts from ``paces``, one for each of the scheduler's lanes, whose rows take ``most_steps`` at most.

    Steps are expected to grow with a request's ``size``, which is what the paces were told. Where sources are encoded
    in chunks of so many tokens, not 0, there is a step of the running rows between two of them.

    All is expectation, without a margin for safety: what is likely to be in time is not refused. What was not measured
    yet takes no time. Not thread-safe: the engine holds the scheduler's lock.
    """

    def __init__(
        self,
        scheduler: Scheduler[Request],
        paces: Sequence[Pace],
        *,
        most_steps: int,
        size: Callable[[Request], int],
        chunk: int = 0,
    ) -> None:
        self._scheduler = scheduler
        self._paces = tuple(paces)
        self._most_steps = most_steps
        self._size = size
        self._chunk = chunk
        self._rows = sum(scheduler.capacities)

    def expected_steps(self, request: Request) -> float:
        """Steps until the request ends: by its size, and within what its options allow."""
        options = request.options
        if options.forced:
            return len(options.prefix)
        # Either is followed by one more token, if only by end-of-sentence.
        fewest = max(options.min_length, len(options.prefix)) + 1
        ratio = _mean([pace.steps_per_size for pace in self._paces if pace.steps_per_size])
        steps = ratio * self._size(request)
        return min(options.max_length, max(fewest, steps))

    def in_time(self, request: Request, now: float) -> bool:
        """Whether the request, with its steps set, would end before its deadline were it submitted now."""
        if request.deadline is None:
            return True
        outlook = self._outlook(request, now)
        # Mostly there is far more than enough time: then the running requests need not be looked at one by one.
        if now + (outlook.start(self._most_seconds_left()) + outlook.own) <= request.deadline:
            return True
        return now + (self._start(outlook) + outlook.own) <= request.deadline

    def predict(self, request: Request, now: float) -> Prediction:
        """When the request, with its steps set, would start and end were it submitted now.

        A row becomes free when what runs in it ends, and again after each of those that are ahead in the queue. For
        requests of one length that is what will happen; else it is so on average.
        """
        outlook = self._outlook(request, now)
        start = self._start(outlook)
        return Prediction(start, start + outlook.own)

    def seconds_to_start(self, request: Request, now: float) -> float:
        """Until the request would start were it submitted now."""
        return self.predict(request, now).start

    def _outlook(self, request: Request, now: float) -> _Outlook:
        ahead = self._scheduler.ahead_of(request, now)
        held = sum(self._scheduler.held)
        rows = ahead.rows + request.width
        # The lanes are kept level; where a row must be waited for, all are full.
        step = self._step_seconds(ceil(min(self._rows, held + rows) / len(self._paces)))
        # Who is ahead is encoded in small groups, as lately; so their mean cost counts, not that of one large group.
        before = (
            _mean([pace.encoding.rate for pace in self._paces if pace.encoding.measured])
            * ahead.tokens
            / len(self._paces)
        )
        own = self._encode_seconds(len(request.source_ids))
        if self._chunk and all(self._scheduler.held):
            own += max(0, len(request.source_ids) - 2) // self._chunk * step
        if held + rows <= self._rows:
            return _Outlook(None, before, own + request.expected_steps * step)
        turns, row = divmod(rows - 1, self._rows)
        if turns:
            before += turns * ahead.row_steps / ahead.rows * step
        # Whenever one of the rows beside it becomes free, the next that waits is encoded.
        between = _mean([pace.encoding_between for pace in self._paces])
        return _Outlook(row, before, own + request.expected_steps * (step + between))

    def _start(self, outlook: _Outlook) -> float:
        return outlook.start(0.0 if outlook.row is None else sorted(self._seconds_left())[outlook.row])

    def _seconds_left(self) -> list[float]:
        """Of every row, until it is free."""
        seconds: list[float] = []
        scheduler = self._scheduler
        for lane, capacity in enumerate(scheduler.capacities):
            step = self._full_step_seconds(lane)
            held = 0
            for request in scheduler.running(lane):
                taken = self._paces[lane].steps - request.steps_before if request.lane >= 0 else 0
                # Whoever is still there has one step to go at the least, unless it ended since the plan.
                left = 0.0 if request.finished else max(1.0, request.expected_steps - taken)
                seconds += [left * step] * request.width
                held += request.width
            seconds += [0.0] * (capacity - held)
        return seconds

    def _most_seconds_left(self) -> float:
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
