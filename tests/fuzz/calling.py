"""One call, without a socket or over one: what came of it, as a status with its text."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.fuzz.requests import Attempt
from tests.fuzz.served import Handlers, OnPort

PATIENCE = 60.0
"""Seconds after which a call is said to hang."""
_WATCHED = 0.05
"""Seconds for which a stream without an end is listened to."""


@dataclass(frozen=True)
class Ending:
    """How a call ended; ``raised`` is what came through although nothing should."""

    code: grpc.StatusCode
    details: str = ""
    answers: int = 0
    raised: BaseException | None = None


@dataclass
class FakeContext:
    """What a handler sees of a call that gRPC's core knows nothing of."""

    seconds: float | None = None
    """That the caller gives it."""
    status: tuple[grpc.StatusCode, str] | None = None
    trailing: Any = ()
    written: list[object] = field(default_factory=list)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the call; raises, as gRPC's does."""
        self.status, self.trailing = (code, details), trailing_metadata
        raise grpc.aio.AbortError

    async def write(self, message: object) -> None:
        """The reader takes it at once."""
        await asyncio.sleep(0)
        self.written.append(message)

    def time_remaining(self) -> float | None:
        """The caller's deadline."""
        return self.seconds

    def set_trailing_metadata(self, metadata: Any) -> None:
        """What is told at the end."""
        self.trailing = metadata

    def trailing_metadata(self) -> Any:
        """What was set."""
        return self.trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        """Of a handler that does not abort."""
        self.status = (code, self.status[1] if self.status else "")

    def set_details(self, details: str) -> None:
        """Of a handler that does not abort."""
        self.status = (self.status[0] if self.status else grpc.StatusCode.UNKNOWN, details)

    def code(self) -> grpc.StatusCode | None:
        """The status so far; None: OK."""
        return self.status[0] if self.status else None

    def add_done_callback(self, callback: object) -> None:
        """Nobody leaves early."""


async def call_handler(target: Handlers, attempt: Attempt) -> Ending:
    """Decode the messages and run the method, all behind the server's interceptors."""
    # A context of its own, as each call of gRPC's has: interceptors leave marks there.
    return await asyncio.get_running_loop().create_task(
        _call_handler(target, attempt), context=contextvars.copy_context()
    )


async def _call_handler(target: Handlers, attempt: Attempt) -> Ending:
    context = FakeContext()
    method = attempt.method
    try:
        async with asyncio.timeout(_WATCHED if method.endless else PATIENCE):
            handler = await target.handler(method.path)
            requests = [handler.request_deserializer(body) for body in attempt.bodies]
            argument: Any = _stream(requests) if handler.request_streaming else requests[0]
            if handler.response_streaming:
                kind = handler.stream_stream if handler.request_streaming else handler.unary_stream
                await kind(argument, context)
            else:
                context.written.append(await handler.unary_unary(argument, context))
            for answer in context.written:
                assert isinstance(handler.response_serializer(answer), bytes)
    except grpc.aio.AbortError:
        pass
    except TimeoutError as error:
        if not method.endless:
            return Ending(grpc.StatusCode.UNKNOWN, "it hangs", raised=error)
    except Exception as error:
        return Ending(grpc.StatusCode.UNKNOWN, "an exception came through", raised=error)
    code, details = context.status or (grpc.StatusCode.OK, "")
    return Ending(code, details, len(context.written))


async def _stream(requests: Sequence[object]) -> AsyncIterator[object]:
    for request in requests:
        await asyncio.sleep(0)
        yield request


async def call_port(target: OnPort, attempt: Attempt) -> Ending:
    """Send the messages as they are, and read all that comes back."""
    # In a thread: gRPC's client for asyncio loses the status of a call that ends while it is still sending. The threads
    # are the callers' own: the server, in this process too, needs those of the event loop.
    return await asyncio.get_running_loop().run_in_executor(target.callers, _call_port, target, attempt)


def _call_port(target: OnPort, attempt: Attempt) -> Ending:
    untyped: Any = target.blocking  # bytes in, bytes out
    seconds = _WATCHED if attempt.method.endless else PATIENCE
    call = untyped.stream_stream(attempt.method.path)(iter(attempt.bodies), timeout=seconds)
    answers = 0
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            answers += 1
    code, details = call.code(), call.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and not attempt.method.endless:
        return Ending(grpc.StatusCode.UNKNOWN, "it hangs", answers)
    return Ending(code, details, answers)
