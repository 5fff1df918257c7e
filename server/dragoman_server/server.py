"""The gRPC server: it listens at once, serves when its models are loaded, and drains without losing work."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import structlog

from dragoman_protos.open_inference import open_inference_pb2, open_inference_pb2_grpc
from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc, models_pb2, models_pb2_grpc
from dragoman_server.catalogue import Catalogue
from dragoman_server.errors import Violation
from dragoman_server.gate import Gate
from dragoman_server.loading import ModelLoader
from dragoman_server.memory_return import HeapTrimming
from dragoman_server.model_manager import Loader, ModelManager
from dragoman_server.open_inference.service import OpenInferenceService
from dragoman_server.polling import Polling
from dragoman_server.repository import Repository, default_root
from dragoman_server.security.authentication import Authentication, Callers
from dragoman_server.security.certificates import Certificates, certificate_files
from dragoman_server.security.metadata_limit import MetadataLimit
from dragoman_server.security.policy import is_loopback, methods, policy_violations, stranger
from dragoman_server.security.tokens import TokenFile
from dragoman_server.service import health
from dragoman_server.service.boundary import Boundary
from dragoman_server.service.inference import InferenceService
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.models import ModelService
from dragoman_server.service.recipes import Recipes
from dragoman_server.service.registering import one_door
from dragoman_server.settings import Settings, SettingsError
from dragoman_server.telemetry.call_record import CallRecord
from dragoman_server.telemetry.interceptor import Telemetry
from dragoman_server.telemetry.loop_lag import LoopLag
from dragoman_server.telemetry.rpc_meter import RpcMeter
from dragoman_server.version_policy import parse_policies
from dragoman_server.web.limits import HttpLimits

if TYPE_CHECKING:
    from dragoman_server.telemetry.tracing import Tracing
    from dragoman_server.web.http_server import HttpServer

SERVICES = (
    inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name,
    models_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
)
_METADATA_BYTES = 16 << 10
_MOST_PENDING = 1_000_000
_QUIET_SECONDS = 0.1
_LONGEST_QUIET_SECONDS = 5.0
"""On a machine that is too busy to tell; not to be waited for elsewhere."""
_REPLY_SECONDS = 1.0
"""For the last answers to leave after the engines stopped."""

_log = structlog.get_logger(__name__)


class DragomanServer:
    """One listening port. Created, used and stopped on one event loop.

    Calls are traced by ``tracing``, or as the settings say. ``http_limits`` holds for the HTTP port, but for its
    ``body_bytes``, which are the settings' ``max_message_bytes``.

    Raises SettingsError where the settings would let anybody in, or name files of tokens or certificates with faults.
    """

    def __init__(
        self, settings: Settings, *, tracing: Tracing | None = None, http_limits: HttpLimits | None = None
    ) -> None:
        if violations := policy_violations(settings):
            raise SettingsError(violations)
        self._settings = settings
        files = certificate_files(settings)
        self._certificates = None if files is None else Certificates(files)
        tokens = None if settings.tokens is None else TokenFile(settings.tokens)
        self._gate = Gate()
        self._calls = RpcMeter()
        self._lag = LoopLag()
        self._trimming = HeapTrimming(lambda: self._gate.is_idle)
        self._tracing = tracing or _tracing(settings)
        self._record = CallRecord(self._calls, self._tracing)
        self._callers = Callers(tokens, methods(settings), stranger(settings))
        self._http: HttpServer | None = None
        self._http_limits = replace(http_limits or HttpLimits(), body_bytes=settings.max_message_bytes)
        self._health = health.Health(SERVICES)
        self._manager: ModelManager | None = None
        self._polling: Polling | None = None
        self._server = grpc.aio.server(
            interceptors=[
                Telemetry(self._record),
                MetadataLimit(_METADATA_BYTES),
                Authentication(self._callers),
                Boundary(slow_reader_seconds=settings.slow_reader_seconds),
            ],
            options=_options(settings),
            # Only a backstop against floods: the engine's queue refuses earlier, and says when to come back.
            maximum_concurrent_rpcs=4 * settings.max_waiting + 4096,
        )

    async def start(self) -> str:
        """Listen, not yet serving; returns HOST:PORT with the port that was bound. Raises SettingsError."""
        door = one_door(self._server)
        await self._health.attach(door)
        recipes, mailbox = Recipes(), Mailbox(asyncio.get_running_loop())
        inference = InferenceService(
            self._gate,
            recipes,
            mailbox,
            stream_window=self._settings.stream_window,
            max_message_bytes=self._settings.max_message_bytes,
        )
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(inference, door)
        open_inference = OpenInferenceService(self._gate, recipes, mailbox)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(open_inference, door)
        follows = self._settings.repository_mode == "poll"
        self._manager = ModelManager(
            self._gate,
            Repository(self._settings.models or default_root()),
            parse_policies(self._settings.version_policy),
            grace=self._settings.grace,
            forget=recipes.forget,
        )
        if follows:
            self._polling = Polling(self._manager, self._settings.poll_seconds)
        service = ModelService(self._gate, self._manager, follows=follows)
        models_pb2_grpc.add_ModelServiceServicer_to_server(service, door)
        if self._settings.reflection:
            from grpc_reflection.v1alpha import reflection  # noqa: PLC0415  (off by default: not loaded then)

            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        host = _bracketed(self._settings.host)
        address = f"{host}:{self._settings.port}"
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._certificates.credentials())
        except RuntimeError as error:
            limit = "an address of this machine with a port that is free and allowed"
            raise SettingsError([Violation("host and port", address, limit)]) from error
        if self._settings.http_port is not None:
            self._http = await self._started_http(self._settings.http_port, inference, service)
        await self._server.start()
        self._lag.start()
        if self._settings.insecure and not is_loopback(self._settings.host):
            _log.warning("others can reach this server, and it was told not to mind (--insecure)", host=host)
        return f"{host}:{port}"

    async def open(self, catalogue: Catalogue, loader: Loader | None = None) -> None:
        """Serve these models, whose engines run; they are stopped by ``drain``. ``loader`` gives further ones.

        Once, after ``start``.
        """
        assert self._manager is not None, "not started"
        self._manager.open(catalogue, loader or ModelLoader(self._settings))
        if self._polling is not None:
            self._polling.start()
        self._trimming.start()
        await self._health.serving()

    async def drain(self, grace: float) -> None:
        """Refuse new calls, let those inside finish for ``grace`` seconds, stop the engines, then the server.

        The port stays open until the end, so that a caller is told UNAVAILABLE and a probe NOT_SERVING.
        """
        end = time.monotonic() + grace
        await self._health.drain()
        if self._polling is not None:
            await self._polling.stop()
        await self._trimming.stop()
        self._gate.close()
        finished = await self._gate.wait_idle(grace)
        if not finished:
            _log.warning("the grace is over: work in flight is ended", grace_seconds=grace)
        left = max(0.0, end - time.monotonic()) if finished else 0.0
        if self._manager is not None:
            await self._manager.close(left)
        await self._gate.wait_idle(_REPLY_SECONDS)
        # Calls that have arrived and that no handler has seen yet would be ended as CANCELLED, which nobody retries.
        await self._gate.wait_quiet(_QUIET_SECONDS, _LONGEST_QUIET_SECONDS)
        await self._server.stop(_REPLY_SECONDS)
        await self._lag.stop()
        if self._http is not None:
            await self._http.stop()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.stop)

    @property
    def http_address(self) -> str | None:
        """HOST:PORT of the HTTP port; None: there is none."""
        return None if self._http is None else self._http.address

    @property
    def http_url(self) -> str | None:
        """The same with http:// or https:// before it."""
        return None if self._http is None else self._http.url

    @property
    def http_paths(self) -> dict[str, str]:
        """Every path that the HTTP port answers, and by which method: POST where it is not asked by GET."""
        from starlette.routing import Route  # noqa: PLC0415  (off by default: not loaded then)

        routes = [] if self._http is None else [route for route in self._http.app.routes if isinstance(route, Route)]
        return {route.path: "GET" if "GET" in (route.methods or ()) else "POST" for route in routes}

    async def _started_http(self, port: int, inference: InferenceService, models: ModelService) -> HttpServer:
        from dragoman_server.telemetry.collector import ServerCollector, registry  # noqa: PLC0415  (as below)
        from dragoman_server.web.api import api_routes  # noqa: PLC0415  (off by default: not loaded then)
        from dragoman_server.web.app import application  # noqa: PLC0415
        from dragoman_server.web.http_server import HttpServer  # noqa: PLC0415
        from dragoman_server.web.playground_page import playground_routes  # noqa: PLC0415

        gate, settings, limits = self._gate, self._settings, self._http_limits
        collector = ServerCollector(self._calls, self._lag, lambda: gate.catalogue or (), ready=lambda: gate.is_open)
        app = application(
            registry(collector),
            callers=self._callers,
            ready=lambda: gate.is_open,
            local=is_loopback(settings.host),
            head_bytes=limits.head_bytes,
            routes=[*api_routes(self._record, self._callers, inference, models, limits), *playground_routes()],
        )
        http = HttpServer(app, settings.host, port, certificate_files(settings), limits)
        await http.start()
        return http


def _tracing(settings: Settings) -> Tracing | None:
    if settings.otlp_endpoint is None:
        return None
    try:
        from dragoman_server.telemetry.tracing import otlp  # noqa: PLC0415  (off by default: not loaded then)
    except ImportError as error:
        missing = Violation("otlp_endpoint", settings.otlp_endpoint, "pip install 'dragoman[otel]'")
        raise SettingsError([missing]) from error
    return otlp(settings.otlp_endpoint)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # else a second server takes half the calls of the first, silently
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Both limits alike: between the soft and the absolute one gRPC refuses at random.
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
        # A peer that vanished is noticed within both together; without the ping timeout it takes over a minute.
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.keepalive_timeout_seconds)),
        ("grpc.http2.ping_timeout_ms", _milliseconds(settings.keepalive_timeout_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
        # Limits hold once the peer has acknowledged them: one that does not is no peer.
        ("grpc.http2.settings_timeout", _milliseconds(settings.handshake_timeout_seconds)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.handshake_timeout_seconds)),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_concurrent_streams", settings.max_streams),
        # Calls that the event loop has not looked at yet: beyond these, gRPC would drop some, as CANCELLED, which says
        # nothing and is never tried again. Ours are told when to come back; connections and streams bound them.
        ("grpc.server.max_pending_requests", _MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1e3)


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host
