"""Two real servers behind one client: the one that drains gets no new calls, and its own are finished."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from dragoman import AsyncClient, Client, Retry, Translation
from dragoman.errors import Unavailable
from dragoman_server.catalogue import Catalogue
from dragoman_server.request import Request
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from tests.contract.conftest import FakeEngine, answer, echo, model

PATIENCE = 60.0
ONCE = Retry(attempts=1)
"""What a replica refuses is seen."""


@dataclass
class Replica:
    """A server and its engine."""

    server: DragomanServer
    engine: FakeEngine
    address: str


@contextlib.asynccontextmanager
async def replica() -> AsyncIterator[Replica]:
    engine = FakeEngine()
    server = DragomanServer(Settings(port=0))
    address = await server.start()
    await server.open(Catalogue([model(engine)], "deu-eng"))
    try:
        yield Replica(server, engine, address)
    finally:
        await server.drain(0)


class Caller:
    """One of both clients, called from the event loop."""

    def __init__(self, translate: Callable[[str], object]) -> None:
        self._translate = translate

    async def __call__(self, text: str) -> Translation:
        if asyncio.iscoroutinefunction(self._translate):
            found = await self._translate(text)
        else:
            found = await asyncio.to_thread(self._translate, text)
        assert isinstance(found, Translation)
        return found


@contextlib.asynccontextmanager
async def caller(kind: str, *addresses: str) -> AsyncIterator[Caller]:
    if kind == "Client":
        with Client(addresses, retry=ONCE) as client:
            yield Caller(lambda text: client.translate(text, target="de"))
    else:
        async with AsyncClient(addresses, retry=ONCE) as asynchronous:

            async def translate(text: str) -> Translation:
                return await asynchronous.translate(text, target="de")

            yield Caller(translate)


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
async def test_a_replica_that_drains_gets_no_new_calls(kind: str) -> None:
    async with replica() as leaving, replica() as staying, caller(kind, leaving.address, staying.address) as call:
        async with asyncio.timeout(PATIENCE):
            while leaving.engine.submitted.empty() or staying.engine.submitted.empty():
                await call("both get their turn")
        held: list[Request] = []
        arrived = threading.Event()

        def hold(submitted: Request) -> None:
            held.append(submitted)
            arrived.set()

        leaving.engine.behave = hold
        pending = [asyncio.create_task(call("held")) for _ in range(2)]  # one to each
        async with asyncio.timeout(PATIENCE):
            while not arrived.is_set():
                if all(task.done() for task in pending):
                    pending.append(asyncio.create_task(call("held")))
                await asyncio.sleep(0.005)
        draining = asyncio.create_task(leaving.server.drain(PATIENCE))
        # Its word takes a moment to arrive. From then on nothing is refused.
        in_a_row = 0
        async with asyncio.timeout(PATIENCE):
            while in_a_row < 40:
                try:
                    await call("others")
                    in_a_row += 1
                except Unavailable:
                    in_a_row = 0
        assert not draining.done()
        for submitted in held:
            answer(echo)(submitted)
        assert {(await task).text for task in pending} == {"HELD"}
        await draining


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
async def test_a_replica_that_has_not_loaded_its_models_gets_no_calls_yet(kind: str) -> None:
    starting = DragomanServer(Settings(port=0))
    address = await starting.start()
    async with replica() as ready, caller(kind, address, ready.address) as call:
        for _ in range(20):
            assert (await call("abc")).text == "ABC"
        engine = FakeEngine()
        await starting.open(Catalogue([model(engine)], "deu-eng"))
        async with asyncio.timeout(PATIENCE):
            while engine.submitted.empty():
                assert (await call("abc")).text == "ABC"
    await starting.drain(0)
