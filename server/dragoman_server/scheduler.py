"""Who joins a lane and who leaves it, between two steps. Pure Python: no arrays, no graphs, no wire."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf
from typing import Generic, NamedTuple

from dragoman_server.endings import Endings, Running
from dragoman_server.submission import SubmissionT
from dragoman_server.waiting import Place, WaitingQueue, Work

_SWEEP_SECONDS = 0.05
"""A long queue is searched for cancelled and expired requests no more often than this."""
_PASSED_OVER = 64
"""How many requests that are too wide are passed over in search of one that fits."""
_JOINING_SHARE = 8
"""While more wait than fit, requests join a lane when this part of its rows is free."""


class Plan(NamedTuple, Generic[SubmissionT]):
    """What a lane has to do before its next step."""

    joiners: list[SubmissionT]
    """In the queue's order; they were taken off it and need a row and encoding."""
    leavers: list[SubmissionT]
    """Running in the lane, cancelled or expired."""
    dropped: list[SubmissionT]
    """Were waiting, cancelled or expired: they are never encoded."""

    def __bool__(self) -> bool:
        return bool(self.joiners or self.leavers or self.dropped)


class Scheduler(Generic[SubmissionT]):
    """One waiting queue, by priority and age, for all lanes. Not thread-safe: the engine holds a lock.

    ``capacities`` are the rows of each lane; ``max_waiting`` and ``max_waiting_tokens`` bound the queue in requests and
    source tokens; ``encode_tokens`` bounds the source tokens that join a lane at one time, so that encoding never holds
    up the running rows for long; waiting for ``ageing_seconds`` is worth one level of priority. ``in_groups``: several
    that join at one time cost less than one by one.
    """

    def __init__(
        self,
        capacities: Sequence[int],
        *,
        max_waiting: int,
        max_waiting_tokens: int,
        encode_tokens: int,
        ageing_seconds: float = 1.0,
        in_groups: bool = True,
    ) -> None:
        limits = {"max_waiting": max_waiting, "max_waiting_tokens": max_waiting_tokens, "encode_tokens": encode_tokens}
        faults = [f"{name} = {value}: at least 1" for name, value in limits.items() if value < 1]
        faults += [f"capacities[{lane}] = {rows}: at least 1" for lane, rows in enumerate(capacities) if rows < 1]
        if not capacities:
            faults.append("capacities = []: at least one lane")
        if not 0 < ageing_seconds < inf:
            faults.append(f"ageing_seconds = {ageing_seconds}: more than 0, finite")
        if faults:
            raise ValueError("; ".join(faults))
        self._capacities = tuple(capacities)
        self._max_waiting = max_waiting
        self._max_waiting_tokens = max_waiting_tokens
        self._encode_tokens = encode_tokens
        self._in_groups = in_groups
        self._waiting: WaitingQueue[SubmissionT] = WaitingQueue(ageing_seconds)
        # As of each lane's last plan: enough to level the lanes, and refreshed by the lane itself at every step.
        self._held = [0] * len(capacities)
        self._takes = [True] * len(capacities)
        self._running: list[Collection[SubmissionT]] = [()] * len(capacities)
        self._plans: list[Plan[SubmissionT]] = [Plan([], [], [])] * len(capacities)
        self._keeping: tuple[int, int] | None = None
        """A request's number, and the lane that is kept for it."""
        self._swept = 0.0
        self._endings = Endings()
        """Of those that wait, or have waited since they were last looked through."""
        self._gone: list[SubmissionT] = []

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def max_waiting(self) -> int:
        """Requests that the queue has room for."""
        return self._max_waiting

    @property
    def waiting_rows(self) -> int:
        """Rows that all waiting requests need."""
        return self._waiting.work.rows

    @property
    def waiting_tokens(self) -> int:
        """Source tokens in the queue."""
        return self._waiting.work.tokens

    @property
    def capacities(self) -> Sequence[int]:
        """Rows of each lane."""
        return self._capacities

    @property
    def held(self) -> Sequence[int]:
        """Rows that each lane has given away, by its last plan."""
        return self._held

    def running(self, lane: int) -> list[SubmissionT]:
        """The requests that hold the lane's rows: those of its last plan that have not left since."""
        running, plan = dict.fromkeys(self._running[lane]), self._plans[lane]
        for request in plan.leavers:
            running.pop(request, None)
        return list(running | dict.fromkeys(plan.joiners))

    def ahead_of(self, request: SubmissionT, now: float) -> Work:
        """What would be decoded before the request, were it queued now; those that have gone count for 0.05 s more."""
        self._sweep_now_and_then(now)
        return self._waiting.ahead_of(request.priority, now)

    def offer(self, request: SubmissionT, now: float) -> bool:
        """Queue the request, or return False where the queue is full.

        A request longer than ``max_waiting_tokens`` is taken by an empty queue: nothing that was valid waits forever.
        """
        if not self._fits(request):
            self._sweep(now)
            if not self._fits(request):
                return False
        self._waiting.append(request, now)
        self._endings.add(request)
        return True

    def schedule(
        self, lane: int, running: Collection[SubmissionT], now: float, *, takes: bool = True
    ) -> Plan[SubmissionT]:
        """Plan the lane's next step; ``running`` is what it holds now, leavers included.

        It ``takes`` joiners, unless those that came before have not got their rows yet.
        """
        self._takes[lane] = takes
        # A lane that keeps its own count is looked through when somebody may have to leave, any other at every step.
        counted = running if isinstance(running, Running) else Running(running)
        leavers = counted.ended(now)
        self._held[lane] = counted.rows - sum([request.width for request in leavers])
        joiners: list[SubmissionT] = []
        if self._waiting:
            self._sweep_now_and_then(now)
            if takes and self._worth_joining(lane):
                joiners = self._join(lane, now)
        dropped, self._gone = self._gone, []
        self._running[lane], self._plans[lane] = running, (plan := Plan(joiners, leavers, dropped))
        return plan

    def has_news(self, lane: int, running: Running[SubmissionT], now: float) -> bool:
        """Whether the lane needs a plan: without news it would be empty. Any thread may ask, and hears late at most."""
        if self._waiting or self._gone:
            return True
        return self._held[lane] != running.rows or running.may_have_ended(now)

    def clear(self) -> list[SubmissionT]:
        """Empty the queue and return everything that waited."""
        waited, self._gone = [*self._gone, *self._waiting.clear()], []
        return waited

    def _fits(self, request: SubmissionT) -> bool:
        if not self._waiting:
            return True
        tokens = self.waiting_tokens + len(request.source_ids)
        return len(self._waiting) < self._max_waiting and tokens <= self._max_waiting_tokens

    def _allowance(self, lane: int) -> int:
        """Rows that the lane may add, so that emptier lanes get theirs first and all end up level.

        Some lane with a free row may always add one, and a lane without any rows in use always may.
        """
        capacity, level = self._capacities[lane], self._held[lane]
        if self.waiting_rows >= self._rows_to_reach(max(self._capacities)):
            return capacity - level  # enough wait to fill all lanes
        start = level
        while level < capacity and self._rows_to_reach(level) < self.waiting_rows:
            level += 1
        return level - start

    def _rows_to_reach(self, level: int) -> int:
        """Rows to add until every lane that takes some holds ``level``, or all that it can."""
        lanes = zip(self._capacities, self._held, self._takes, strict=True)
        return sum(max(0, min(capacity, level) - held) for capacity, held, takes in lanes if takes)

    def _join(self, lane: int, now: float) -> list[SubmissionT]:
        """Take requests off the queue, in its order, and their rows into account.

        One that is wider than the lane's free rows is passed over; but while the first of all does not fit anywhere,
        one lane is kept for it and takes nobody that comes after it, so that its rows become free however many narrow
        requests there are.
        """
        allowance = self._allowance(lane)
        joiners: list[SubmissionT] = []
        passed: list[Place[SubmissionT]] = []
        tokens = taken = 0
        while self._waiting and taken < allowance and len(passed) < _PASSED_OVER:
            request = self._waiting.first
            if request.cancelled or request.expired(now):
                self._gone.append(self._waiting.pop().request)
                continue
            if self._held[lane] + request.width > self._capacities[lane]:
                if not passed and self._kept_for(request) == lane:
                    break
                passed.append(self._waiting.pop())
                continue
            tokens += len(request.source_ids)
            # The first is taken whatever its length: it is never passed over for it.
            if joiners and tokens > self._encode_tokens:
                break
            joiners.append(self._waiting.pop().request)
            taken += request.width
            self._held[lane] += request.width
        self._waiting.put_back(passed)
        return joiners

    def _worth_joining(self, lane: int) -> bool:
        """Not while more wait than fit and few rows are free: some steps later several are encoded together.

        That is where groups cost less. The fuller the lane the less an empty row costs, and encoding one source takes
        twice as long for each token.
        """
        capacity, held = self._capacities[lane], self._held[lane]
        free = capacity - held
        return not (held and self._in_groups) or free >= self.waiting_rows or free * _JOINING_SHARE >= capacity

    def _kept_for(self, request: SubmissionT) -> int:
        """The lane that takes nobody after this request, the first: the one that had most rows free."""
        if self._keeping is None or self._keeping[0] != request.number:
            free = [capacity - held for capacity, held in zip(self._capacities, self._held, strict=True)]
            self._keeping = request.number, free.index(max(free))
        return self._keeping[1]

    def _sweep_now_and_then(self, now: float) -> None:
        if now - self._swept >= _SWEEP_SECONDS:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        self._swept = now
        if not self._endings.possible(now):
            return
        self._endings.look()

        def gone(request: SubmissionT) -> bool:
            if request.cancelled or request.expired(now):
                return True
            self._endings.add(request)
            return False

        self._gone += self._waiting.remove(gone)
