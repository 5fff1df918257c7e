"""Reading texts when things go wrong: a full queue, callers that leave, deadlines, and a pass that breaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import grpc
import pytest
import structlog.testing

from dragoman_protos.v1 import bundle_pb2, inference_pb2, inference_pb2_grpc
from dragoman_server.catalogue import Catalogue
from dragoman_server.encoder_codec import EncoderCodec
from dragoman_server.pass_engine import PassEngine
from dragoman_server.pass_request import PassRequest
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from dragoman_server.understanding_host import UnderstandingHost
from tests.unit.server import tiny_encoder
from tests.unit.server.fake_passes import BREAKS, FakePassRuntime

MAX_WAITING = 4


class RecordingEngine(PassEngine):
    """Remembers what it was asked."""

    submitted: list[PassRequest]

    def submit(self, request: PassRequest) -> None:
        self.submitted.append(request)
        super().submit(request)


@dataclass
class Held:
    """A server whose passes each need a permit."""

    stub: inference_pb2_grpc.InferenceServiceAsyncStub
    engine: RecordingEngine
    runtime: FakePassRuntime
    codec: EncoderCodec

    def classify(self, text: str, timeout: float | None = None) -> Any:
        return self.stub.Classify(inference_pb2.ClassifyRequest(text=text), timeout=timeout)

    def release(self) -> None:
        assert self.runtime.gate
        self.runtime.gate.release(10_000)

    async def waiting(self, number: int) -> None:
        async with asyncio.timeout(20):
            while self.engine.state().waiting != number:
                await asyncio.sleep(0.002)

    async def reading(self) -> None:
        async with asyncio.timeout(20):
            while not self.engine.state().running:
                await asyncio.sleep(0.002)

    @property
    def lengths_read(self) -> list[int]:
        return [len(ids) for one in self.runtime.passes for ids in one]


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    runtime = FakePassRuntime(2, threading.Semaphore(0))
    engine = RecordingEngine([runtime], max_waiting=MAX_WAITING, max_waiting_tokens=1000)
    engine.submitted = []
    bundle = bundle_pb2.Bundle(
        name="held",
        family=bundle_pb2.Bundle.FAMILY_ENCODER,
        tasks=[bundle_pb2.Bundle.TASK_CLASSIFY, bundle_pb2.Bundle.TASK_EMBED],
        limits=bundle_pb2.Limits(source_tokens=64),
        classifier=bundle_pb2.Classifier(labels=["only"]),
    )
    codec = EncoderCodec(tiny_encoder.train_tokenizer(), cls=2, sep=3, mask=None)
    host = UnderstandingHost(
        bundle=bundle,
        version="1",
        codec=codec,
        engine=engine,
        precision="fp32",
        provider="CPUExecutionProvider",
        lanes=1,
        max_rows=2,
        longest_text=1000,
    )
    server = DragomanServer(Settings(port=0))
    address = await server.start()
    engine.start()
    await server.open(Catalogue([host], "held"))
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        held = Held(inference_pb2_grpc.InferenceServiceStub(channel), engine, runtime, codec)
        yield held
        held.release()
        await server.drain(0)


def code_of(error: grpc.aio.AioRpcError) -> grpc.StatusCode:
    return error.code()


async def test_a_caller_that_leaves_is_not_read_for(held: Held) -> None:
    first = held.classify("a")
    await held.reading()
    leaving, staying = held.classify("bb bb"), held.classify("c")
    await held.waiting(2)
    leaving.cancel()
    async with asyncio.timeout(20):
        while not any(request.cancelled for request in held.engine.submitted):
            await asyncio.sleep(0.002)
    held.release()
    await asyncio.gather(first, staying)
    assert sorted(held.lengths_read) == [3, 3]


async def test_a_deadline_ends_the_call_and_the_text_is_not_read(held: Held) -> None:
    first = held.classify("a")
    await held.reading()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await held.classify("bb bb", timeout=0.3)
    assert code_of(raised.value) is grpc.StatusCode.DEADLINE_EXCEEDED
    held.release()
    await first
    await held.classify("c")
    assert held.lengths_read == [3, 3]


async def test_a_full_queue_is_told_with_the_time_to_come_back(held: Held) -> None:
    calls = [held.classify("a")]
    await held.reading()
    calls += [held.classify("a") for _ in range(MAX_WAITING)]
    await held.waiting(MAX_WAITING)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await held.classify("b")
    assert code_of(raised.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(cast("list[tuple[str, Any]]", list(raised.value.trailing_metadata())))
    assert int(trailers["grpc-retry-pushback-ms"]) > 0
    held.release()
    await asyncio.gather(*calls)


async def test_more_texts_than_the_queue_holds_are_embedded_by_and_by(held: Held) -> None:
    held.release()
    texts = ["a" * (1 + number % 9) for number in range(60)]
    response = await held.stub.Embed(inference_pb2.EmbedRequest(texts=texts, normalise=False))
    ids = held.codec.encode_batch(texts)
    means = [sum(some) / len(some) for some in ids]
    assert [embedding.values[0] for embedding in response.embeddings] == pytest.approx(means)


async def test_a_text_that_breaks_a_pass_is_an_internal_error_and_the_others_are_answered(held: Held) -> None:
    held.release()
    breaking = held.codec.decode([BREAKS])
    assert held.codec.encode_batch([breaking]) == [[BREAKS]]
    with structlog.testing.capture_logs():
        outcomes = await asyncio.gather(
            held.classify("a"), held.classify(breaking), held.classify("b"), return_exceptions=True
        )
    good, bad, also_good = outcomes
    assert isinstance(bad, grpc.aio.AioRpcError)
    assert code_of(bad) is grpc.StatusCode.INTERNAL
    assert "secret" not in (bad.details() or "")
    for response in (good, also_good):
        assert isinstance(response, inference_pb2.ClassifyResponse)
        assert [label.label for label in response.labels] == ["only"]
        assert not response.HasField("out_of_scope")
