"""TranslateMany on a real server over a fake engine: flow control, faults, cancellation, the end of the server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.errors import Internal, Overloaded
from dragoman_server.lanes import LATE
from dragoman_server.request import Request
from dragoman_server.settings import Settings
from tests.contract.conftest import echo

if TYPE_CHECKING:
    from tests.contract.conftest import Harness

WINDOW = 16


@pytest.fixture
def settings() -> Settings:
    return Settings(port=0, stream_window=WINDOW)


def item(number: int, text: str | None = None, **fields: object) -> inference_pb2.TranslateItem:
    given = {"text": f"text {number}" if text is None else text, "target_language": "de"} | fields
    return inference_pb2.TranslateItem(id=number, request=inference_pb2.TranslateRequest(**given))  # type: ignore[arg-type]


def messages(
    items: Iterable[inference_pb2.TranslateItem], size: int = 8
) -> Iterable[inference_pb2.TranslateManyRequest]:
    batch = list(items)
    return [inference_pb2.TranslateManyRequest(items=batch[i : i + size]) for i in range(0, len(batch), size)]


async def outcomes(
    harness: Harness, requests: Iterable[inference_pb2.TranslateManyRequest]
) -> dict[int, inference_pb2.TranslateOutcome]:
    found: dict[int, inference_pb2.TranslateOutcome] = {}
    async for response in harness.inference.TranslateMany(iter(requests)):
        for outcome in response.outcomes:
            assert outcome.id not in found
            found[outcome.id] = outcome
    return found


async def test_each_item_is_answered_as_a_call_of_translate_is(serving: Harness) -> None:
    found = await outcomes(serving, messages(item(number) for number in range(100)))
    assert sorted(found) == list(range(100))
    for number, outcome in found.items():
        assert outcome.response == await serving.inference.Translate(item(number).request)
        receipt = outcome.receipt
        assert (receipt.queue_ms, receipt.encode_ms, receipt.steps, receipt.lane) == (1.5, 2.25, 4, 1)
        assert (receipt.batch_mean, receipt.precision) == (3.5, "int8")


async def test_a_fault_of_an_item_is_its_answer(serving: Harness) -> None:
    def behave(request: Request) -> None:
        request.finish(Internal("abc") if request.source_ids[1] == ord("!") else echo(request))

    serving.engine.behave = behave
    requests = [
        item(1, "fine"),
        item(2, ""),
        item(3, target_language="fr", priority=11),
        item(4, model="other"),
        item(5, "!broken"),
        item(6, "good"),
        inference_pb2.TranslateItem(id=7),
    ]
    found = await outcomes(serving, messages(requests))
    assert [found[number].response.hypotheses[0].text for number in (1, 6)] == ["FINE", "GOOD"]
    codes = {number: outcome.error.code for number, outcome in found.items() if outcome.HasField("error")}
    invalid, missing, internal = 3, 5, 13
    assert codes == {2: invalid, 3: invalid, 4: missing, 5: internal, 7: invalid}
    assert {v.field for v in found[3].error.details.violations} == {"target_language", "priority"}
    assert found[5].error.details.incident == "abc"


@pytest.mark.parametrize("count", [0, 257])
async def test_a_message_has_its_limits(serving: Harness, count: int) -> None:
    message = inference_pb2.TranslateManyRequest(items=[item(number) for number in range(count)])
    with pytest.raises(grpc.aio.AioRpcError, match=f"items = {count} items: 1 to 256") as raised:
        await outcomes(serving, [message])
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class Measured:
    """Finishes each request after a while in another thread; knows how many were under way at most."""

    def __init__(self, seconds: float) -> None:
        self.peak = self.under_way = 0
        self._seconds = seconds
        self._lock = threading.Lock()
        self._waiting: list[Request] = []
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def __call__(self, request: Request) -> None:
        with self._lock:
            self._waiting.append(request)
            self.under_way += 1
            self.peak = max(self.peak, self.under_way)

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            with self._lock:
                waiting, self._waiting = self._waiting, []
                self.under_way -= len(waiting)
            for request in waiting:
                request.finish(echo(request))


async def test_ten_thousand_items_keep_within_the_window(serving: Harness) -> None:
    serving.engine.behave = measured = Measured(0.0005)
    found = await outcomes(serving, messages((item(number, "ab") for number in range(10_000)), 32))
    measured.stop()
    assert len(found) == 10_000
    assert all(outcome.HasField("response") for outcome in found.values())
    assert 1 < measured.peak <= WINDOW


async def test_an_item_of_many_segments_counts_as_so_many(serving: Harness) -> None:
    serving.engine.behave = measured = Measured(0.001)
    text = "Ab.\n" * 10
    found = await outcomes(serving, messages(item(number, text) for number in range(30)))
    measured.stop()
    assert {outcome.response.hypotheses[0].text for outcome in found.values()} == {text.upper()}
    assert measured.peak <= WINDOW


async def test_a_reader_that_stands_still_holds_the_writer_up_and_not_the_lane(serving: Harness) -> None:
    total, read = 4000, 0

    async def requests() -> AsyncIterator[inference_pb2.TranslateManyRequest]:
        nonlocal read
        for message in messages((item(number, "x" * 40) for number in range(total)), 1):
            read += 1
            yield message

    # A client that probes the bandwidth lets its window grow, and answers for all items might fit into it.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(serving.address, options=options) as channel:
        call = inference_pb2_grpc.InferenceServiceStub(channel).TranslateMany(requests())
        assert await call.read()
        submitted = -1
        while submitted != (submitted := serving.engine.submitted.qsize()):
            await asyncio.sleep(0.5)
        assert submitted < total / 2  # the rest waits for its reader
        while await call.read():
            pass
    assert serving.engine.submitted.qsize() == total


async def test_a_full_queue_makes_the_stream_wait(serving: Harness) -> None:
    refused = 0
    running: list[Request] = []

    def behave(request: Request) -> None:
        nonlocal refused
        if len(running) >= 3:
            refused += 1
            raise Overloaded("the queue is full", 30.0)
        running.append(request)
        if len(running) == 3:
            asyncio.get_running_loop().call_later(0.002, release)

    def release() -> None:
        waiting, running[:] = list(running), []
        for request in waiting:
            request.finish(echo(request))

    serving.engine.behave = behave
    found = await outcomes(serving, messages(item(number) for number in range(60)))
    assert len(found) == 60
    assert all(outcome.HasField("response") for outcome in found.values())
    assert refused


async def test_an_item_that_would_end_too_late_is_refused_at_once_and_the_others_go_on(serving: Harness) -> None:
    def behave(request: Request) -> None:
        if len(request.source_ids) > 10:
            raise Overloaded("the deadline cannot be met", 1.5, LATE)
        request.finish(echo(request))

    serving.engine.behave = behave
    texts = ["ab", "much too long a text", "cd"]
    async with asyncio.timeout(10):
        found = await outcomes(serving, messages(item(number, text) for number, text in enumerate(texts)))
    error = found[1].error
    assert (error.code, error.message) == (8, "the deadline cannot be met")
    assert error.retry_after_ms == 1500
    assert [found[number].response.hypotheses[0].text for number in (0, 2)] == ["AB", "CD"]


async def submitted(harness: Harness, count: int) -> list[Request]:
    async with asyncio.timeout(10):
        return [await harness.engine.submitted.get() for _ in range(count)]


async def test_cancelling_the_call_cancels_what_is_under_way(serving: Harness) -> None:
    serving.engine.behave = lambda request: None
    call = serving.inference.TranslateMany(iter(messages(item(number) for number in range(40))))
    reading = asyncio.ensure_future(call.read())
    requests = await submitted(serving, WINDOW)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(10):
        while not all(request.cancelled for request in requests):
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert serving.engine.submitted.empty()


async def test_the_deadline_of_the_call_is_each_items_and_ends_it(serving: Harness) -> None:
    serving.engine.behave = lambda request: None
    call = serving.inference.TranslateMany(iter(messages([item(1)])), timeout=0.3)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    (request,) = await submitted(serving, 1)
    assert request.deadline is not None
    assert 0 < request.deadline - request.arrived <= 0.302
    async with asyncio.timeout(10):
        while not request.cancelled:
            await asyncio.sleep(0.005)


async def test_an_item_with_a_segment_that_fails_fails_and_its_others_are_cancelled(serving: Harness) -> None:
    held: list[Request] = []

    def behave(request: Request) -> None:
        if request.source_ids[1] == ord("B"):
            request.finish(Internal("abc"))
        else:
            held.append(request)

    serving.engine.behave = behave
    found = await outcomes(serving, messages([item(1, "Good.\nBad.\nNice.")]))
    assert found[1].error.details.incident == "abc"
    assert all(request.cancelled for request in held)


async def test_a_server_that_drains_answers_what_it_took_and_ends_the_call(serving: Harness) -> None:
    serving.engine.behave = held = list[Request]().append
    requests: list[Request] = held.__self__  # type: ignore[attr-defined]
    sent = asyncio.Event()

    async def endless() -> AsyncIterator[inference_pb2.TranslateManyRequest]:
        yield inference_pb2.TranslateManyRequest(items=[item(1), item(2)])
        await sent.wait()

    call = serving.inference.TranslateMany(endless())

    async def read() -> inference_pb2.TranslateManyResponse:
        answer = await call.read()
        assert isinstance(answer, inference_pb2.TranslateManyResponse)
        return answer

    reading = asyncio.ensure_future(read())
    await submitted(serving, 2)
    draining = asyncio.create_task(serving.server.drain(20))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    for request in requests:
        request.finish(echo(request))
    answers = [await reading]
    if len(answers[0].outcomes) == 1:
        answers.append(await read())
    found = [outcome.id for answer in answers for outcome in answer.outcomes]
    with pytest.raises(grpc.aio.AioRpcError, match="shutting down") as raised:
        await call.read()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sorted(found) == [1, 2]
    await draining
    assert time.monotonic() - began < 10
