"""Follows the repository: what is put there is served, what is taken away is not."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from dragoman_server.model_manager import ModelManager

_log = structlog.get_logger(__name__)


class Polling:
    """Looks at the repository every ``seconds``. Belongs to the event loop's thread."""

    def __init__(self, manager: ModelManager, seconds: float) -> None:
        self._manager = manager
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None
        self._trouble = ""

    def start(self) -> None:
        """Look for the first time after ``seconds``."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._manager.follow()
            except Exception as error:  # a disk that is away comes back: what is served stays until then
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    _log.warning("the repository cannot be followed", exc_info=error)
            else:
                self._trouble = ""
