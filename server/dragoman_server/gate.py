"""Whether calls are taken, and how many are inside. Belongs to the event loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from dragoman_server.catalogue import Catalogue
from dragoman_server.errors import Unavailable
from dragoman_server.model_host import ModelHost

_GLANCE_SECONDS = 0.02
_LATE = 1.5
"""Times as long as it should have been."""


class Gate:
    """Closed while the models load, open while they serve, closed for good when the server drains."""

    def __init__(self) -> None:
        self._catalogue: Catalogue | None = None
        self._held: set[Catalogue] = set()
        self._closed = asyncio.Event()
        self._inside = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._knocked = asyncio.Event()

    def open(self, catalogue: Catalogue) -> None:
        """Let calls in, to these models; the calls that are inside keep those that they have found."""
        self._catalogue = catalogue

    @property
    def is_open(self) -> bool:
        """Whether calls are let in."""
        return self._catalogue is not None and not self._closed.is_set()

    @property
    def catalogue(self) -> Catalogue | None:
        """The models; None while they load. They stay when the gate has closed."""
        return self._catalogue

    @property
    def is_idle(self) -> bool:
        """Whether nobody is inside."""
        return not self._inside

    def close(self) -> None:
        """Let no further call in; those inside go on."""
        self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until no further call is let in: one inside that has no end of its own should come to one."""
        await self._closed.wait()

    @contextlib.contextmanager
    def enter(self) -> Iterator[Catalogue]:
        """Be counted as inside, with the models. Raises Unavailable while the gate is closed."""
        self._come()
        catalogue = self.hold()
        try:
            yield catalogue
        finally:
            self.release(catalogue)
            self._go()

    @contextlib.contextmanager
    def attend(self) -> Iterator[None]:
        """Be counted as inside, without models. Raises Unavailable while the gate is closed."""
        self._come()
        try:
            yield
        finally:
            self._go()

    def hold(self) -> Catalogue:
        """The models as they are now, for a call that is inside or a part of it; what it finds there stays until
        ``release``.
        """
        assert self._catalogue is not None
        catalogue = self._catalogue.for_call()
        self._held.add(catalogue)
        return catalogue

    def release(self, catalogue: Catalogue) -> None:
        """Let go of what ``hold`` gave. Idempotent."""
        self._held.discard(catalogue)

    def _come(self) -> None:
        if self._closed.is_set():
            self._knocked.set()
            raise Unavailable("the server is shutting down")
        if self._catalogue is None:
            raise Unavailable("the server is starting: its models are not loaded yet")
        self._inside += 1
        self._idle.clear()

    def _go(self) -> None:
        self._inside -= 1
        if not self._inside:
            self._idle.set()

    async def wait_unused(self, host: ModelHost, seconds: float) -> bool:
        """Wait until no call needs the host, which is offered to no new one; at most so long. Whether none does.

        Then no call holds it either.
        """
        end = time.monotonic() + seconds
        while any(catalogue.needs(host) for catalogue in self._held):
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(_GLANCE_SECONDS)
        for catalogue in self._held:
            catalogue.let_go(host)
        return True

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until nobody is inside, at most so long; returns whether nobody is."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def wait_quiet(self, pause: float, most: float) -> None:
        """Wait until nobody has come to the closed gate for ``pause`` seconds, at most ``most`` seconds.

        A pause for which this loop was late says nothing: who had come could not be seen.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most):
                quiet = False
                while not quiet:
                    began = time.monotonic()
                    knocked = await self._knocks_within(pause)
                    quiet = not knocked and time.monotonic() - began < _LATE * pause

    async def _knocks_within(self, seconds: float) -> bool:
        self._knocked.clear()
        try:
            async with asyncio.timeout(seconds):  # wait_for may lose a cancellation to a knock (before Python 3.12)
                await self._knocked.wait()
        except TimeoutError:
            return False
        return True
