"""How late the event loop is: whatever holds it up, holds up every call."""

from __future__ import annotations

import asyncio
import contextlib

from dragoman_server.telemetry.histogram import STEP_SECONDS, Histogram

_EVERY_SECONDS = 0.25


class LoopLag:
    """Wakes up four times a second and looks how late it is. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self.seconds = Histogram(STEP_SECONDS)
        self.last = 0.0
        """Seconds, of the last look."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin on the running loop; once."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY_SECONDS
            await asyncio.sleep(_EVERY_SECONDS)
            self.last = max(0.0, loop.time() - due)
            self.seconds.observe(self.last)
