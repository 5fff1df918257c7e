"""From the lanes' threads to the event loop: one wake-up for all that has come meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

_log = structlog.get_logger(__name__)


class Mailbox:
    """Runs callbacks on the event loop; ``post`` may be called by any thread and does not wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._mail: deque[Callable[[], None]] = deque()
        self._woken = False

    def post(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` soon, after those posted before. Raises RuntimeError once the loop is closed."""
        self._mail.append(callback)
        # Waking the loop costs far more than the append. Two threads may both find it asleep: no harm.
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False  # before the first is taken: what is posted from here on wakes again
        for _ in range(len(self._mail)):
            try:
                self._mail.popleft()()
            except Exception as error:  # the others are not concerned
                _log.error("a message to the event loop could not be delivered", exc_info=error)
