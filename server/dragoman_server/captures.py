"""While a CUDA graph is captured nothing else is done on a device: another thread's allocation would break it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Captures:
    """Many threads may use the device beside each other; one that captures does so alone, one after the other."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._users = 0
        self._capturing = False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Use the device, captures aside. Not while one is held already: a capture that waits would wait for ever."""
        with self._free:
            self._free.wait_for(lambda: not self._capturing)
            self._users += 1
        try:
            yield
        finally:
            with self._free:
                self._users -= 1
                self._free.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Capture: waits for all that use the device, and whoever comes meanwhile waits for the capture."""
        with self._free:
            self._free.wait_for(lambda: not self._capturing)
            self._capturing = True
            self._free.wait_for(lambda: not self._users)
        try:
            yield
        finally:
            with self._free:
                self._capturing = False
                self._free.notify_all()


CAPTURES = Captures()
"""Those of this process: models are loaded while others serve."""
