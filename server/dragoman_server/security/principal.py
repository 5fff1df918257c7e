"""Who is calling, what they may do, and how much of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum

from dragoman_server.errors import Overloaded

_SECONDS_A_MINUTE = 60.0


class Permission(StrEnum):
    """What a method needs of its caller."""

    INFER = "infer"
    """To use models, and to see which there are."""
    ADMIN = "admin"
    """To change what is served."""
    METRICS = "metrics"
    """To read what is measured, of all callers together."""


class Quota:
    """A bucket that holds a minute's requests and refills evenly. Belongs to the event loop's thread.

    ``requests_per_minute`` None: without bounds. ``clock`` tells the seconds.
    """

    def __init__(self, requests_per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = requests_per_minute
        self._left = float(requests_per_minute or 0)
        self._clock = clock
        self._filled = clock()

    def charge(self, requests: int = 1) -> None:
        """Take so many requests; raises Overloaded, which says when there will be room, and takes nothing."""
        if self._most is None:
            return
        now = self._clock()
        rate = self._most / _SECONDS_A_MINUTE
        self._left = min(float(self._most), self._left + max(0.0, now - self._filled) * rate)
        self._filled = now
        # What is more than a minute's worth would never fit: it is let in by a full bucket, and owed for.
        if self._left < min(requests, self._most):
            missing = min(requests, self._most) - self._left
            raise Overloaded(f"the quota of {self._most} requests a minute is used up", missing / rate, "quota")
        self._left -= requests


class Principal:
    """A caller by name, with its permissions and its quota."""

    def __init__(self, name: str, permissions: frozenset[Permission], quota: Quota) -> None:
        self.name = name
        self.permissions = permissions
        self.quota = quota


ANONYMOUS = Principal("anonymous", frozenset({Permission.INFER, Permission.METRICS}), Quota(None))
"""Whoever calls where no tokens are asked for."""

ADMINISTRATOR = Principal("anonymous", frozenset(Permission), Quota(None))
"""The same on a server that only its own machine reaches, and that lets callers change what is served."""

CALLER: ContextVar[Principal] = ContextVar("CALLER", default=ANONYMOUS)
"""Of the call that is being handled."""
