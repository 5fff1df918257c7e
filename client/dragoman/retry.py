"""When a failed call is tried again: pure rules, shared by both clients.

gRPC's own retryPolicy cannot tell a RESOURCE_EXHAUSTED with pushback from one without, so it is switched off and
these rules stand in its place: one count of attempts for both statuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from dragoman.errors import Failure, InvalidArgument, Violation, error_from

MAX_ATTEMPTS = 5


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

    def __post_init__(self) -> None:
        faults = []
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            faults.append(Violation("retry.attempts", str(self.attempts), f"1 to {MAX_ATTEMPTS}"))
        if not self.initial_backoff > 0:
            faults.append(Violation("retry.initial_backoff", str(self.initial_backoff), "more than 0 seconds"))
        if not self.max_backoff >= self.initial_backoff:
            faults.append(Violation("retry.max_backoff", str(self.max_backoff), "at least retry.initial_backoff"))
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


class Attempts:
    """One call's attempts: counts them, and holds all of them to one deadline."""

    def __init__(
        self, retry: Retry, timeout: float, *, clock: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self._retry = retry
        self._clock = clock
        self._random = random
        self._deadline = clock() + timeout
        self._made = 0

    def begin(self) -> float:
        """Count one more attempt; the seconds that it may take."""
        self._made += 1
        return max(0.0, self._deadline - self._clock())

    def pause(self, failure: Failure) -> float:
        """Seconds to wait before the next attempt; raises the typed error when there is to be none."""
        delay = self._retry.delay(self._made, failure, self._deadline - self._clock(), self._random())
        if delay is None:
            raise error_from(failure) from None  # the gRPC error says nothing that this one does not
        return delay
