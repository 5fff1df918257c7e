"""When a failed call is tried again: pure rules, shared by both clients.

gRPC's own retryPolicy cannot tell a RESOURCE_EXHAUSTED with pushback from one without, so it is switched off and
these rules stand in its place: one count of attempts for both statuses, and one budget for all calls of a client.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from dragoman.errors import Failure, InvalidArgument, Violation, error_from

MAX_ATTEMPTS = 5
MAX_BUDGET = 1000
_PER_SUCCESS = 0.1
"""Tokens that a call which succeeds brings back."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently; ``Retry(attempts=1)`` never tries again.

    UNAVAILABLE is tried again after a backoff that doubles, with 20% of jitter (gRFC A6); RESOURCE_EXHAUSTED only
    when the server says after how long; nothing else, and nothing beyond the call's deadline.
    """

    attempts: int = MAX_ATTEMPTS
    """The first included; 1 to 5."""
    initial_backoff: float = 0.1
    """Seconds before the second attempt."""
    max_backoff: float = 2.0
    """Seconds."""
    budget: int = 100
    """Tokens of the client, 1 to 1000, as in gRPC's retry throttling (gRFC A6): each failure that could be tried again
    takes one, each call that succeeds brings back a tenth, and while no more than half of them are left nothing is
    tried again. A server that cannot answer is thus not asked five times as often. What the server itself asks to come
    back for, with a pushback, is not counted."""

    def __post_init__(self) -> None:
        faults = []
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            faults.append(Violation("retry.attempts", str(self.attempts), f"1 to {MAX_ATTEMPTS}"))
        if not self.initial_backoff > 0:
            faults.append(Violation("retry.initial_backoff", str(self.initial_backoff), "more than 0 seconds"))
        if not self.max_backoff >= self.initial_backoff:
            faults.append(Violation("retry.max_backoff", str(self.max_backoff), "at least retry.initial_backoff"))
        if not 1 <= self.budget <= MAX_BUDGET:
            faults.append(Violation("retry.budget", str(self.budget), f"1 to {MAX_BUDGET}"))
        if faults:
            raise InvalidArgument(faults)

    def delay(self, attempt: int, failure: Failure, remaining: float, jitter: float) -> float | None:
        """Seconds to wait after attempt number ``attempt`` (1 is the first) failed, or None to give up.

        ``remaining`` is the time left to the deadline in seconds, ``jitter`` lies in [0, 1).
        """
        if attempt >= self.attempts:
            return None
        pushback = failure.pushback_ms()
        if failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            if pushback is None:
                return None
        elif failure.code is not grpc.StatusCode.UNAVAILABLE:
            return None
        if pushback is None:
            backoff = min(self.initial_backoff * 2 ** (attempt - 1), self.max_backoff)
            delay = backoff * (0.8 + 0.4 * jitter)
        elif pushback < 0:
            return None
        else:
            delay = pushback / 1e3
        return delay if delay < remaining else None


class Budget:
    """What is left of a client's ``Retry.budget``. Threads may share it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = float(size)
        self._lock = threading.Lock()

    def fails(self) -> bool:
        """Take off a failure; whether it may be tried again."""
        with self._lock:
            self._left = max(0.0, self._left - 1)
            return self._left > self._size / 2

    def succeeds(self) -> None:
        """Bring back what a success is worth."""
        with self._lock:
            self._left = min(float(self._size), self._left + _PER_SUCCESS)


class Retrying:
    """One client's rules and budget. ``clock`` tells the seconds, ``random`` the jitter, in [0, 1)."""

    def __init__(
        self,
        retry: Retry,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.retry = retry
        self.clock = clock
        self.random = random
        self.budget = Budget(retry.budget)

    def attempts(self, timeout: float) -> Attempts:
        """Of one call, which has so many seconds."""
        return Attempts(self, timeout)


class Attempts:
    """One call's attempts: counts them, and holds all of them to one deadline and to the client's budget."""

    def __init__(self, retrying: Retrying, timeout: float) -> None:
        self._retrying = retrying
        self._deadline = retrying.clock() + timeout
        self._made = 0

    def begin(self) -> float:
        """Count one more attempt; the seconds that it may take."""
        self._made += 1
        return max(0.0, self._deadline - self._retrying.clock())

    def pause(self, failure: Failure) -> float:
        """Seconds to wait before the next attempt; raises the typed error when there is to be none."""
        retrying = self._retrying
        delay = retrying.retry.delay(self._made, failure, self._deadline - retrying.clock(), retrying.random())
        counts = failure.code is grpc.StatusCode.UNAVAILABLE and failure.pushback_ms() is None
        if counts and not retrying.budget.fails():
            delay = None
        if delay is None:
            raise error_from(failure) from None  # the gRPC error says nothing that this one does not
        return delay

    def succeeded(self) -> None:
        """The last attempt was answered."""
        self._retrying.budget.succeeds()
