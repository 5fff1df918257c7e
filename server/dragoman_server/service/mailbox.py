"""From the lanes' threads to the event loop: one wake-up for all that has come meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from dragoman_server.service.waking import Waking

_log = structlog.get_logger(__name__)


class Mailbox:
    """Runs callbacks on the event loop; ``post`` may be called by any thread and does not wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop, waking: Waking | None = None) -> None:
        self._loop = loop
        self._waking = waking or Waking(loop)
        self._mail: deque[Callable[[], None]] = deque()
        self._woken = False
        """Or will be, by the clock."""
        self._enough = 0
        """Messages that wake before the clock does; 0: no clock is set."""
        self._clock: asyncio.TimerHandle | None = None

    def another(self) -> Mailbox:
        """A mailbox of the same loop, which rests by itself."""
        return Mailbox(self._loop, self._waking)

    def post(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` soon, after those posted before. Raises RuntimeError once the loop is closed."""
        self._mail.append(callback)
        # Waking the loop costs far more than the append. Two threads may both find it asleep: no harm.
        if not self._woken or 0 < self._enough <= len(self._mail):
            self._woken, self._enough = True, 0
            self._waking.call(self._deliver)

    def rest(self, seconds: float, enough: int) -> None:
        """Let what is posted from now on wait for ``seconds``, or until there are ``enough``; for once.

        By the loop's thread alone. Without effect where it has been woken already.
        """
        if not self._woken:
            self._woken, self._enough = True, enough
            self._clock = self._loop.call_later(seconds, self._deliver)

    def _deliver(self) -> None:
        self._woken, self._enough = False, 0  # before the first is taken: what is posted from here on wakes again
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        for _ in range(len(self._mail)):
            try:
                self._mail.popleft()()
            except Exception as error:  # the others are not concerned
                _log.error("a message to the event loop could not be delivered", exc_info=error)
