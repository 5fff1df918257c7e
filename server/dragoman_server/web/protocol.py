"""uvicorn's HTTP/1.1 with limits on the time that a request may take to come, which uvicorn has none for."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedProtocol(H11Protocol):
    """Closes a connection whose headers do not come in time: one that sends nothing would be held for ever.

    So it does where a body goes on that nobody reads, since its request was answered already. For a while it is let
    in all the same: a connection that is closed while something comes takes the answer with it.
    """

    head_seconds = 10.0
    """Overridden by ``bounded_protocol``."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """The first request's headers are awaited."""
        super().connection_made(transport)
        self._close_in(self.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Some of a request has come."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            if self.timeout_keep_alive_task is None:
                self._close_in(self.head_seconds)
        elif not self._goes_on_unread:
            self._stay()

    def on_response_complete(self) -> None:
        """An answer was sent."""
        super().on_response_complete()
        if self._goes_on_unread:
            self._close_in(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._stay()
        super().connection_lost(exc)

    @property
    def _goes_on_unread(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete

    def _close_in(self, seconds: float) -> None:
        """Unless it is to be closed earlier: what comes meanwhile wins no time."""
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stay(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded_protocol(head_seconds: float) -> type[BoundedProtocol]:
    """The protocol with this limit, as a class, which is what uvicorn takes."""
    return type("BoundedProtocol", (BoundedProtocol,), {"head_seconds": head_seconds})
