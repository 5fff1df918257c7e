"""What a caller is sent: one JSON object, or a stream of server-sent events, or why there is neither."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Send

from dragoman_server.errors import Cancelled
from dragoman_server.web.faults import Fault
from dragoman_server.web.json_messages import encoded

_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"
REQUEST_ID_HEADER = "x-request-id"


class Reply:
    """The answer to one request. A caller that takes nothing for ``seconds`` is given up: Cancelled."""

    def __init__(self, send: Send, request_id: str, seconds: float) -> None:
        self._send = send
        self._request_id = request_id
        self._seconds = seconds
        self._began = False
        self._streams = False
        self._stuck = False
        self.complete = False
        """All has been sent."""

    async def json(self, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """The whole answer."""
        await self.body(encoded(value), status=status, headers=headers)

    async def body(self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """The whole answer, where its JSON is there already."""
        await self._head(status, _JSON, {"content-length": str(len(body)), **(headers or {})})
        await self._part(body, last=True)

    async def event(self, value: object, *, kind: str = "") -> None:
        """One event of a stream, whose head goes before the first. ``kind`` is its type; empty: the usual one."""
        await self.data(encoded(value), kind=kind)

    async def data(self, data: bytes, *, kind: str = "") -> None:
        """The same, of one line as it stands."""
        if not self._began:
            # Proxies that gather what they pass on would make one answer of the stream.
            await self._head(200, _EVENTS, {"x-accel-buffering": "no"})
            self._streams = True
        named = f"event: {kind}\n".encode() if kind else b""
        await self._part(b"%bdata: %b\n\n" % (named, data))

    async def end(self) -> None:
        """No event follows."""
        await self._part(b"", last=True)

    async def fault(self, fault: Fault, value: object) -> None:
        """Why there is no answer; of a stream that has begun: why it ends here, as an event of type ``error``."""
        if self._stuck:
            return
        if not self._began:
            await self.json(value, status=fault.status, headers=fault.headers)
        elif self._streams:
            await self.event(value, kind="error")
            await self.end()

    async def _head(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self._began = True
        given = {"content-type": kind, REQUEST_ID_HEADER: self._request_id, **headers}
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
        await self._within({"type": "http.response.start", "status": status, "headers": pairs})

    async def _part(self, body: bytes, *, last: bool = False) -> None:
        self.complete = last  # before it is: whoever sends it may be told at once that nothing follows
        await self._within({"type": "http.response.body", "body": body, "more_body": not last})

    async def _within(self, message: dict[str, object]) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(message)
        except TimeoutError:
            self._stuck = True
            raise Cancelled("the caller reads nothing") from None
