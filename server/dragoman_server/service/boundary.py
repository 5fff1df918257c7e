"""What stands around every method: errors leave as statuses, and bytes that are no message are the caller's fault.

gRPC by itself would send an exception's text to the caller, and a deserialiser's too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

import grpc

from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.service.slow_reader import send
from dragoman_server.service.status import status_of
from dragoman_server.telemetry.calls import call_metadata

_Handler = Any  # grpc.RpcMethodHandler: generic in the stubs, not at run time
_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]]
_MALFORMED: Final = object()


class Boundary(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every method of every service, health and reflection too.

    A stream whose reader takes nothing for ``slow_reader_seconds`` is given up.
    """

    def __init__(self, *, slow_reader_seconds: float) -> None:
        self._slow_reader_seconds = slow_reader_seconds
        self._guarded: dict[str, _Handler] = {}  # by method; only methods that exist are kept

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> _Handler:
        """The method's handler, wrapped; None for an unknown method, which gRPC answers with UNIMPLEMENTED."""
        method = handler_call_details.method
        if method not in self._guarded:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._guarded[method] = _guard(handler, self._slow_reader_seconds)
        return self._guarded[method]


def _guard(handler: _Handler, slow_reader_seconds: float) -> _Handler:
    def deserialize(data: bytes) -> object:
        try:
            return handler.request_deserializer(data)
        except Exception:  # whatever a parser raises, the bytes were wrong
            return _MALFORMED

    def argument(request: object) -> object:
        # What gRPC hands over is one message, or an iterable of them when the request is a stream.
        return _readable(cast(AsyncIterable[object], request)) if handler.request_streaming else _readable_one(request)

    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    behave = getattr(handler, kind)

    async def answer_one(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> object:
        try:
            return await behave(argument(request), context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            return await _abort(context, error)

    async def answer_stream(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            answers = behave(argument(request), context)
            if isinstance(answers, AsyncGenerator):
                await send(answers, context.write, seconds=slow_reader_seconds)
            else:  # the method writes to the context by itself
                await answers
        except grpc.aio.AbortError:
            raise
        except grpc.aio.InternalError as error:
            # gRPC's own, of an answer that could not be sent: the caller has left, and this is how it is known first.
            raise asyncio.CancelledError from error
        except Exception as error:
            await _abort(context, error)

    return getattr(grpc, f"{kind}_rpc_method_handler")(
        answer_stream if handler.response_streaming else answer_one,
        request_deserializer=deserialize,
        response_serializer=handler.response_serializer,
    )


def _readable_one(request: object) -> object:
    if request is _MALFORMED:
        raise InvalidArgument([Violation("request", "bytes", "a message of the method's type in protobuf's encoding")])
    return request


async def _readable(requests: AsyncIterable[object]) -> AsyncIterator[object]:
    async for request in requests:
        yield _readable_one(request)


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> object:
    status = status_of(error)
    return await context.abort(status.code, status.details, (*status.trailing_metadata, *call_metadata(error)))
