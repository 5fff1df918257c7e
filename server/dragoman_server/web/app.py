"""What the HTTP port answers: the API for those who may call it, metrics, and probes for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from dragoman_server.errors import PermissionDenied, ServerError
from dragoman_server.security.authentication import Callers
from dragoman_server.security.principal import Permission
from dragoman_server.web.faults import HttpError
from dragoman_server.web.guards import Guards, refusal
from dragoman_server.web.headers import SafeHeaders


def application(
    registry: CollectorRegistry,
    *,
    callers: Callers,
    ready: Callable[[], bool],
    local: bool,
    head_bytes: int,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """``/metrics`` (permission ``metrics``), ``/healthz``, ``/readyz``, and further ``routes``.

    ``local``: only this machine reaches the port. ``head_bytes`` are the most that a path and its headers may have.
    """

    async def metrics(request: Request) -> Response:
        try:
            _authorise(request, callers, Permission.METRICS)
        except ServerError as error:
            return refusal(error)
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        # In a thread: it is some milliseconds that calls need not wait for.
        return Response(await asyncio.to_thread(encode, registry), media_type=kind)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", status_code=503)

    return Starlette(
        routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz), *routes],
        middleware=[Middleware(SafeHeaders), Middleware(Guards, local=local, head_bytes=head_bytes)],
        exception_handlers={404: _not_found, 405: _not_allowed},
    )


def _authorise(request: Request, callers: Callers, need: Permission) -> None:
    """Raises Unauthenticated, PermissionDenied, or Overloaded where a quota is used up."""
    caller = callers.caller(request.headers.getlist("authorization"))
    if need not in caller.permissions:
        raise PermissionDenied(f"the page needs the permission {need}")
    caller.quota.charge()


async def _not_found(_: Request, __: Exception) -> Response:
    return refusal(HttpError(404, "there is no such path: see /openapi.json", grpc.StatusCode.UNIMPLEMENTED))


async def _not_allowed(request: Request, error: Exception) -> Response:
    answer = refusal(HttpError(405, f"not by {request.method}", grpc.StatusCode.UNIMPLEMENTED))
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer
