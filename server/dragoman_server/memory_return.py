"""What is not used any more goes back to the system: models that are gone, and holes in the heap."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dragoman_server import machine
from dragoman_server.heap import ends_going_back, trim

if TYPE_CHECKING:
    from dragoman_server.model_host import ModelHost

_MIB = 1 << 20
_PAUSE_SECONDS = 0.02
_PATIENCE_SECONDS = 0.5
"""After which garbage is collected even if the model itself is not gone: it may be part of some."""
_LONGEST_PAUSE_SECONDS = 30.0
_LOOK_SECONDS = 2.0
_WORTH = 4 * _MIB
"""Bytes of holes that are given back when nobody is inside."""
_MUCH = 64 * _MIB
"""And under load, where the next step may take them again."""


async def give_back(model: weakref.ref[ModelHost], parts: Sequence[weakref.ref[Any]]) -> None:
    """Return to the system what a model has left behind, as soon as nobody holds it or its parts any more.

    A call that ends a moment later may hold the model still. What is collected before that is not collected again for
    a long time: an engine and its lanes know each other.
    """
    pause = _PAUSE_SECONDS
    while _there(model) or any(map(_there, parts)):
        if not _there(model) or pause > _PATIENCE_SECONDS:
            await asyncio.to_thread(_collect)
        if _there(model) or any(map(_there, parts)):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    await asyncio.to_thread(trim)


def _collect() -> None:
    with ends_going_back():
        gc.collect()


def _there(thing: weakref.ref[Any]) -> bool:
    return thing() is not None


class HeapTrimming:
    """Gives holes in the heap back when they have grown. Belongs to the event loop's thread.

    What is freed stays with malloc, and holes of all threads add up: a large message leaves several MiB, and so does a
    model that has come and gone. ``idle`` tells whether nothing is being done for anybody.
    """

    def __init__(self, idle: Callable[[], bool], *, seconds: float = _LOOK_SECONDS) -> None:
        self._idle = idle
        self._seconds = seconds
        self._floor: int | None = None
        """What was resident and not allocated after the last time: libraries, the interpreter's own memory."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Give back what starting has left, and look from then on; once."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while (unused := _unused()) is not None:
            if self._floor is None or unused - self._floor > (_WORTH if self._idle() else _MUCH):
                await asyncio.to_thread(trim)
                self._floor = unused = _unused() or 0
            self._floor = min(self._floor, unused)
            await asyncio.sleep(self._seconds)


def _unused() -> int | None:
    """Bytes that are resident and that malloc has not given out; None where the system does not say."""
    resident, heap = machine.resident_memory(), machine.heap()
    return None if resident is None or heap is None else resident - heap.used
