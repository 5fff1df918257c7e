"""A call over HTTP is a call like any other: its caller is known and may, it has an id, it is counted and logged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from dragoman_server.errors import Cancelled, DeadlineExceeded, InvalidArgument, Violation
from dragoman_server.security.authentication import Callers
from dragoman_server.security.principal import ANONYMOUS, CALLER
from dragoman_server.telemetry.call_record import TRACE_KEYS, CallRecord
from dragoman_server.telemetry.calls import CALL, REQUEST_ID_KEY, Call, call_metadata, request_id
from dragoman_server.web.bodies import Bodies
from dragoman_server.web.faults import Fault, fault_of
from dragoman_server.web.json_messages import Json
from dragoman_server.web.leaving import unless_left
from dragoman_server.web.replies import Reply

TIMEOUT_HEADER = "x-timeout-ms"
LONGEST_TIMEOUT_MS = 3_600_000
_OK, _CANCELLED = "OK", "CANCELLED"


@dataclass(frozen=True)
class Asked:
    """What a caller sent."""

    given: Json
    """The body; empty for a GET."""
    parameters: dict[str, str]
    """Of the path."""
    deadline: float | None
    """On the monotonic clock."""
    request_id: str


Answerer = Callable[[Asked, Reply], Awaitable[None]]
"""Sends the answer; whatever it raises before it has sent anything becomes the answer's status."""
FaultBody = Callable[[Fault], object]


class Calls:
    """Makes endpoints that are calls of the services: same callers, permissions, quotas, metrics, logs and traces."""

    def __init__(self, record: CallRecord, callers: Callers, bodies: Bodies, *, send_seconds: float) -> None:
        self._record = record
        self._callers = callers
        self._bodies = bodies
        self._send_seconds = send_seconds

    def endpoint(self, name: str, method: str, answer: Answerer, fault_body: FaultBody = Fault.body) -> Endpoint:
        """An ASGI application. ``name`` is what it is counted under, ``method`` the gRPC method whose permission it
        needs; ``fault_body`` makes the body of an error.
        """
        return Endpoint(self, name, method, answer, fault_body)

    async def handle(self, endpoint: Endpoint, request: Request, send: Send) -> None:
        """One call, from its arrival to its end."""
        call = Call(endpoint.name, request_id(request.headers.getlist(REQUEST_ID_KEY)), http=True)
        if self._record.traces:
            call.metadata = {key: request.headers[key] for key in TRACE_KEYS if key in request.headers}
        CALL.set(call)  # of this call's task alone
        CALLER.set(ANONYMOUS)  # a request that was sent before the last one was answered begins in that one's context
        self._record.begins(call)
        reply, code = Reply(send, call.request_id, self._send_seconds), _CANCELLED
        try:
            code = await self._answered(endpoint, request, reply)
        finally:
            self._record.ends(call, code)

    async def _answered(self, endpoint: Endpoint, request: Request, reply: Reply) -> str:
        """Answer; returns the name of the status."""
        try:
            await self._answer(endpoint, request, reply)
        except Exception as error:
            fault = fault_of(Cancelled() if isinstance(error, ClientDisconnect) else error)
            call_metadata(error)  # notes why a call was refused
            with contextlib.suppress(Cancelled):  # a caller that reads nothing is not told either
                await reply.fault(fault, endpoint.fault_body(fault))
            return fault.code
        return _OK

    async def _answer(self, endpoint: Endpoint, request: Request, reply: Reply) -> None:
        caller = self._callers.caller(request.headers.getlist("authorization"))
        self._callers.permit(caller, endpoint.method)
        caller.quota.charge()
        CALLER.set(caller)  # of this call's task alone
        timeout = _timeout(request.headers.getlist(TIMEOUT_HEADER))
        given = await self._bodies.read(request) if request.method == "POST" else {}
        call = CALL.get()
        assert call is not None
        deadline = None if timeout is None else call.began + timeout
        asked = Asked(given, dict(request.path_params), deadline, call.request_id)

        async def work() -> None:
            await endpoint.answer(asked, reply)

        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()) as limit:
                await unless_left(request.receive, work(), lambda: reply.complete)
        except TimeoutError:
            if limit.expired():
                raise DeadlineExceeded from None
            raise


class Endpoint:
    """One route, as Starlette takes it: an ASGI application."""

    def __init__(self, calls: Calls, name: str, method: str, answer: Answerer, fault_body: FaultBody) -> None:
        self.name = name
        self.method = method
        self.answer = answer
        self.fault_body = fault_body
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await self._calls.handle(self, Request(scope, receive), send)


def _timeout(given: list[str]) -> float | None:
    """Seconds, or None where the caller waits as long as it takes; raises InvalidArgument."""
    if not given:
        return None
    if len(given) == 1 and given[0].isascii() and given[0].isdecimal() and len(given[0]) <= 7:
        milliseconds = int(given[0])
        if 1 <= milliseconds <= LONGEST_TIMEOUT_MS:
            return milliseconds / 1e3
    value = ascii(", ".join(given)[:40])
    limit = f"one whole number of milliseconds, 1 to {LONGEST_TIMEOUT_MS}"
    raise InvalidArgument([Violation(TIMEOUT_HEADER, value, limit)])
