"""Cores that busy threads share evenly: work begins, and ends when it was done."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf


class Cores:
    """Processor sharing: while n threads are busy, each is served at the rate min(1, cores / n).

    Since all have the same rate, what a thread was served since the beginning is one clock for all of them, and work
    ends when this clock reads its beginning plus its seconds: a heap holds what is under way.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._work: list[tuple[float, int, Callable[[], None]]] = []
        self._waits: list[tuple[float, int, Callable[[], None]]] = []
        self._served = 0.0
        self._number = 0
        self.now = 0.0
        self.busy_seconds = 0.0
        """Core seconds that were used."""

    def begin(self, seconds: float, ended: Callable[[], None]) -> None:
        """A thread works from now on, for as many seconds as it would take by itself; then ``ended`` is called."""
        self._number += 1
        heappush(self._work, (self._served + seconds, self._number, ended))

    def wait(self, seconds: float, ended: Callable[[], None]) -> None:
        """Time passes without work; then ``ended`` is called."""
        self._number += 1
        heappush(self._waits, (self.now + seconds, self._number, ended))

    @property
    def full(self) -> bool:
        """Whether every core is at work."""
        return len(self._work) >= self._cores

    @property
    def next_end(self) -> float:
        """When the next work or wait ends, unless other work begins before; infinity where there is none."""
        return min(self._next_wait, self._next_work)

    @property
    def _next_wait(self) -> float:
        return self._waits[0][0] if self._waits else inf

    @property
    def _next_work(self) -> float:
        if not self._work:
            return inf
        return self.now + max(0.0, self._work[0][0] - self._served) / self._rate

    def advance(self, now: float) -> None:
        """Let time pass, to ``next_end`` at most."""
        seconds = now - self.now
        if self._work:
            self._served += seconds * self._rate
            self.busy_seconds += seconds * min(self._cores, len(self._work))
        self.now = now

    def finish_next(self) -> None:
        """At ``next_end``: take off what ends, and call what it said."""
        if self._next_wait <= self._next_work:
            _, _, ended = heappop(self._waits)
        else:
            self._served, _, ended = heappop(self._work)
        ended()

    @property
    def _rate(self) -> float:
        return min(1.0, self._cores / len(self._work))
