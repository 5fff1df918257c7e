"""Wakes the event loop from a lane's thread, which keeps the interpreter's lock meanwhile.

``call_soon_threadsafe`` lets go of the lock to write its byte. The loop, just woken, takes it, and the lane waits with
its next step until the loop is done with what it was woken for. Written with the lock held, the byte wakes the loop as
well, which goes on once the lane is computing.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import weakref
from collections import deque
from collections.abc import Callable

_libc = ctypes.PyDLL(None)  # unlike CDLL, it keeps the lock
_libc.write.argtypes = _libc.read.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_libc.write.restype = _libc.read.restype = ctypes.c_ssize_t
_MOST = 4096


class Waking:
    """Runs callbacks on the event loop; it lives as long as the loop does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: deque[Callable[[], None]] = deque()
        self._bytes = ctypes.create_string_buffer(_MOST)
        self.files = self._reads, self._writes = os.pipe()
        """Of the system: both ends of the pipe that wakes the loop; closed with this object."""
        for file in self.files:
            os.set_blocking(file, False)
            weakref.finalize(self, os.close, file)
        loop.add_reader(self._reads, self._woken)

    def call(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` soon, by the loop. Any thread. Raises RuntimeError once the loop is closed."""
        if self._loop.is_closed():
            raise RuntimeError("the event loop is closed")
        self._due.append(callback)
        _libc.write(self._writes, b"\0", 1)  # where the pipe is full, the loop is woken in any case

    def _woken(self) -> None:
        _libc.read(self._reads, self._bytes, _MOST)  # before the first is taken: what comes from here on wakes again
        for _ in range(len(self._due)):
            self._due.popleft()()
