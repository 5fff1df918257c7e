"""Decodes cases alone, one after the other, and together, in the thick of other requests."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dragoman_server.engine import Engine
from dragoman_server.errors import Overloaded, ServerError
from dragoman_server.independence.cases import Case
from dragoman_server.independence.watching import Watch
from dragoman_server.request import Completion, Outcome, Request

Advance = Callable[[int], None]
"""Called with a number of requests that are done."""

_SECONDS_WITHOUT_ANSWER = 300.0
_LEVELS = (0, 1, 3, 8, 20, 50)
"""How many of its requests a caller keeps under way, for a while each: from an idle engine to one with a queue."""
_LONGEST_PAUSE = 0.02
_LONGEST_DEADLINE = 0.2
# Of each request: how likely it is sent twice, and how likely one comes along that does not count.
_TWICE, _CANCELLED, _WITH_DEADLINE = 0.1, 0.15, 0.05
_WATCHED = 0.25
"""How likely a request among others is told of its progress."""


class TrafficError(Exception):
    """A request that counts was not answered."""


@dataclass(frozen=True)
class Answered:
    """A request that counts: which case it was, and its outcome."""

    case: int
    completion: Completion
    kept: bool | None
    """Whether what it was told of its progress came true; None: it was told of none."""


@dataclass(frozen=True)
class Traffic:
    """What came of one run."""

    answered: list[Answered]
    seconds: float
    others: Counter[str]
    """Requests that do not count, by the name of their outcome: Completion, Cancelled, DeadlineExceeded, Overloaded."""


def alone(engine: Engine, cases: Sequence[Case], which: Sequence[int], *, advance: Advance) -> Traffic:
    """The cases of those numbers, each while nothing else is in the engine. Raises TrafficError."""
    began = time.perf_counter()
    caller = _Caller(engine, cases, random.Random(0), advance)
    for case in which:
        caller.send(case)
        caller.wait_for(0)
    return Traffic(caller.answered(), time.perf_counter() - began, Counter())


def together(engine: Engine, cases: Sequence[Case], *, seed: int, advance: Advance, threads: int = 4) -> Traffic:
    """All cases in random order from several threads, among repeated, cancelled and expiring requests.

    Order, priorities, pauses, company and who is told of its progress are drawn by ``seed``; what meets what in a batch
    is the clock's doing. Raises TrafficError.
    """
    chance = random.Random(seed)
    order = [case for case in range(len(cases)) for _ in range(1 + (chance.random() < _TWICE))]
    chance.shuffle(order)
    callers = [_Caller(engine, cases, random.Random(f"{seed} {number}"), advance) for number in range(threads)]
    began = time.perf_counter()
    pool = ThreadPoolExecutor(threads)
    try:
        for ended in [pool.submit(caller.run, order[number::threads]) for number, caller in enumerate(callers)]:
            ended.result()
    finally:
        # Where one failed, or somebody has had enough: the others end with the engine.
        pool.shutdown(wait=False, cancel_futures=True)
    seconds = time.perf_counter() - began
    answered = [answer for caller in callers for answer in caller.answered()]
    return Traffic(answered, seconds, sum((caller.others for caller in callers), Counter()))


class _Caller:
    """One thread that sends requests, and what came back."""

    def __init__(self, engine: Engine, cases: Sequence[Case], chance: random.Random, advance: Advance) -> None:
        self._engine, self._cases, self._chance, self._advance = engine, cases, chance, advance
        self._changed = threading.Condition()
        self._under_way = 0
        self._outcomes: list[tuple[int, Outcome, Watch | None]] = []
        self._to_cancel: list[Request] = []
        self.others: Counter[str] = Counter()

    def run(self, order: Sequence[int]) -> None:
        """Send the cases in that order, with company, and wait for all."""
        chance, level = self._chance, 0
        for case in order:
            if chance.random() < 0.05:
                level = chance.choice(_LEVELS)
            if chance.random() < 0.1:
                time.sleep(chance.random() * _LONGEST_PAUSE)
            self.wait_for(level)
            self.send(case, priority=chance.randrange(10), watch=Watch() if chance.random() < _WATCHED else None)
            self._send_company()
        for request in self._to_cancel:
            request.cancel()
        self.wait_for(0)

    def send(self, case: int, *, priority: int = 0, watch: Watch | None = None) -> None:
        """Send a request that counts."""

        def reply(outcome: Outcome) -> None:
            self._outcomes.append((case, outcome, watch))
            self._ended()

        self._submit(case, reply, priority=priority, watch=watch)
        self._advance(1)

    def wait_for(self, level: int) -> None:
        """Wait until at most ``level`` requests are under way."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._under_way <= level, timeout=_SECONDS_WITHOUT_ANSWER):
                raise TrafficError(f"{self._under_way} requests were not answered in {_SECONDS_WITHOUT_ANSWER:.0f} s")

    def answered(self) -> list[Answered]:
        """What counts. Raises TrafficError where the engine failed on any."""
        found = []
        for case, outcome, watch in self._outcomes:
            if isinstance(outcome, ServerError):
                raise TrafficError(f"request {case} failed: {type(outcome).__name__}: {outcome}") from outcome
            found.append(Answered(case, outcome, watch.kept(outcome) if watch else None))
        return found

    def _send_company(self) -> None:
        """Perhaps a request that will be cancelled, or one with a deadline; perhaps cancel one that was sent before."""
        chance = self._chance
        if chance.random() < _CANCELLED:
            self._to_cancel.append(self._submit_other(deadline=None))
        if chance.random() < _WITH_DEADLINE:
            try:
                self._submit_other(deadline=time.monotonic() + chance.random() * _LONGEST_DEADLINE)
            except Overloaded:
                self.others["Overloaded"] += 1
                self._ended()
        if self._to_cancel and chance.random() < 2 * _CANCELLED:
            self._to_cancel.pop(chance.randrange(len(self._to_cancel))).cancel()

    def _submit_other(self, deadline: float | None) -> Request:
        def reply(outcome: Outcome) -> None:
            with self._changed:
                self.others[type(outcome).__name__] += 1
            self._ended()

        case, priority = self._chance.randrange(len(self._cases)), self._chance.randrange(10)
        return self._submit(case, reply, priority=priority, deadline=deadline)

    def _submit(
        self,
        case: int,
        reply: Callable[[Outcome], None],
        *,
        priority: int,
        deadline: float | None = None,
        watch: Watch | None = None,
    ) -> Request:
        asked = self._cases[case]
        request = Request(asked.source_ids, asked.options, reply, deadline=deadline, priority=priority, progress=watch)
        with self._changed:
            self._under_way += 1
        self._engine.submit(request)
        return request

    def _ended(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()
