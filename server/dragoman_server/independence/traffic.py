"""Asks for cases alone, one after the other, and together, in the thick of other requests."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from dragoman_server.engine import DecodingEngine
from dragoman_server.errors import Overloaded, ServerError
from dragoman_server.independence.cases import Case
from dragoman_server.independence.watching import Watch
from dragoman_server.request import Completion, Request
from dragoman_server.submission import Submission

CompletionT = TypeVar("CompletionT")

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


class Asker(Protocol[CompletionT]):
    """Sends requests to an engine: one for each case, by its number."""

    def __len__(self) -> int:
        """How many cases there are."""

    def submit(
        self,
        case: int,
        reply: Callable[[CompletionT | ServerError], None],
        *,
        priority: int,
        deadline: float | None,
        watch: Watch | None,
    ) -> Submission[Any, CompletionT]:
        """Send a request; who is to be told of its progress is ``watch``. Raises Overloaded."""


@dataclass(frozen=True)
class Decoding:
    """Cases for an engine that decodes."""

    engine: DecodingEngine
    cases: Sequence[Case]

    def __len__(self) -> int:
        """How many cases there are."""
        return len(self.cases)

    def submit(
        self,
        case: int,
        reply: Callable[[Completion | ServerError], None],
        *,
        priority: int,
        deadline: float | None,
        watch: Watch | None,
    ) -> Request:
        """Send a request."""
        asked = self.cases[case]
        request = Request(asked.source_ids, asked.options, reply, deadline=deadline, priority=priority, progress=watch)
        self.engine.submit(request)
        return request


@dataclass(frozen=True)
class Answered(Generic[CompletionT]):
    """A request that counts: which case it was, and its outcome."""

    case: int
    completion: CompletionT
    kept: bool | None
    """Whether what it was told of its progress came true; None: it was told of none."""


@dataclass(frozen=True)
class Traffic(Generic[CompletionT]):
    """What came of one run."""

    answered: list[Answered[CompletionT]]
    seconds: float
    others: Counter[str]
    """Requests that do not count, by the name of their outcome: Completion, Cancelled, DeadlineExceeded, Overloaded."""


def alone(asker: Asker[CompletionT], which: Sequence[int], *, advance: Advance) -> Traffic[CompletionT]:
    """The cases of those numbers, each while nothing else is in the engine. Raises TrafficError."""
    began = time.perf_counter()
    caller = _Caller(asker, random.Random(0), advance)
    for case in which:
        caller.send(case)
        caller.wait_for(0)
    return Traffic(caller.answered(), time.perf_counter() - began, Counter())


def together(asker: Asker[CompletionT], *, seed: int, advance: Advance, threads: int = 4) -> Traffic[CompletionT]:
    """All cases in random order from several threads, among repeated, cancelled and expiring requests.

    Order, priorities, pauses, company and who is told of its progress are drawn by ``seed``; what meets what in a batch
    is the clock's doing. Raises TrafficError.
    """
    chance = random.Random(seed)
    order = [case for case in range(len(asker)) for _ in range(1 + (chance.random() < _TWICE))]
    chance.shuffle(order)
    callers = [_Caller(asker, random.Random(f"{seed} {number}"), advance) for number in range(threads)]
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


class _Caller(Generic[CompletionT]):
    """One thread that sends requests, and what came back."""

    def __init__(self, asker: Asker[CompletionT], chance: random.Random, advance: Advance) -> None:
        self._asker, self._chance, self._advance = asker, chance, advance
        self._changed = threading.Condition()
        self._under_way = 0
        self._outcomes: list[tuple[int, CompletionT | ServerError, Watch | None]] = []
        self._to_cancel: list[Submission[Any, CompletionT]] = []
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

        def reply(outcome: CompletionT | ServerError) -> None:
            self._outcomes.append((case, outcome, watch))
            self._ended()

        self._submit(case, reply, priority=priority, watch=watch)
        self._advance(1)

    def wait_for(self, level: int) -> None:
        """Wait until at most ``level`` requests are under way."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._under_way <= level, timeout=_SECONDS_WITHOUT_ANSWER):
                raise TrafficError(f"{self._under_way} requests were not answered in {_SECONDS_WITHOUT_ANSWER:.0f} s")

    def answered(self) -> list[Answered[CompletionT]]:
        """What counts. Raises TrafficError where the engine failed on any."""
        found = []
        for case, outcome, watch in self._outcomes:
            if isinstance(outcome, ServerError):
                raise TrafficError(f"request {case} failed: {type(outcome).__name__}: {outcome}") from outcome
            kept = watch.kept(outcome) if watch and isinstance(outcome, Completion) else None
            found.append(Answered(case, outcome, kept))
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

    def _submit_other(self, deadline: float | None) -> Submission[Any, CompletionT]:
        def reply(outcome: CompletionT | ServerError) -> None:
            with self._changed:
                self.others[type(outcome).__name__] += 1
            self._ended()

        case, priority = self._chance.randrange(len(self._asker)), self._chance.randrange(10)
        return self._submit(case, reply, priority=priority, deadline=deadline)

    def _submit(
        self,
        case: int,
        reply: Callable[[CompletionT | ServerError], None],
        *,
        priority: int,
        deadline: float | None = None,
        watch: Watch | None = None,
    ) -> Submission[Any, CompletionT]:
        with self._changed:
            self._under_way += 1
        return self._asker.submit(case, reply, priority=priority, deadline=deadline, watch=watch)

    def _ended(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()
