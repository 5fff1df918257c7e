"""What stands before every path: pages of other origins, and names that only pretend to be this machine, get nothing.

A browser lets any page send requests to any address. Without these, a page on the web could drive a server that listens
on the visitor's own machine, and by a name of its own that it lets point there (DNS rebinding) read the answers too.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import grpc
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dragoman_server.security.policy import is_loopback
from dragoman_server.web.faults import HttpError, fault_of
from dragoman_server.web.json_messages import encoded

_READING = frozenset({"GET", "HEAD"})
_OWN_SITES = frozenset({"same-origin", "none"})
_DENIED = grpc.StatusCode.PERMISSION_DENIED


class Guards:
    """Middleware. ``local``: the server listens on a loopback address, and is called by the names of one alone.

    ``head_bytes`` are the most that a path and its headers may have: what uvicorn reads at one go, it lets in.
    """

    def __init__(self, app: ASGIApp, *, local: bool, head_bytes: int) -> None:
        self._app = app
        self._local = local
        self._head_bytes = head_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive)
        try:
            _check_size(request, self._head_bytes)
            if self._local:
                _check_host(request)
            if request.method not in _READING:
                _check_origin(request)
        except HttpError as error:
            answer = refusal(error)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def refusal(error: Exception) -> Response:
    """An error that is no call's, in the API's own shape."""
    fault = fault_of(error)
    return Response(encoded(fault.body()), fault.status, fault.headers, "application/json")


def _check_size(request: Request, most: int) -> None:
    """Raises HttpError where path and headers are too large."""
    size = len(request.url.path) + len(request.url.query)
    size += sum(len(name) + len(value) for name, value in request.headers.raw)
    if size > most:
        raise HttpError(431, f"path and headers = {size} bytes: at most {most}")


def _check_host(request: Request) -> None:
    """Raises HttpError where the caller has come by a name that is not of this machine alone."""
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not _is_local(hosts[0]):
        raise HttpError(421, "this server listens on its own machine, and answers to no other name", _DENIED)


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def _check_origin(request: Request) -> None:
    """Raises HttpError where a browser says that another site's page sends this."""
    sites = request.headers.getlist("sec-fetch-site")
    if any(site not in _OWN_SITES for site in sites):
        raise HttpError(403, "a page of another origin may not call this server", _DENIED)
    for origin in request.headers.getlist("origin"):
        if [urlsplit(origin).netloc] != request.headers.getlist("host"):
            raise HttpError(403, "a page of another origin may not call this server", _DENIED)
