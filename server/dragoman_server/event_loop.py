"""The server's event loop: its own callbacks go first, and it seldom lets go of the interpreter's lock for nothing."""

from __future__ import annotations

import asyncio
import selectors
import sys

_LEFT_OUT = 8
"""Polls in a row, at most."""
_SWITCH_SECONDS = 2e-4


class SeldomPolling(selectors.DefaultSelector):
    """Looks for events when the loop has nothing else to do, and at the least every so often.

    asyncio polls before each round of callbacks that are due at once, some three times for each call that it serves.
    Each poll lets go of the interpreter's lock, and when the lanes are busy another thread has it for a while then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._left_out = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As ``selectors.BaseSelector`` says, but that with a timeout of 0 events may be left to the next time."""
        if timeout is not None and timeout <= 0 and self._left_out < _LEFT_OUT:
            self._left_out += 1
            return []
        self._left_out = 0
        return super().select(timeout)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """For ``asyncio.Runner``."""
    return asyncio.SelectorEventLoop(SeldomPolling())


def switch_soon() -> None:
    """Let a thread of this process that wants the interpreter's lock have it after a fifth of a millisecond, not five.

    A lane wants it after each step. Under more calls than the server can answer the event loop never rests, and lanes
    that wait five milliseconds for each of their steps answer half as many.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
