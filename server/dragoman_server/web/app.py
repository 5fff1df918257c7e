"""What the HTTP port answers: metrics for those who may read them, and probes for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dragoman_server.errors import Overloaded, PermissionDenied, ServerError, Unauthenticated
from dragoman_server.security.authentication import bearer
from dragoman_server.security.principal import ANONYMOUS, Permission
from dragoman_server.security.tokens import TokenFile
from dragoman_server.web.headers import SafeHeaders


def application(registry: CollectorRegistry, *, tokens: TokenFile | None, ready: Callable[[], bool]) -> Starlette:
    """``/metrics`` (permission ``metrics``), ``/healthz`` and ``/readyz``. ``tokens`` None: everybody may read."""

    async def metrics(request: Request) -> Response:
        try:
            _authorise(request, tokens, Permission.METRICS)
        except ServerError as error:
            return _refusal(error)
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        # In a thread: it is some milliseconds that calls need not wait for.
        return Response(await asyncio.to_thread(encode, registry), media_type=kind)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", status_code=503)

    return Starlette(
        routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)],
        middleware=[Middleware(SafeHeaders)],
    )


def _authorise(request: Request, tokens: TokenFile | None, need: Permission) -> None:
    """Raises Unauthenticated, PermissionDenied, or Overloaded where a quota is used up."""
    caller = ANONYMOUS if tokens is None else bearer(request.headers.getlist("authorization"), tokens)
    if need not in caller.permissions:
        raise PermissionDenied(f"the page needs the permission {need}")
    caller.quota.charge()


def _refusal(error: ServerError) -> Response:
    match error:
        case Unauthenticated():
            return PlainTextResponse(f"{error}\n", 401, {"www-authenticate": "Bearer"})
        case PermissionDenied():
            return PlainTextResponse(f"{error}\n", 403)
        case Overloaded(retry_after=seconds):
            return PlainTextResponse(f"{error}\n", 429, {"retry-after": str(ceil(seconds))})
        case _:
            raise error
