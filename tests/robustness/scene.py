"""The stage of one fault: the traffic that runs meanwhile, looks at the servers, and the history of both."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import grpc

from dragoman import AsyncClient, Retry
from tests.robustness.asks import Answer, Ask
from tests.robustness.clients import ClientDriver
from tests.robustness.driving import Driver, Manner
from tests.robustness.history import History, Observed, Reading
from tests.robustness.invariants import grown, idle_is_free
from tests.robustness.profiles import Profile, Way
from tests.robustness.servers import Observable
from tests.robustness.traffic import Sender, Traffic

SETTLE_SECONDS = 20.0
"""For connections to be closed and calls to be given up; what holds more after that holds it for good."""
_LOOK_SECONDS = 0.05
RESIDENT = 64.0
"""MiB that a server may have more after a fault than after the warm-up before it. What is loaded on first use and holes
in the heap that are not given back yet take up to 40; a kept row or stream would take more with every request."""
_RETRY = Retry(budget=1000)
"""Faults break many calls of few clients, and what is looked at is whether each of them is tried again."""
CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0))


class Scene:
    """One history, so many requests to fill it with, and the answers that are right."""

    def __init__(
        self,
        history: History,
        pool: Mapping[str, Sequence[Ask]],
        alone: Mapping[str, Answer],
        rng: random.Random,
        *,
        requests: int,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self.history = history
        self.pool = pool
        self.alone = alone
        self.requests = requests
        self.rng = rng
        self._settle_seconds = settle_seconds

    @contextlib.asynccontextmanager
    async def watched(
        self, server: Observable, *, resident: float = RESIDENT, errors_allowed: bool = False
    ) -> AsyncIterator[None]:
        """Look at what the server holds before and, when it has come to rest or never will, after."""
        before = await self._rested(server, lambda reading: not _held(reading))
        self.history.observe(server.name, "before", before, resident_bound=resident)
        first = self.history.events[-1]
        yield

        def rested(reading: Reading) -> bool:
            after = Observed(0.0, server.name, "after", reading, resident)
            return not grown(before, after) and not list(idle_is_free([first, after]))

        after = await self._rested(server, rested)
        self.history.observe(server.name, "after", after, resident_bound=resident, errors_allowed=errors_allowed)

    async def _rested(self, server: Observable, rested: Callable[[Reading], bool]) -> Reading:
        end = asyncio.get_running_loop().time() + self._settle_seconds
        while not rested(reading := await server.reading()) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(_LOOK_SECONDS)
        return reading

    @contextlib.asynccontextmanager
    async def channels(
        self,
        server: Observable,
        count: int = 1,
        *,
        address: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, int]] = (),
    ) -> AsyncIterator[list[Driver]]:
        """So many connections of their own to the server, or by way of ``address``; in the clear by default."""
        target, how = address or server.address, (*CHANNEL_OPTIONS, *options)
        async with contextlib.AsyncExitStack() as stack:
            drivers = []
            for _ in range(count):
                channel = (
                    grpc.aio.insecure_channel(target, how)
                    if credentials is None
                    else grpc.aio.secure_channel(target, credentials, how)
                )
                drivers.append(Driver(await stack.enter_async_context(channel), self.history, server.name))
            yield drivers

    @contextlib.asynccontextmanager
    async def clients(self, name: str, *addresses: str, count: int = 1) -> AsyncIterator[list[ClientDriver]]:
        """So many of Dragoman's own clients, balancing over these addresses."""
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(AsyncClient(addresses, retry=_RETRY)) for _ in range(count)]
            yield [ClientDriver(client, self.history, name) for client in clients]
            del clients
        # A call that failed may be a part of a cycle of references. While it is there, gRPC keeps its connection, and
        # watches the server's health over it: that is held by this process, and not by the server.
        gc.collect()

    def traffic(
        self,
        senders: Sequence[Sender],
        profile: Profile,
        *,
        share: float = 1.0,
        at_once: int = 24,
        manner: Callable[[Ask, Way], Manner] = lambda ask, way: Manner(),
    ) -> Traffic:
        """This share of the scene's requests."""
        count = max(1, round(share * self.requests))
        return Traffic(senders, profile, self.pool, self.rng, count=count, at_once=at_once, manner=manner)


def _held(reading: Reading) -> int:
    return reading.rows_used + reading.waiting + reading.running + reading.in_flight
