"""Stands before every method: who calls is known, and may, or the call ends before its message is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc

from dragoman_server.errors import PermissionDenied, ServerError, Unauthenticated
from dragoman_server.security.methods import METHODS, Need, Open
from dragoman_server.security.principal import ANONYMOUS, CALLER, Principal
from dragoman_server.security.tokens import TokenFile
from dragoman_server.service.status import status_of
from dragoman_server.telemetry.calls import call_metadata

_Handler = Any  # grpc.RpcMethodHandler: generic in the stubs, not at run time
_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]]
_SCHEME = "bearer"


class Callers:
    """Knows who calls, and which methods they may call; over gRPC and over HTTP alike.

    ``tokens`` None: everybody is the ``stranger``. A method without an entry in ``methods`` is denied, whoever calls.
    """

    def __init__(
        self, tokens: TokenFile | None, methods: Mapping[str, Need] = METHODS, stranger: Principal = ANONYMOUS
    ) -> None:
        self._tokens = tokens
        self._methods = methods
        self._stranger = stranger

    def caller(self, authorizations: Sequence[str]) -> Principal:
        """Who calls, by the values of all its authorization entries; raises Unauthenticated."""
        return self._stranger if self._tokens is None else bearer(authorizations, self._tokens)

    def is_open(self, method: str) -> bool:
        """Whether nobody is asked who they are."""
        return self._methods.get(method) is Open.OPEN

    def permit(self, caller: Principal, method: str) -> None:
        """Raises PermissionDenied where the caller may not call the method."""
        need = self._methods.get(method)
        if need is not Open.OPEN and need not in caller.permissions:
            raise PermissionDenied(f"the method needs the permission {need}" if need else "the method is closed")


class Authentication(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Stands before all methods but health, which is open."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> _Handler:
        """The method's handler, or one that refuses; None for an unknown method of a known caller."""
        method = handler_call_details.method
        if self._callers.is_open(method):
            return await continuation(handler_call_details)
        try:
            metadata = handler_call_details.invocation_metadata or ()
            caller = self._callers.caller([str(value) for key, value in metadata if key == "authorization"])
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._callers.permit(caller, method)
            if not handler.request_streaming:  # a stream's requests are charged one by one
                caller.quota.charge()
        except ServerError as error:
            return refusal(error)
        CALLER.set(caller)  # of this call's task alone
        return handler


def bearer(authorizations: Sequence[str], tokens: TokenFile) -> Principal:
    """Who calls, by the values of all its authorization entries; raises Unauthenticated."""
    if len(authorizations) != 1:
        raise Unauthenticated("one authorization entry is needed, with a bearer token")
    scheme, _, token = authorizations[0].partition(" ")
    if scheme.lower() != _SCHEME or not token:
        raise Unauthenticated("the authorization entry holds no bearer token")
    return tokens.principal(token)


def refusal(error: ServerError) -> _Handler:
    """Ends the call at once; as a stream, since a single request would be waited for."""
    status = status_of(error)

    async def refuse(requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(status.code, status.details, (*status.trailing_metadata, *call_metadata(error)))

    return grpc.stream_stream_rpc_method_handler(refuse)
