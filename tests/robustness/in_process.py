"""A server in this process, of parts that may be replaced: what bugs are planted in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import cache

import grpc
import psutil

from dragoman_protos.v1 import inference_pb2_grpc
from dragoman_server.building import build_host
from dragoman_server.bundle import LoadedBundle
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding_host import DecodingEngine as AnyEngine
from dragoman_server.engine import DecodingEngine
from dragoman_server.gate import Gate
from dragoman_server.joining import EncoderJoining
from dragoman_server.lanes import EngineState
from dragoman_server.loading import ModelLoader, chosen_versions
from dragoman_server.request import Request
from dragoman_server.runtime import OnnxRuntime, Runtime
from dragoman_server.service.boundary import Boundary
from dragoman_server.service.inference import InferenceService
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.recipes import Recipes
from dragoman_server.settings import Settings
from dragoman_server.translation_host import TranslationHost
from tests.robustness.history import Reading
from tests.robustness.world import MODELS

ROWS = 8
_MIB = 1 << 20
_SETTINGS = Settings(models=MODELS, port=0, lanes=1, max_rows=ROWS)
NewRuntime = Callable[[LoadedBundle], Runtime]
NewJoining = Callable[[Runtime, int], EncoderJoining]
Around = Callable[[AnyEngine], AnyEngine]


def plain_runtime(bundle: LoadedBundle) -> Runtime:
    return OnnxRuntime(
        bundle.encoder,
        bundle.decoder,
        dimensions=bundle.manifest.dimensions,
        limits=bundle.manifest.limits,
        max_rows=ROWS,
    )


def plain_joining(runtime: Runtime, bos: int) -> EncoderJoining:
    return EncoderJoining(runtime, bos=bos, clock=time.monotonic)


@dataclass(frozen=True)
class Parts:
    """What a server is made of; by default all of it is as it should be."""

    runtime: NewRuntime = plain_runtime
    joining: NewJoining = plain_joining
    around: Around = lambda engine: engine
    """Wraps the engine that requests are submitted to."""
    service: type[InferenceService] = InferenceService


@dataclass
class InProcess:
    """A server that listens at ``address``."""

    name: str
    address: str
    engine: DecodingEngine

    async def reading(self) -> Reading:
        """What its engine and this process hold."""
        state, process = self.engine.state(), psutil.Process()
        return Reading(
            rows_used=state.rows_used,
            rows_free=state.rows_free,
            waiting=state.waiting,
            running=state.running,
            in_flight=0,
            resident=process.memory_info().rss / _MIB,
            descriptors=process.num_fds(),
            threads=process.num_threads(),
        )


@cache
def _bundle() -> LoadedBundle:
    (entry,) = (entry for entry in chosen_versions(_SETTINGS) if entry.name == "deu-eng")
    return ModelLoader(_SETTINGS).validated(entry)


@cache
def _host() -> TranslationHost:
    """All but the engine, which is replaced: the one that it comes with never runs."""
    host = build_host(1, _bundle(), _SETTINGS)
    assert isinstance(host, TranslationHost)
    return host


@contextlib.asynccontextmanager
async def serving(parts: Parts) -> AsyncIterator[InProcess]:
    """Serve deu-eng with one lane of ``ROWS`` rows."""
    settings = _SETTINGS
    bundle = _bundle()
    special = bundle.manifest.special_ids
    engine = DecodingEngine(
        [parts.joining(parts.runtime(bundle), special.bos)],
        eos=special.eos,
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        encode_tokens=512,
        ageing_seconds=settings.ageing,
        clock=time.monotonic,
    )
    host = _host()
    gate = Gate()
    gate.open(Catalogue([replace(host, engine=parts.around(engine))], host.name))
    server = grpc.aio.server(interceptors=[Boundary(slow_reader_seconds=settings.slow_reader_seconds)])
    service = parts.service(
        gate,
        Recipes(),
        Mailbox(asyncio.get_running_loop()),
        stream_window=64,
        max_message_bytes=settings.max_message_bytes,
    )
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    engine.start()
    await server.start()
    try:
        yield InProcess("in-process", f"127.0.0.1:{port}", engine)
    finally:
        gate.close()
        await server.stop(0)
        engine.stop(0)


class EngineAround:
    """An engine that hands everything on to another; bugs override ``submit``."""

    def __init__(self, engine: AnyEngine) -> None:
        self.engine = engine

    def start(self) -> None:
        self.engine.start()

    def state(self) -> EngineState:
        return self.engine.state()

    def stop(self, grace: float) -> None:
        self.engine.stop(grace)

    def submit(self, request: Request) -> None:
        self.engine.submit(request)
