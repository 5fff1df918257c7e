"""Opening, closing and walking away."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

import dragoman
from dragoman import AsyncClient, Client
from dragoman_protos.v1 import inference_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.client.conftest import FakeServer


class Hold:
    """An answer that waits for its call to end; ``begun`` and ``ended`` count."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def __call__(self, request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        over = threading.Event()
        if context.add_callback(over.set):
            self.begun.release()
            over.wait(30.0)
        self.ended.release()
        return inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text=request.text)])


def test_use_after_close(fake: FakeServer) -> None:
    client = Client(fake.address)
    with client:
        client.models()
    client.close()
    for use in (
        lambda: client.translate("a", target="de"),
        lambda: client.translate_many(["a"], target="de"),
        client.models,
        client.model,
        client.__enter__,
    ):
        with pytest.raises(RuntimeError, match="this Client is closed"):
            use()


async def test_use_after_close_async(fake: FakeServer) -> None:
    client = AsyncClient(fake.address)
    async with client:
        await client.models()
    await client.close()
    for use in (lambda: client.translate("a", target="de"), client.models, client.model, client.__aenter__):
        with pytest.raises(RuntimeError, match="this AsyncClient is closed"):
            await use()
    with pytest.raises(RuntimeError, match="this AsyncClient is closed"):
        client.translate_many(["a"], target="de")


def test_close_without_a_call() -> None:
    Client("127.0.0.1:1").close()
    asyncio.run(AsyncClient("127.0.0.1:1").close())


def test_close_cancels_what_other_threads_wait_for(fake: FakeServer) -> None:
    fake.answer = hold = Hold()
    client = Client(fake.address)
    caught: list[BaseException] = []

    def work() -> None:
        with pytest.raises(dragoman.Cancelled) as info:
            client.translate("a", target="de")
        caught.append(info.value)

    thread = threading.Thread(target=work)
    thread.start()
    assert hold.begun.acquire(timeout=30)
    client.close()
    thread.join(30)
    assert len(caught) == 1
    assert hold.ended.acquire(timeout=30)


async def test_close_cancels_what_other_tasks_await(fake: FakeServer) -> None:
    fake.answer = hold = Hold()
    client = AsyncClient(fake.address)
    task = asyncio.create_task(client.translate("a", target="de"))
    assert await asyncio.to_thread(hold.begun.acquire, timeout=30)
    await client.close()
    with pytest.raises(dragoman.Cancelled):
        await task


async def test_a_cancelled_task_cancels_the_call(fake: FakeServer) -> None:
    fake.answer = hold = Hold()
    async with AsyncClient(fake.address) as client:
        task = asyncio.create_task(client.translate("a", target="de"))
        assert await asyncio.to_thread(hold.begun.acquire, timeout=30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(hold.ended.acquire, timeout=30)


def first_then_hold(hold: Hold) -> Any:
    """Answers "first" at once and holds everything else."""

    def answer(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        if request.text == "first":
            assert hold.begun.acquire(timeout=30)  # not before the next call is there
            return inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis(text="1")])
        return hold(request, context)

    return answer


def test_walking_away_cancels_what_is_under_way(fake: FakeServer) -> None:
    hold = Hold()
    fake.answer = first_then_hold(hold)
    with Client(fake.address) as client:
        answers = client.translate_many(["first", "second"], target="de", concurrency=2)
        assert next(answers).text == "1"
        answers.close()
        assert hold.ended.acquire(timeout=30)
        fake.answer = lambda request, _: inference_pb2.TranslateResponse(hypotheses=[inference_pb2.Hypothesis()])
        client.translate("the client lives on", target="de")


async def test_walking_away_cancels_what_is_under_way_async(fake: FakeServer) -> None:
    hold = Hold()
    fake.answer = first_then_hold(hold)
    async with AsyncClient(fake.address) as client:
        answers = client.translate_many(["first", "second"], target="de", concurrency=2)
        assert (await anext(answers)).text == "1"
        await answers.aclose()
        assert await asyncio.to_thread(hold.ended.acquire, timeout=30)


def test_the_source_is_read_no_further_than_the_window(fake: FakeServer) -> None:
    read: list[str] = []

    def texts() -> Any:
        for number in range(1000):
            read.append(str(number))
            yield read[-1]

    with Client(fake.address) as client:
        answers = client.translate_many(texts(), target="de", concurrency=3)
        for taken in range(1, 20):
            next(answers)
            assert len(read) <= taken + 3
        answers.close()


async def test_the_source_is_read_no_further_than_the_window_async(fake: FakeServer) -> None:
    read: list[int] = []

    async def texts() -> AsyncIterator[str]:
        for number in range(1000):
            read.append(number)
            yield str(number)

    async with AsyncClient(fake.address) as client:
        answers = client.translate_many(texts(), target="de", concurrency=3)
        for taken in range(1, 20):
            await anext(answers)
            assert len(read) <= taken + 4
        await answers.aclose()


async def test_an_answer_does_not_wait_for_the_next_text(fake: FakeServer) -> None:
    answered = asyncio.Event()

    async def texts() -> AsyncIterator[str]:
        yield "ab"
        await answered.wait()
        yield "cd"

    async with AsyncClient(fake.address) as client:
        answers = client.translate_many(texts(), target="de")
        assert (await anext(answers)).text == "ba"
        answered.set()
        assert (await anext(answers)).text == "dc"
        with pytest.raises(StopAsyncIteration):
            await anext(answers)
