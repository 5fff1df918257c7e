"""An HTTP port on the gRPC server's event loop, with the same certificates."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import structlog
import uvicorn
from starlette.applications import Starlette

from dragoman_server.errors import Violation
from dragoman_server.security.certificates import CertificateFiles
from dragoman_server.settings import SettingsError
from dragoman_server.web.limits import HttpLimits
from dragoman_server.web.protocol import bounded_protocol

_STOP_SECONDS = 1

_log = structlog.get_logger(__name__)


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the process that it is part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No signal is captured."""
        yield


class HttpServer:
    """Serves ``app``; belongs to the event loop on which it is started."""

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        certificates: CertificateFiles | None,
        limits: HttpLimits = HttpLimits(),  # noqa: B008  (frozen)
    ) -> None:
        self.app = app
        self._host = host
        self._port = port
        self._scheme = "http" if certificates is None else "https"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            http=bounded_protocol(limits.head_seconds),
            loop="none",
            limit_concurrency=limits.connections,
            h11_max_incomplete_event_size=limits.head_bytes,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=_STOP_SECONDS,
            ssl_context_factory=None if certificates is None else _factory(certificates),
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None
        self.address = ""
        """HOST:PORT, once started."""
        self.url = ""
        """http://HOST:PORT, or https."""

    async def start(self) -> None:
        """Listen. Raises SettingsError where the port cannot be had."""
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, where = found[0]
            listening = socket.socket(family, kind, protocol)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(where)
            except OSError:
                listening.close()
                raise
        except OSError as error:
            limit = "an address of this machine with a port that is free and allowed"
            raise SettingsError([Violation("host and http_port", f"{self._host}:{self._port}", limit)]) from error
        host = f"[{self._host}]" if family == socket.AF_INET6 else self._host
        self.address = f"{host}:{listening.getsockname()[1]}"
        self.url = f"{self._scheme}://{self.address}"
        self._task = asyncio.create_task(self._server.serve([listening]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.005)
        if self._task.done():
            await self._task
        _log.info("listening for HTTP", address=self.url)

    async def stop(self) -> None:
        """Answer what is under way, for a second at most, and close the port."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def _factory(files: CertificateFiles) -> Callable[[uvicorn.Config, Callable[[], ssl.SSLContext]], ssl.SSLContext]:
    """Gives a context whose handshakes use the new certificate once the files were replaced by others that are good."""
    stamp, current = files.stamp(), _context(files)
    faulty = stamp

    def refresh(handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        nonlocal stamp, faulty, current
        found = files.stamp()
        if found != stamp:
            try:
                files.read()
                current = _context(files)
                stamp = found
            except (SettingsError, OSError):  # tried again at the next handshake, but logged once
                if found != faulty:
                    _log.error("the certificate was not read again for HTTP: the old one holds")
            faulty = found
        if current is not context:
            handshake.context = current

    current.sni_callback = refresh
    first = current
    return lambda config, default: first


def _context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
