"""What a stream of Generate does with an engine that is slow, full or broken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.catalogue import Catalogue
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.errors import Internal, Overloaded, Unavailable
from dragoman_server.request import Completion, Progress, Request
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from tests.contract.conftest import RECEIPT, FakeEngine, LetterCodec
from tests.contract.generating import WINDOW, generator

SLIDE = inference_pb2.CONTEXT_OVERFLOW_SLIDE
HALF = WINDOW // 2


@asynccontextmanager
async def serving(engine: FakeEngine) -> AsyncIterator[inference_pb2_grpc.InferenceServiceAsyncStub]:
    server = DragomanServer(Settings(port=0))
    address = await server.start()
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        await server.open(Catalogue([generator(engine, LetterCodec())], "toy"))
        yield inference_pb2_grpc.InferenceServiceStub(channel)
        await server.drain(0)


def request(prompt: str, max_length: int, **fields: object) -> inference_pb2.GenerateRequest:
    options = inference_pb2.DecodingOptions(max_length=max_length)
    return inference_pb2.GenerateRequest(prompt=prompt, options=options, **fields)  # type: ignore[arg-type]


def counting(submitted: Request) -> Completion:
    """The letters that follow the prompt's last one, as many as may come."""
    first = submitted.source_ids[-1] + 1
    ids = [ord("a") + (first - ord("a") + number) % 26 for number in range(submitted.options.max_length)]
    return Completion([Answer(ids, [-0.5] * len(ids), FinishReason.LENGTH, -0.5)], RECEIPT)


def letters(count: int) -> str:
    """What follows "a"."""
    return "".join(chr(ord("a") + number % 26) for number in range(1, count + 1))


async def test_what_has_come_while_nobody_read_is_one_chunk() -> None:
    engine, told = FakeEngine(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def behave(submitted: Request) -> None:
        def run() -> None:
            assert submitted.progress is not None
            began = time.monotonic()
            for count in range(200_000):
                submitted.progress(Progress([98] * (count % 20), []))
            assert time.monotonic() - began < 30
            loop.call_soon_threadsafe(told.set)
            ids = [98] * 20
            submitted.finish(Completion([Answer(ids, [-0.5] * 20, FinishReason.LENGTH, -0.5)], RECEIPT))

        threading.Thread(target=run).start()

    engine.behave = behave
    async with serving(engine) as stub:
        call = stub.Generate(request("a", 20))
        async with asyncio.timeout(60):
            await told.wait()  # nothing has been read, and yet the lane is through
        received = [chunk async for chunk in call]
    assert "".join(chunk.final_text_delta for chunk in received) == "b" * 20
    assert len(received) <= 22


async def test_parts_follow_each_other_and_their_receipts_add_up() -> None:
    engine = FakeEngine()

    def behave(submitted: Request) -> None:
        completion = counting(submitted)

        def run() -> None:
            for count in range(1, len(completion.best.token_ids)):
                if submitted.progress is not None:
                    submitted.progress(Progress(completion.best.token_ids[:count], []))
                time.sleep(0.001)
            submitted.finish(completion)

        threading.Thread(target=run).start()

    engine.behave = behave
    async with serving(engine) as stub:
        call = stub.Generate(request("a", 100, context_overflow=SLIDE, priority=4))
        received = [chunk async for chunk in call]
        trailing = dict(iter(await call.trailing_metadata()))
    assert "".join(chunk.final_text_delta for chunk in received) == letters(100)
    (hypothesis,) = received[-1].response.hypotheses
    assert (hypothesis.text, hypothesis.score, hypothesis.rank_score) == (letters(100), -50, -0.5)
    parts = [engine.submitted.get_nowait() for _ in range(engine.submitted.qsize())]
    assert [part.options.max_length for part in parts] == [23, *[HALF] * 6, 5]
    assert [len(part.source_ids) - 1 for part in parts] == [1, *[WINDOW - HALF] * 7]
    assert {part.priority for part in parts} == {4}
    assert trailing["dragoman-steps"] == str(RECEIPT.steps * len(parts))
    assert float(trailing["dragoman-encode-ms"]) == RECEIPT.encode_ms * len(parts)


async def test_a_full_queue_delays_a_text_that_has_begun_and_refuses_one_that_has_not() -> None:
    engine, refusals = FakeEngine(), 3

    def behave(submitted: Request) -> None:
        nonlocal refusals
        if len(submitted.source_ids) > 2 and refusals:
            refusals -= 1
            raise Overloaded("the queue is full", 0.01)
        submitted.finish(counting(submitted))

    engine.behave = behave
    async with serving(engine) as stub:
        received = [chunk async for chunk in stub.Generate(request("a", 60, context_overflow=SLIDE))]
        assert "".join(chunk.final_text_delta for chunk in received) == letters(60)
        assert not refusals
        refusals = 1
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Generate(request("abc", 9)).read()
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("the server is shutting down"), grpc.StatusCode.UNAVAILABLE),
        (Internal("abc"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_part_that_fails_ends_the_call(error: Unavailable | Internal, code: grpc.StatusCode) -> None:
    engine = FakeEngine()

    def behave(submitted: Request) -> None:
        if len(submitted.source_ids) == 2:
            submitted.finish(counting(submitted))
        elif isinstance(error, Unavailable):
            raise error
        else:
            submitted.finish(error)

    engine.behave = behave
    async with serving(engine) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in stub.Generate(request("a", 60, context_overflow=SLIDE)):
                pass
        assert raised.value.code() is code


async def test_a_text_that_slides_is_finished_while_the_server_drains() -> None:
    engine, first = FakeEngine(), threading.Event()

    def behave(submitted: Request) -> None:
        def run() -> None:
            assert first.wait(30)
            submitted.finish(counting(submitted))

        threading.Thread(target=run).start()

    engine.behave = behave
    server = DragomanServer(Settings(port=0))
    address = await server.start()
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        await server.open(Catalogue([generator(engine, LetterCodec())], "toy"))
        stub = inference_pb2_grpc.InferenceServiceStub(channel)

        async def text() -> str:
            chunks = stub.Generate(request("a", 60, context_overflow=SLIDE))
            return "".join([chunk.final_text_delta async for chunk in chunks])

        reading = asyncio.ensure_future(text())
        await engine.submitted.get()
        draining = asyncio.ensure_future(server.drain(30))
        await asyncio.sleep(0)
        first.set()
        assert await reading == letters(60)
        await draining


async def test_leaving_cancels_the_part_that_is_under_way_and_none_follows() -> None:
    engine = FakeEngine()
    engine.behave = lambda submitted: None
    async with serving(engine) as stub:
        call = stub.Generate(request("a", 60, context_overflow=SLIDE))
        reading = asyncio.ensure_future(call.read())
        async with asyncio.timeout(10):
            submitted = await engine.submitted.get()
            call.cancel()
            while not submitted.cancelled:
                await asyncio.sleep(0.005)
        submitted.finish(counting(submitted))
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.sleep(0)
        assert engine.submitted.empty()
