"""Faults of those who call: killed, silent, impatient, slow, or too many."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

from dragoman.retry import MAX_ATTEMPTS
from dragoman_protos.v1 import inference_pb2
from dragoman_protos.v1.inference_pb2_grpc import InferenceServiceStub
from tests.robustness import asks, profiles
from tests.robustness.driving import Driver, Manner
from tests.robustness.faults.fault import Fault
from tests.robustness.history import Begun, Ended
from tests.robustness.proxy import Proxy
from tests.robustness.servers import Server
from tests.robustness.traffic import Traffic
from tests.robustness.world import World, translations

ROOT = Path(__file__).parents[3]
CANCELLED = frozenset({"OK", "CANCELLED"})
HURRIED = frozenset({"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
REFUSED = frozenset({"OK", "RESOURCE_EXHAUSTED"})
SLOW = frozenset({"OK", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED", "DEADLINE_EXCEEDED"})
_SHORTEST_PUSHBACK = 0.02
"""Seconds (docs/scheduling.md, "Deadlines")."""
_NARROW = (("grpc.http2.lookahead_bytes", 64 << 10), ("grpc.http2.bdp_probe", 0))
"""What a connection takes that nobody reads from: gRPC would else let it grow."""
_PATIENCE_SECONDS = 3.0
"""For the server to give up those that do not read."""
VANISHED_SECONDS = 30.0
"""Keepalive asks after 2 seconds here and waits 2 for the answer; the rest is for a busy machine."""


class ClientKilled(Fault):
    """The kernel closes the connections of a process that is killed: the server must notice and free its rows."""

    name: ClassVar = "client-killed"
    injects: ClassVar = "SIGKILL of a client process in mid-stream"

    async def inject(self, world: World, rng: random.Random) -> None:
        async def kill(traffic: Traffic) -> None:
            for share in (0.2, 0.5, 0.8):
                victim = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "tests.robustness.victim", world.standing.address),
                    stdout=asyncio.subprocess.PIPE,
                    cwd=ROOT,
                )
                assert victim.stdout is not None
                await victim.stdout.readline()  # its streams have begun
                await traffic.reached(share)
                victim.kill()
                await victim.wait()
                world.history.injected("a client with 8 streams and a bulk call was killed")

        await world.under_load(profiles.DAY, kill)


class ClientSilent(Fault):
    """No FIN, no RST: only keepalive can tell that nobody is there."""

    name: ClassVar = "client-silent"
    injects: ClassVar = "the networks of 4 clients go silent with bulk calls open (keepalive of 2 + 2 s)"

    async def inject(self, world: World, rng: random.Random) -> None:
        config = world.folder / "keepalive.toml"
        config.write_text("keepalive_seconds = 2.0\nkeepalive_timeout_seconds = 2.0\n")
        async with world.server("watchful", "--config", str(config)) as server, world.channels(server, 2) as drivers:
            await world.warm_up(*drivers)
            async with world.watched(server), Proxy(server.address, rng) as proxy, asyncio.TaskGroup() as group:
                traffic = world.traffic(drivers, profiles.DAY)
                group.create_task(traffic.run())
                async with world.channels(server, 4, address=proxy.address) as silent:
                    calls = [InferenceServiceStub(one.channel).TranslateMany(_first_item_alone()) for one in silent]
                    await asyncio.gather(*(call.read() for call in calls))
                    await traffic.reached(0.3)
                    proxy.silence()
                    world.history.injected("4 clients with open bulk calls went silent")
                    await traffic.reached(1.0)
                    await self._noticed(world, server)
                    for call in calls:
                        call.cancel()

    async def _noticed(self, world: World, server: Server) -> None:
        end = asyncio.get_running_loop().time() + VANISHED_SECONDS
        while left := (await server.reading()).in_flight:
            if asyncio.get_running_loop().time() > end:
                world.history.expect(False, f"{left} silent clients were not noticed in {VANISHED_SECONDS:.0f} s")
                return
            await asyncio.sleep(0.2)


class CancelStorm(Fault):
    """Cancelled before they are sent, while they wait, and while they run."""

    name: ClassVar = "cancel-storm"
    injects: ClassVar = "requests cancelled by their callers, queued and running"
    quick: ClassVar = True

    async def inject(self, world: World, rng: random.Random) -> None:
        async with world.watched(world.standing), world.channels(world.standing, 2) as drivers:

            async def cancelled(number: int) -> None:
                ask, way = profiles.DAY.draw(world.pool, rng)
                task = asyncio.create_task(drivers[number % 2].send(ask, way, Manner(may=CANCELLED)))
                await asyncio.wait([task], timeout=rng.choice((0.0, 0.002, 0.01, 0.05)) * 2 * rng.random())
                if task.cancel():
                    world.history.injected("a request was cancelled")
                await asyncio.wait([task])

            traffic = world.traffic(drivers, profiles.DAY, share=0.4)
            numbers = iter(range(round(0.6 * world.requests)))

            async def impatient() -> None:
                for number in numbers:
                    await cancelled(number)

            async with asyncio.TaskGroup() as group:
                group.create_task(traffic.run())
                for _ in range(48):
                    group.create_task(impatient())


class DeadlineStorm(Fault):
    """Deadlines that nobody can keep, some that can just be kept, and some of plenty."""

    name: ClassVar = "deadline-storm"
    injects: ClassVar = "deadlines of 1 to 200 ms at a full queue"
    quick: ClassVar = True

    async def inject(self, world: World, rng: random.Random) -> None:
        def hurried() -> Manner:
            world.history.injected("a request had a short deadline")
            return Manner(timeout=rng.choice((0.001, 0.01, 0.05, 0.2)) * (0.5 + rng.random()), may=HURRIED)

        async with world.watched(world.standing), world.channels(world.standing, 2) as drivers:
            calm = world.traffic(drivers, profiles.DAY, share=0.4)
            storm = world.traffic(drivers, profiles.DAY, share=0.6, at_once=64, manner=lambda ask, way: hurried())
            async with asyncio.TaskGroup() as group:
                group.create_task(calm.run())
                group.create_task(storm.run())
        _with_pushback(world)


class SlowReader(Fault):
    """Answers pile up for who does not read them; what piles up is bounded, and after a while they are given up."""

    name: ClassVar = "slow-reader"
    injects: ClassVar = "bulk calls and streams whose answers are not read (given up after 1 s)"

    async def inject(self, world: World, rng: random.Random) -> None:
        config = world.folder / "impatient.toml"
        config.write_text("slow_reader_seconds = 1.0\n")
        async with world.server("impatient", "--config", str(config)) as server, world.channels(server, 2) as drivers:
            await world.warm_up(*drivers)
            async with world.watched(server), world.channels(server, options=_NARROW) as (late,):
                await self._play(world, rng, drivers, late)

    async def _play(self, world: World, rng: random.Random, drivers: Sequence[Driver], late: Driver) -> None:
        reads = asyncio.Event()
        slow = Manner(may=SLOW, reads=reads)
        # More than the window of a connection holds: the server cannot write all of it.
        texts = rng.choices(translations(world.pool, asks.LONG), k=400)
        traffic = world.traffic(drivers, profiles.DAY, share=0.5)
        async with asyncio.TaskGroup() as group:
            group.create_task(traffic.run())
            group.create_task(late.send_many(texts, slow))
            for ask in world.pool[asks.LONG_PROMPTS]:
                group.create_task(late.send(ask, "stream", slow))
            world.history.injected("a bulk call and streams whose answers nobody reads")
            await traffic.reached(1.0)
            await asyncio.sleep(_PATIENCE_SECONDS)
            reads.set()


class QueueOverflow(Fault):
    """More than the queue holds: refused at once, with the time at which to come back, which clients wait for."""

    name: ClassVar = "queue-overflow"
    injects: ClassVar = "128 callers at a queue of 8 requests and 4 rows"

    async def inject(self, world: World, rng: random.Random) -> None:
        config = world.folder / "small.toml"
        config.write_text("max_waiting = 8\nmax_waiting_tokens = 400\n")
        narrow = ("--config", str(config), "--lanes", "1", "--max-rows", "6")
        async with (
            world.server("narrow", *narrow) as server,
            world.watched(server),
            world.channels(server, 2) as drivers,
            world.clients("narrow", server.address) as clients,
        ):
            world.history.injected("a queue too small for those who call")
            plain = world.traffic(
                drivers, profiles.MIXED, share=0.6, at_once=96, manner=lambda ask, way: Manner(may=REFUSED)
            )
            await plain.run()
            mark = len(world.history.events)
            patient = world.traffic(
                clients, profiles.SHORT, share=0.4, at_once=32, manner=lambda ask, way: Manner(may=REFUSED)
            )
            await patient.run()
        world.history.expect(plain.ended["RESOURCE_EXHAUSTED"] > 0, "nobody was refused: the queue never overflowed")
        _waited(world, mark)
        _with_pushback(world)


def _waited(world: World, mark: int) -> None:
    """Dragoman's clients, from ``mark`` on, gave up only after they had come back as often as they may."""
    begun = {event.request: event.at for event in world.history.events[mark:] if isinstance(event, Begun)}
    for event in world.history.ends():
        if event.status == "RESOURCE_EXHAUSTED" and event.request in begun:
            seconds = event.at - begun[event.request]
            least = (MAX_ATTEMPTS - 1) * _SHORTEST_PUSHBACK
            world.history.expect(seconds >= least, f"{event.request}: gave up after {seconds:.3f} s, told to come back")


def _with_pushback(world: World) -> None:
    """Who is refused is told when to come back."""
    begun = {event.request: event for event in world.history.events if isinstance(event, Begun)}
    for event in world.history.events.copy():
        if isinstance(event, Ended) and event.status == "RESOURCE_EXHAUSTED":
            name = f"{event.request} ({begun[event.request].way})"
            world.history.expect(event.retry_after is not None, f"{name}: refused without a time to come back")


async def _first_item_alone() -> AsyncIterator[inference_pb2.TranslateManyRequest]:
    request = inference_pb2.TranslateRequest(text="The station is old.", target_language="de", model="deu-eng")
    yield inference_pb2.TranslateManyRequest(items=[inference_pb2.TranslateItem(id=1, request=request)])
    await asyncio.Event().wait()  # and never another
