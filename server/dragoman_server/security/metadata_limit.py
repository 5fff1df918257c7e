"""Refuses calls with more metadata than the server takes, before anything reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from dragoman_server.errors import TooLarge
from dragoman_server.security.authentication import refusal

_ENTRY_BYTES = 32
"""Counted for each entry beside its name and value (RFC 9113, section 6.5.2)."""


class MetadataLimit(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses more than ``most_bytes``, as HTTP/2 counts them.

    gRPC has the same limit, and holds to it once the peer has acknowledged its settings. A peer that does not would
    have 16 MiB.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler, or one that refuses."""
        metadata = handler_call_details.invocation_metadata or ()
        size = 0
        for key, value in metadata:
            size += len(key) + len(value) + _ENTRY_BYTES
        if size > self._most_bytes:
            return refusal(TooLarge(f"the metadata are too large: at most {self._most_bytes} bytes"))
        return await continuation(handler_call_details)
