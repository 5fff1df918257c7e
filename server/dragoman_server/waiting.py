"""The waiting queue: by priority and age, and how much work stands ahead of a newcomer. Pure Python."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import Any, Generic

from dragoman_server.submission import Submission, SubmissionT

PRIORITIES = 10
_rank = attrgetter("rank")
_LAST = (inf, inf)
_SPENT = 64
"""Places at a line's front that may lie there empty before they are cleared away."""


@dataclass(slots=True)  # not frozen, which would make it three times as slow to build; only a queue changes its own
class Work:
    """What some requests need, all together."""

    requests: int = 0
    rows: int = 0
    row_steps: float = 0.0
    """Expected steps, each as often as its request is wide."""
    tokens: int = 0
    """Of the sources."""

    def add(self, other: Work) -> None:
        """That as well."""
        self.requests += other.requests
        self.rows += other.rows
        self.row_steps += other.row_steps
        self.tokens += other.tokens

    def take_off(self, other: Work) -> None:
        """That not any more."""
        self.requests -= other.requests
        self.rows -= other.rows
        self.row_steps -= other.row_steps
        self.tokens -= other.tokens

    def __add__(self, other: Work) -> Work:
        return Work(
            self.requests + other.requests,
            self.rows + other.rows,
            self.row_steps + other.row_steps,
            self.tokens + other.tokens,
        )

    def __sub__(self, other: Work) -> Work:
        return Work(
            self.requests - other.requests,
            self.rows - other.rows,
            self.row_steps - other.row_steps,
            self.tokens - other.tokens,
        )


def work_of(request: Submission[Any, Any]) -> Work:
    """What one request needs."""
    return Work(1, request.width, request.width * request.expected_steps, len(request.source_ids))


@dataclass(slots=True)
class Place(Generic[SubmissionT]):
    """A request's place in the queue."""

    request: SubmissionT
    since: float
    work: Work
    through: Work
    """Of its line, up to and including this request, counted from somewhere: only differences mean anything."""


_LEFT: Place[Any] = Place(None, -inf, Work(), Work())
"""In the place of one that was taken: the line does not hold on to requests that are decoded, or have long ended."""


class _Line(Generic[SubmissionT]):
    """The requests of one priority, in order of arrival; ``lead`` is how much earlier they count as arrived."""

    def __init__(self, lead: float) -> None:
        self.rank = _LAST
        """When the first counts as arrived, and when it arrived."""
        self._lead = lead
        self._places: list[Place[SubmissionT]] = []
        self._head = 0

    def append(self, request: SubmissionT, since: float) -> Work:
        work = work_of(request)
        if self._places:
            through = self._places[-1].through + work
        else:
            through, self.rank = work, (since - self._lead, since)
        self._places.append(Place(request, since, work, through))
        return work

    @property
    def first(self) -> Place[SubmissionT]:
        """There must be one."""
        return self._places[self._head]

    def pop(self) -> Place[SubmissionT]:
        place = self._places[self._head]
        self._places[self._head] = _LEFT
        self._head += 1
        if self._head == len(self._places):
            self._places, self._head, self.rank = [], 0, _LAST
            return place
        if self._head >= _SPENT and 2 * self._head >= len(self._places):
            del self._places[: self._head]
            self._head = 0
        since = self._places[self._head].since
        self.rank = since - self._lead, since
        return place

    def push_front(self, place: Place[SubmissionT]) -> None:
        place.through = self.first.through - self.first.work if self._places else place.work
        self.rank = place.since - self._lead, place.since
        if self._head:
            self._head -= 1
            self._places[self._head] = place
        else:
            self._places.insert(0, place)

    def until(self, since: float) -> Work:
        """The work of those that have waited since then or longer."""
        end = bisect_right(self._places, since, lo=self._head, key=lambda place: place.since)
        if end == self._head:
            return Work()
        return self._places[end - 1].through - self.first.through + self.first.work

    def remove(self, gone: Callable[[SubmissionT], bool]) -> list[Place[SubmissionT]]:
        kept: list[Place[SubmissionT]] = []
        removed: list[Place[SubmissionT]] = []
        for place in self._places[
            self._head :
        ]:  # asked once: a request may be cancelled at any moment, also between two questions
            (removed if gone(place.request) else kept).append(place)
        if removed:
            self._places, self._head, self.rank = [], 0, _LAST
            for place in kept:
                self.append(place.request, place.since)
        return removed


class WaitingQueue(Generic[SubmissionT]):
    """The first is the one whose priority + seconds waited / ``ageing_seconds`` is highest; of equals, the older.

    All age alike, so the order of two never changes while they wait: that of since - priority * ``ageing_seconds``.
    A request of priority 0 therefore comes before any of priority 9 that arrives more than 9 ageing periods later.
    There is one line for each priority, in order of arrival, and the first of all is the first of some line.
    """

    def __init__(self, ageing_seconds: float) -> None:
        self._ageing_seconds = ageing_seconds
        self._lines: list[_Line[SubmissionT]] = [_Line(priority * ageing_seconds) for priority in range(PRIORITIES)]
        self._first: _Line[SubmissionT] | None = None
        """Where the first of all is; None: nobody has looked since the last change that may have moved it."""
        self._second = _LAST
        """The least rank of the other lines, as of that look."""
        self.work = Work()
        """Of all that wait; it goes on changing."""

    def __len__(self) -> int:
        return self.work.requests

    def append(self, request: SubmissionT, now: float) -> None:
        """Queue the request; ``now`` never goes back."""
        self._first = None
        self.work.add(self._lines[request.priority].append(request, now))

    @property
    def first(self) -> SubmissionT:
        """The one that is next; there must be one."""
        return self._first_line().first.request

    def pop(self) -> Place[SubmissionT]:
        """Take the first."""
        line = self._first_line()
        place = line.pop()
        if line.rank >= self._second:
            self._first = None
        self.work.take_off(place.work)
        return place

    def put_back(self, places: list[Place[SubmissionT]]) -> None:
        """Give back what was popped, in that order and with nothing queued since."""
        self._first = None
        for place in reversed(places):
            self._lines[place.request.priority].push_front(place)
            self.work.add(place.work)

    def ahead_of(self, priority: int, now: float) -> Work:
        """The work that a request of this priority would have to wait for, were it queued now."""
        ahead = Work()
        for other, line in enumerate(self._lines):
            if line.rank is not _LAST:
                ahead += line.until(now - (priority - other) * self._ageing_seconds)
        return ahead

    def remove(self, gone: Callable[[SubmissionT], bool]) -> list[SubmissionT]:
        """Take out all of which ``gone`` is true, wherever they stand."""
        self._first = None
        removed = [place for line in self._lines for place in line.remove(gone)]
        for place in removed:
            self.work.take_off(place.work)
        return [place.request for place in removed]

    def clear(self) -> list[SubmissionT]:
        """Take out all, the first first."""
        return [self.pop().request for _ in range(len(self))]

    def _first_line(self) -> _Line[SubmissionT]:
        if self._first is None:
            self._first = first = min(self._lines, key=_rank)
            self._second = min([line.rank for line in self._lines if line is not first])
        return self._first
