"""The generator against a server whose delays are known, on a real port."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from dragoman import InternalError, InvalidArgument, Unavailable
from dragoman.connection import connection
from dragoman.load.answers import Expected
from dragoman.load.calling import Calls
from dragoman.load.driving import Driver
from dragoman.load.measurement import Measurement, Objectives
from dragoman.load.queries import Query, classification, continuation, translation
from dragoman.load.running import Rate, Sweep, run
from dragoman.load.samples import Tally, Window
from dragoman.load.workload import Hour, Workload
from dragoman_protos.v1 import inference_pb2
from tests.unit.client.conftest import reversal, reverse

if TYPE_CHECKING:
    from tests.unit.client.conftest import FakeServer

PATIENCE = 60.0
"""Seconds: longer than anything here takes on a busy machine."""
DELAY = 0.02


def asking(*queries: Query) -> Workload:
    """A workload of one kind."""
    kind = queries[0].kind
    return Workload("mixed", {kind: queries}, [Hour(0.0, 1.0, {kind: 1.0})])


ONE = asking(translation("short", "abc", "de"), translation("short", "defg", "de"))


class Onlooker:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.points: list[Measurement | None] = []

    def begin(self, title: str, total: float) -> None:
        self.titles.append(title)
        assert total > 0

    def advance(self, done: float, tally: Tally) -> None:
        assert tally.ended <= tally.sent

    def end(self, point: Measurement | None) -> None:
        self.points.append(point)


@asynccontextmanager
async def driving(
    fake: FakeServer, work: Workload, window: Window, *, timeout: float = PATIENCE
) -> AsyncIterator[Driver]:
    """A driver that has begun, and knows the answers."""
    async with Calls(connection(fake.address, None, tls=False), connections=2, timeout=timeout) as calls:
        expected = Expected({})
        for query in work.queries():
            expected.keep(query, (await calls.ask(query)).messages)
        driver = Driver(calls, work, expected, window, seed=1)
        driver.start()
        yield driver


async def test_users_are_under_way_together_and_never_more_of_them(fake: FakeServer) -> None:
    together, calls = threading.Barrier(5), itertools.count()

    def answer(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        if next(calls) < 5:
            together.wait(PATIENCE)  # nobody gets on before all five are there
        return reversal(request.text)

    async with driving(fake, ONE, Window(0.0, 0.2)) as driver:
        fake.answer, fake.peak = answer, 0
        samples = await driver.closed(5)
    assert fake.peak == 5
    assert len(samples) == driver.tally.ended >= 5
    assert {sample.fault for sample in samples} == {None}
    assert all(sample.due == sample.sent for sample in samples)


async def test_a_users_latency_is_at_least_the_servers_delay(fake: FakeServer) -> None:
    def answer(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        time.sleep(DELAY)
        return reversal(request.text)

    async with driving(fake, ONE, Window(0.0, 0.3)) as driver:
        fake.answer = answer
        samples = await driver.closed(2)
    assert min(sample.latency for sample in samples) >= DELAY
    assert len(samples) <= 2 * (0.3 / DELAY + 1)


async def test_arrivals_wait_for_nobody(fake: FakeServer) -> None:
    """No request is answered before all have come: users who wait for answers would never send the second."""
    arrivals = [0.005 * i for i in range(30)]
    all_there, came = threading.Event(), threading.Semaphore(len(arrivals) - 1)

    def answer(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        if not came.acquire(blocking=False):
            all_there.set()
        assert all_there.wait(PATIENCE)
        return reversal(request.text)

    async with driving(fake, ONE, Window(0.0, 1.0)) as driver:
        fake.answer = answer
        samples = await driver.open(arrivals)
    assert [sample.due for sample in samples] == arrivals
    for sample in samples:
        assert sample.sent >= sample.due
        assert sample.latency >= arrivals[-1] - sample.due
        assert sample.fault is None


async def test_latency_counts_from_the_moment_at_which_a_request_was_due(fake: FakeServer) -> None:
    async with driving(fake, ONE, Window(0.0, 1.0)) as driver:
        (sample,) = await driver.open([-5.0])  # the generator is five seconds late
    assert sample.latency >= 5.0
    assert sample.sent >= 0.0


async def test_the_same_seed_sends_the_same_in_the_same_order(fake: FakeServer) -> None:
    asked = []
    for _ in range(2):
        async with driving(fake, ONE, Window(0.0, 1.0)) as driver:
            fake.requests.clear()
            for moment in range(12):
                await driver.open([moment / 1e3])
            asked.append([request.text for request in fake.requests])
    assert asked[0] == asked[1]


async def test_streams_have_their_times(fake: FakeServer) -> None:
    work = asking(translation("stream", "abcd", "de", stream=True))
    async with driving(fake, work, Window(0.0, 1.0)) as driver:
        fake.between_chunks = lambda number, context: time.sleep(DELAY)
        (sample,) = await driver.open([0.0])
    assert sample.fault is None
    assert len(sample.gaps) == 4  # four letters and the answer
    assert sample.first is not None
    assert sample.ended - sample.first == pytest.approx(sum(sample.gaps))
    assert sample.token_time is not None
    assert sample.token_time >= DELAY * 3 / 4  # usage says five tokens, the fake sends four letters
    assert sample.tokens == 5


@pytest.mark.parametrize(
    "query", [continuation("generate", "abc", 5, seed=3), classification("classify", "hello")], ids=lambda q: q.kind
)
async def test_other_calls(fake: FakeServer, query: Query) -> None:
    async with driving(fake, asking(query), Window(0.0, 1.0)) as driver:
        (sample,) = await driver.open([0.0])
    assert (sample.fault, sample.tokens) == (None, 2)


def refuse(code: grpc.StatusCode) -> Callable[[inference_pb2.TranslateRequest, Any], inference_pb2.TranslateResponse]:
    def answer(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        context.abort(code, "no")
        raise AssertionError

    return answer


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL])
async def test_failures_count_by_kind_and_are_not_tried_again(fake: FakeServer, code: grpc.StatusCode) -> None:
    async with driving(fake, ONE, Window(0.0, 1.0)) as driver:
        fake.answer = refuse(code)
        asked = len(fake.requests)
        samples = await driver.open([0.0, 0.001])
    name = code.name.lower().replace("_", "-")
    assert [sample.fault for sample in samples] == [name, name]
    assert driver.tally.faults == {name: 2}
    assert len(fake.requests) == asked + 2


async def test_an_answer_that_never_comes_ends_at_its_timeout(fake: FakeServer) -> None:
    enough = threading.Event()

    def answer(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        enough.wait(PATIENCE)
        return reversal(request.text)

    # The timeout holds for the answers alone too, which come at once.
    async with driving(fake, ONE, Window(0.0, 1.0), timeout=2.0) as driver:
        fake.answer = answer
        (sample,) = await driver.open([0.0])
    enough.set()
    assert sample.fault == "deadline-exceeded"
    assert sample.latency >= 1.9


async def test_another_answer_under_load_is_wrong(fake: FakeServer) -> None:
    async with driving(fake, ONE, Window(0.0, 1.0)) as driver:
        fake.answer = lambda request, context: reversal(request.text.upper())
        (sample,) = await driver.open([0.0])
    assert sample.fault == "wrong-answer"


async def test_a_sweep_from_end_to_end(fake: FakeServer) -> None:
    turns: list[float] = []

    def processor() -> float:
        turns.append(1.0)
        return sum(turns)

    sweep = Sweep(
        users=[1, 3],
        rates=[Rate(40.0), Rate(0.5, relative=True)],
        window=Window(0.05, 0.4),
        objectives=Objectives(latency_ms=1e3 * PATIENCE),
        meters={"server": processor},
    )
    watcher = Onlooker()
    found = await run(connection(fake.address, None, tls=False), ONE, [], sweep, watcher)
    assert [(point.mode, point.offered) for point in found.points[:3]] == [("closed", 1), ("closed", 3), ("open", 40.0)]
    assert found.points[3].offered == pytest.approx(0.5 * max(point.throughput for point in found.points[:2]))
    assert found.alone.count == found.different == 2
    for point in found.points:
        assert not point.faults
        assert point.kept == 1.0
        assert point.processors["generator"] > 0
        assert point.processors["server"] > 0
    assert watcher.points == [None, *found.points]
    assert watcher.titles[:2] == ["mixed: 2 answers alone", "mixed: 1 user"]
    assert len(turns) == 2 * len(found.points)


async def test_what_fails_alone_ends_the_sweep(fake: FakeServer) -> None:
    sweep = Sweep([1], [], Window(0.0, 0.1), Objectives())
    fake.answer = refuse(grpc.StatusCode.INTERNAL)
    with pytest.raises(InternalError):
        await run(connection(fake.address, None, tls=False), ONE, [], sweep, Onlooker())
    fake.stop()
    with pytest.raises(Unavailable):
        await run(connection(fake.address, None, tls=False), ONE, [], sweep, Onlooker())


async def test_a_share_of_nothing_is_no_rate(fake: FakeServer) -> None:
    fake.answer = reverse
    sweep = Sweep([], [Rate(0.5, relative=True)], Window(0.0, 0.1), Objectives())
    with pytest.raises(InvalidArgument, match="--rate = 50%"):
        await run(connection(fake.address, None, tls=False), ONE, [], sweep, Onlooker())
