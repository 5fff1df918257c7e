"""The playground: a page for people at ``/`` of the HTTP port, and its scripts and styles under ``/playground/``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "playground"

# Not from the system's table of types, which differs from machine to machine.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Everything comes from this server, nothing stands in the page itself, and no string becomes markup or code.
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


def playground_routes(folder: Path = FOLDER) -> list[Route]:
    """The routes of the page and of every file that it needs. The files are read once, here: no path of a request ever
    reaches the file system. They hold nothing secret, so everybody may have them; what the page asks the API for is
    subject to the API's own rules.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in _TYPES)
    return [Route("/" if path.name == "index.html" else f"/playground/{path.name}", _serving(path)) for path in files]


def _serving(path: Path) -> Callable[[Request], Awaitable[Response]]:
    content = path.read_bytes()
    headers = {
        "content-type": _TYPES[path.suffix],
        "etag": f'"{sha256(content).hexdigest()[:32]}"',
        # May be kept, and is asked for each time: a new server's page never runs with an old one's scripts.
        "cache-control": "no-cache",
    }
    if path.suffix == ".html":
        headers["content-security-policy"] = PAGE_POLICY

    async def serve(request: Request) -> Response:
        if headers["etag"] in _tags(request.headers.getlist("if-none-match")):
            return Response(status_code=304, headers={**headers})
        return Response(content, headers=headers)

    return serve


def _tags(values: list[str]) -> set[str]:
    """The entity tags of If-None-Match, which compares weakly (RFC 9110, section 13.1.2)."""
    return {tag.strip().removeprefix("W/") for value in values for tag in value.split(",")}
