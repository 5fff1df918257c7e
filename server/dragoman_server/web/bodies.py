"""The body of a request, read within bounds of size and time."""

from __future__ import annotations

import asyncio

import grpc
from starlette.requests import Request

from dragoman_server.web.faults import HttpError
from dragoman_server.web.json_messages import Json, parsed

_KIND = "application/json"
_LARGE_BYTES = 64 << 10


class Bodies:
    """Reads what callers send: at most ``most_bytes``, within ``seconds``. Belongs to the event loop's thread."""

    def __init__(self, most_bytes: int, seconds: float) -> None:
        self._most = most_bytes
        self._seconds = seconds
        self._one = asyncio.Lock()

    async def read(self, request: Request) -> Json:
        """The object that the body holds.

        Raises HttpError for another type, for one that is too large, and for one that does not come; InvalidArgument
        for one that cannot be read.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _KIND:
            raise HttpError(415, f"content-type = {kind[:80]!a}: {_KIND}")
        body = await self._bytes(request)
        if len(body) <= _LARGE_BYTES:
            return parsed(body)
        # One at a time: JSON takes many times its size in memory while it is read.
        async with self._one:
            return await asyncio.to_thread(parsed, body)

    async def _bytes(self, request: Request) -> bytes:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._most:
            raise self._too_large(f"{length[:20]} bytes")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._seconds):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > self._most:
                        raise self._too_large("more")
        except TimeoutError:
            raise HttpError(
                408, f"the body did not come within {self._seconds:g} seconds", grpc.StatusCode.DEADLINE_EXCEEDED
            ) from None
        return b"".join(parts)

    def _too_large(self, value: str) -> HttpError:
        return HttpError(413, f"body = {value}: at most {self._most} bytes", grpc.StatusCode.RESOURCE_EXHAUSTED)
