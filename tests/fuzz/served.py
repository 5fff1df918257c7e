"""A server over tiny models of all families, twice: its handlers without a socket, and the whole of it on a port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from dragoman_protos.open_inference import open_inference_pb2_grpc
from dragoman_protos.v1 import inference_pb2_grpc, models_pb2_grpc
from dragoman_server.catalogue import Catalogue
from dragoman_server.gate import Gate
from dragoman_server.loading import load
from dragoman_server.model_manager import ModelManager
from dragoman_server.open_inference.service import OpenInferenceService
from dragoman_server.repository import Repository
from dragoman_server.security.authentication import Authentication, Callers
from dragoman_server.security.policy import methods, stranger
from dragoman_server.server import SERVICES, DragomanServer
from dragoman_server.service.boundary import Boundary
from dragoman_server.service.health import Health
from dragoman_server.service.inference import InferenceService
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.models import ModelService
from dragoman_server.service.recipes import Recipes
from dragoman_server.settings import Settings
from dragoman_server.telemetry.call_record import CallRecord
from dragoman_server.telemetry.interceptor import Telemetry
from dragoman_server.telemetry.rpc_meter import RpcMeter
from dragoman_server.version_policy import parse_policies
from tests.fuzz.requests import GENERATOR, READER, SPARE, TRANSLATOR
from tests.unit.server import tiny, tiny_decoder, tiny_encoder
from tests.unit.server.tiny_explain import add_explain

_CALLERS = 32

Handler = Any  # grpc.RpcMethodHandler: generic in the stubs, not at run time


def write_models(root: Path) -> None:
    """A repository of four tiny models, each of which can be explained but the spare one."""
    for name, write in (
        (TRANSLATOR, tiny.write_bundle),
        (GENERATOR, tiny_decoder.write_bundle),
        (READER, tiny_encoder.write_bundle),
    ):
        add_explain(write(root / name / "1"))
    tiny_encoder.write_bundle(root / SPARE / "1", name=SPARE)


def fuzzed_settings(root: Path) -> Settings:
    """Few rows and small bounds, so that they are met."""
    return Settings(
        port=0,
        models=root,
        default_model=TRANSLATOR,
        precision="fp32",
        lanes=1,
        max_rows=16,
        max_waiting=256,
        admin=True,
        reflection=True,
        grace=5.0,
        stream_window=32,
    )


@dataclass
class Served:
    """What runs, and what is said of it."""

    catalogue: Catalogue

    async def idle_faults(self) -> list[str]:
        """What is still held although nobody calls."""
        faults = []
        for host in self.catalogue:
            for _ in range(600):
                state = host.engine.state()
                held = state.waiting, state.waiting_tokens, state.running, state.rows_used
                if not any(held):
                    break
                await asyncio.sleep(0.01)
            else:
                faults.append(f"{host.name} holds {held}: waiting, their tokens, running, rows")
        return faults


class Handlers(Served):
    """Every registered method behind the server's own interceptors, without gRPC's core."""

    def __init__(self, catalogue: Catalogue, gate: Gate, registry: _Registry, settings: Settings) -> None:
        super().__init__(catalogue)
        self._gate = gate
        self._methods = registry.methods
        self._interceptors = (
            Telemetry(CallRecord(RpcMeter())),
            Authentication(Callers(None, methods(settings), stranger(settings))),
            Boundary(slow_reader_seconds=settings.slow_reader_seconds),
        )

    async def idle_faults(self) -> list[str]:
        """As of any server; and no call is inside."""
        inside = [] if await self._gate.wait_idle(30) else ["a call is still inside"]
        return inside + await super().idle_faults()

    async def handler(self, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> Handler:
        """What gRPC would hand a call to; None: UNIMPLEMENTED."""
        details = _Details(path, metadata)

        async def found(_: object) -> Handler:
            return self._methods.get(path)

        continuation: Any = found
        for interceptor in reversed(self._interceptors):
            continuation = _Next(interceptor, continuation)
        return await continuation(details)


@dataclass
class _Details:
    method: str
    invocation_metadata: tuple[tuple[str, str], ...]


@dataclass
class _Next:
    interceptor: Any
    continuation: Any

    async def __call__(self, details: Any) -> Handler:
        return await self.interceptor.intercept_service(self.continuation, details)


class _Registry:
    """Takes services in as a gRPC server does, and keeps their handlers by full name."""

    def __init__(self) -> None:
        self.methods: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """What older servers are told; the same methods."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """The methods of one service."""
        self.methods |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


@contextlib.asynccontextmanager
async def handlers(root: Path) -> AsyncIterator[Handlers]:
    """The handlers, over models that run."""
    settings = fuzzed_settings(root)
    loaded = await asyncio.to_thread(load, settings)
    gate, registry = Gate(), _Registry()
    server: Any = registry
    recipes, mailbox = Recipes(), Mailbox(asyncio.get_running_loop())
    inference = InferenceService(
        gate, recipes, mailbox, stream_window=settings.stream_window, max_message_bytes=settings.max_message_bytes
    )
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(inference, server)
    open_inference = OpenInferenceService(gate, recipes, mailbox)
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(open_inference, server)
    policies = parse_policies(settings.version_policy)
    manager = ModelManager(gate, Repository(root), policies, grace=settings.grace, forget=recipes.forget)
    models_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(gate, manager, follows=False), server)
    health = Health(SERVICES)
    await health.attach(server)
    asynchronous: Any = reflection  # the stubs know the threaded servicer alone
    reflected = asynchronous.aio.ReflectionServicer((*SERVICES, reflection.SERVICE_NAME))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, server)
    manager.open(loaded.catalogue, loaded.loader)
    await health.serving()
    try:
        yield Handlers(loaded.catalogue, gate, registry, settings)
    finally:
        gate.close()
        await manager.close(5)


@dataclass
class OnPort(Served):
    """The whole server, and channels to it."""

    address: str
    channel: grpc.aio.Channel
    blocking: grpc.Channel
    callers: ThreadPoolExecutor
    """For those who call over the blocking channel."""


@contextlib.asynccontextmanager
async def on_port(root: Path) -> AsyncIterator[OnPort]:
    """A server on a port of this machine, over models of its own."""
    settings = fuzzed_settings(root)
    loaded = await asyncio.to_thread(load, settings)
    server = DragomanServer(settings)
    address = await server.start()
    await server.open(loaded.catalogue, loaded.loader)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        with (
            ThreadPoolExecutor(_CALLERS, "fuzz-caller") as callers,
            grpc.insecure_channel(address, options=options) as blocking,
        ):
            yield OnPort(loaded.catalogue, address, channel, blocking, callers)
        await server.drain(5)
