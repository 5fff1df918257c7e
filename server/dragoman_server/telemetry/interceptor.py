"""Stands outside of every method: each call has an id, is counted when it ends, and leaves one line in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import grpc

from dragoman_server.security.methods import METHODS
from dragoman_server.telemetry.call_record import TRACE_KEYS, CallRecord
from dragoman_server.telemetry.calls import ANSWERED_ID_KEY, CALL, REQUEST_ID_KEY, Call, request_id
from dragoman_server.telemetry.rpc_meter import UNKNOWN

_Handler = Any  # grpc.RpcMethodHandler: generic in the stubs, not at run time
_Context = grpc.aio.ServicerContext[Any, Any]
_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]]
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


class Telemetry(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """The outermost interceptor; within it every handler is a coroutine. Methods beyond ``known`` count as one."""

    def __init__(self, record: CallRecord, known: Collection[str] = METHODS.keys()) -> None:
        self._record = record
        self._known = known
        self._wrapped: dict[str, tuple[_Handler, _Handler]] = {}  # by known method: the handler, and it wrapped

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> _Handler:
        """The method's handler, wrapped; None for an unknown method of a known caller."""
        method = handler_call_details.method
        metadata = handler_call_details.invocation_metadata or ()
        name = method.rpartition("/")[2] if method in self._known else UNKNOWN
        call = Call(name, request_id([value for key, value in metadata if key == REQUEST_ID_KEY]))
        if self._record.traces:
            call.metadata = {key: str(value) for key, value in metadata if key in TRACE_KEYS}
        CALL.set(call)  # of this call's task alone
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        kept = self._wrapped.get(method)
        if kept is not None and kept[0] is handler:
            return kept[1]
        wrapped = self._wrap(handler)
        if method in self._known:
            self._wrapped[method] = handler, wrapped
        return wrapped

    def _wrap(self, handler: _Handler) -> _Handler:
        kind = _KINDS[handler.request_streaming, handler.response_streaming]
        behave = getattr(handler, kind)

        async def metered(request: object, context: _Context) -> object:
            call = CALL.get()
            assert call is not None
            self._record.begins(call)
            context.set_trailing_metadata(((ANSWERED_ID_KEY, call.request_id),))
            code = grpc.StatusCode.UNKNOWN.name
            try:
                answer = await behave(request, context)
            except asyncio.CancelledError:
                left = context.time_remaining()
                late = left is not None and left <= 0
                code = (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED).name
                raise
            except grpc.aio.AbortError:
                code = _code(context)
                raise
            else:
                code = _code(context)
                return answer
            finally:
                self._record.ends(call, code)

        return getattr(grpc, f"{kind}_rpc_method_handler")(
            metered,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _code(context: _Context) -> str:
    """The status that the call was given, OK where it was given none."""
    code: Any = context.code()
    return _CODES.get(code.value[0] if isinstance(code, grpc.StatusCode) else int(code or 0), "UNKNOWN")
