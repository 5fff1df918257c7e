"""A real gRPC server on a free port, over a fake engine and codec that go in through constructors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc
import pytest

from dragoman_protos.v1 import bundle_pb2, inference_pb2, inference_pb2_grpc, models_pb2_grpc
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.lanes import EngineState
from dragoman_server.request import Completion, Outcome, Receipt, Request
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from dragoman_server.translation_host import TranslationHost

EOS = 3
SOURCE_TOKENS = 42
TARGET_TOKENS = 50
RECEIPT = Receipt(queue_ms=1.5, encode_ms=2.25, steps=4, batch_mean=3.5, lane=1)


class LetterCodec:
    """One token per letter: its code point."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [(place, place + 1) for place in range(len(text))]

    def spellings(self, phrase: str) -> list[list[int]]:
        return [self.encode(phrase)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def decode_with(self, ids: Sequence[int], words: Mapping[int, str]) -> str:
        return "".join(words.get(place, chr(token_id)) for place, token_id in enumerate(ids))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return [chr(token_id) for token_id in ids]


class FakeEngine:
    """Hands each request to ``behave``; remembers what it was asked."""

    def __init__(self) -> None:
        self.behave: Callable[[Request], None] = answer(echo)
        self.submitted: asyncio.Queue[Request] = asyncio.Queue()
        self.stopped_with: list[float] = []

    def start(self) -> None:
        """Nothing to warm up."""

    def submit(self, request: Request) -> None:
        self.submitted.put_nowait(request)
        self.behave(request)

    def state(self) -> EngineState:
        return EngineState(0, 0, 0, 0, 0, ())

    def stop(self, grace: float) -> None:
        self.stopped_with.append(grace)


def answer(outcome: Callable[[Request], Outcome]) -> Callable[[Request], None]:
    """A behaviour: the outcome arrives from another thread, as from a lane."""

    def behave(request: Request) -> None:
        threading.Thread(target=lambda: request.finish(outcome(request))).start()

    return behave


def echo(request: Request) -> Completion:
    """The source itself, in upper case."""
    ids = [ord(chr(token_id).upper()) for token_id in request.source_ids[1:-1]]
    log_probs = [-0.25] * (len(ids) + 1)
    return Completion([Answer(ids, log_probs, FinishReason.STOP, sum(log_probs) / len(log_probs))], RECEIPT)


def model(engine: FakeEngine, name: str = "deu-eng") -> TranslationHost:
    """A model between German and English."""
    bundle = bundle_pb2.Bundle(
        name=name,
        family=bundle_pb2.Bundle.FAMILY_ENCODER_DECODER,
        tasks=[bundle_pb2.Bundle.TASK_TRANSLATE],
        languages=[
            bundle_pb2.Language(code="de", name="German", tag="<2de>", tag_id=4),
            bundle_pb2.Language(code="en", name="English", tag="<2en>", tag_id=5),
        ],
        special_ids=bundle_pb2.SpecialIds(pad=0, unk=1, bos=2, eos=EOS),
        limits=bundle_pb2.Limits(source_tokens=SOURCE_TOKENS, target_tokens=TARGET_TOKENS),
    )
    return TranslationHost(
        bundle=bundle,
        version="7",
        codec=LetterCodec(),
        engine=engine,
        precision="int8",
        provider="CPUExecutionProvider",
        lanes=2,
        max_rows=16,
        default_options=inference_pb2.DecodingOptions(max_length=30),
        longest_text=4000,
    )


@dataclass
class Harness:
    """A listening server and a client's stubs for it."""

    server: DragomanServer
    engine: FakeEngine
    catalogue: Catalogue
    address: str
    channel: grpc.aio.Channel

    @property
    def inference(self) -> inference_pb2_grpc.InferenceServiceAsyncStub:
        return inference_pb2_grpc.InferenceServiceStub(self.channel)

    @property
    def models(self) -> models_pb2_grpc.ModelServiceAsyncStub:
        return models_pb2_grpc.ModelServiceStub(self.channel)

    async def open(self) -> None:
        await self.server.open(self.catalogue)


@pytest.fixture
def settings() -> Settings:
    """Overridden by tests that need others."""
    return Settings(port=0)


@pytest.fixture
async def starting(settings: Settings) -> AsyncIterator[Harness]:
    """A server that listens and has no models yet."""
    engine = FakeEngine()
    server = DragomanServer(settings)
    address = await server.start()
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Harness(server, engine, Catalogue([model(engine)], "deu-eng"), address, channel)
        await server.drain(0)


@pytest.fixture
async def serving(starting: Harness) -> Harness:
    """A server that answers."""
    await starting.open()
    return starting
