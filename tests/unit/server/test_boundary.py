from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import structlog

from dragoman_server.service.boundary import Boundary


class GoneContext:
    """Of a call whose caller has left just now: nothing can be written."""

    async def write(self, message: object) -> None:
        raise grpc.aio.InternalError("failed batch")


async def test_an_answer_to_nobody_is_no_fault_of_ours() -> None:
    async def behave(request: object, context: object) -> AsyncIterator[bytes]:
        yield b"answer"

    async def found(details: object) -> Any:
        return grpc.unary_stream_rpc_method_handler(behave)

    class Details:
        method = "/a/b"

    details: Any = Details()
    handler = await Boundary(slow_reader_seconds=60).intercept_service(found, details)
    with structlog.testing.capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await handler.unary_stream(b"", GoneContext())
    assert not logs
