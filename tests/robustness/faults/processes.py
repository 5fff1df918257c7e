"""Faults of the server's process: ended, killed, paused, without file descriptors."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import ClassVar

from tests.robustness import profiles
from tests.robustness.asks import Ask
from tests.robustness.driving import OK, Driver, Manner
from tests.robustness.faults.fault import Fault
from tests.robustness.history import Begun, Ended, Piece
from tests.robustness.profiles import Way
from tests.robustness.servers import Server, free_port
from tests.robustness.traffic import Sender, Traffic
from tests.robustness.world import World, translations

AWAY = frozenset({"OK", "UNAVAILABLE"})
"""What may become of a request while its server goes away."""
NEWCOMER = frozenset({"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
"""What may become of a call that waits for its connection for most of its time."""
_BACK_SECONDS = 20.0
_PAUSE_SECONDS = 2.0
_SPARE = 3
"""File descriptors beyond those in use."""


def unless_begun(ask: Ask, way: Way) -> Manner:
    """Dragoman's clients try a call again elsewhere; a stream that has begun gets a typed error."""
    return Manner(may=AWAY if way == "stream" else OK)


class ReplicaKilled(Fault):
    """Calls are tried again at the other replica; streams that have begun are told, and never begun anew."""

    name: ClassVar = "replica-killed"
    injects: ClassVar = "SIGKILL of one of two replicas behind balancing clients"

    async def inject(self, world: World, rng: random.Random) -> None:
        async with world.server("replica-1") as first, world.server("replica-2") as second:
            doomed, other = (first, second) if rng.random() < 0.5 else (second, first)
            async with world.channels(other) as (driver,):
                await world.warm_up(driver)
            async with world.watched(other), world.clients("replicas", first.address, second.address, count=2) as both:
                traffic = world.traffic(both, profiles.DAY, manner=unless_begun)
                async with asyncio.TaskGroup() as group:
                    group.create_task(traffic.run())
                    await traffic.reached(0.3)
                    doomed.kill()
                    world.history.injected(f"{doomed.name} was killed")


class ServerTerminated(Fault):
    """An orderly end: what is under way is finished, what comes later is sent elsewhere, and the exit status is 0."""

    name: ClassVar = "server-terminated"
    injects: ClassVar = "SIGTERM under load"

    async def inject(self, world: World, rng: random.Random) -> None:
        for share in (0.2, 0.4):
            await self._once(world, share)

    async def _once(self, world: World, share: float) -> None:
        async with world.server("terminated", "--grace", "20") as server, world.channels(server, 2) as drivers:
            traffic = world.traffic(drivers, profiles.DAY, share=0.5, manner=lambda ask, way: Manner(may=AWAY))
            async with asyncio.TaskGroup() as group:
                group.create_task(traffic.run())
                await traffic.reached(share)
                server.signal(signal.SIGTERM)
                mark = len(world.history.events)
                world.history.injected("SIGTERM")
                status = await server.ended()
                traffic.stop()
            world.history.expect(status == 0, f"exit status {status} after SIGTERM, not 0")
            self._under_way_is_finished(world, mark)

    def _under_way_is_finished(self, world: World, mark: int) -> None:
        """A stream that had told something before the signal is answered."""
        before, later = world.history.events[:mark], world.history.events[mark:]
        told = {event.request for event in before if isinstance(event, Piece)}
        over = {event.request for event in before if isinstance(event, Ended)}
        bulk = {event.request for event in before if isinstance(event, Begun) and event.way == "bulk"}
        for event in list(later):
            if isinstance(event, Ended) and event.request in told - over - bulk:
                world.history.expect(event.status == "OK", f"{event.request} had begun, and ended {event.status}")


class ServerKilledAndStarted(Fault):
    """The process dies, and another takes its port: clients find it by themselves."""

    name: ClassVar = "server-killed-and-started"
    injects: ClassVar = "SIGKILL under load, and a new process at the same port"

    async def inject(self, world: World, rng: random.Random) -> None:
        port = ("--port", str(free_port()))
        async with world.server("reborn", *port) as server, world.clients("reborn", server.address, count=3) as clients:
            before = world.traffic(clients, profiles.DAY, share=0.4, manner=lambda ask, way: Manner(may=AWAY))
            async with asyncio.TaskGroup() as group:
                group.create_task(before.run())
                await before.reached(0.5)
                server.kill()
                world.history.injected("SIGKILL")
                await server.start()
            async with world.channels(server) as (driver,):
                await world.warm_up(driver)
            await self._back(world, clients[0])
            async with world.watched(server):
                await world.traffic(clients, profiles.DAY, share=0.6).run()

    async def _back(self, world: World, client: Sender) -> None:
        """A client that was refused waits for up to two seconds before it connects again."""
        ask = translations(world.pool, "short")[0]
        end = asyncio.get_running_loop().time() + _BACK_SECONDS
        while await client.send(ask, "call", Manner(may=AWAY)) != "OK":
            if asyncio.get_running_loop().time() > end:
                world.history.expect(False, f"the client had not come back after {_BACK_SECONDS:.0f} s")
                return


class ServerPaused(Fault):
    """As when a virtual machine is moved: nothing runs for a while, and nobody was told."""

    name: ClassVar = "server-paused"
    injects: ClassVar = f"SIGSTOP for {_PAUSE_SECONDS:.0f} s, then SIGCONT"

    async def inject(self, world: World, rng: random.Random) -> None:
        async def pause(traffic: Traffic) -> None:
            for share in (0.3, 0.7):
                await traffic.reached(share)
                world.standing.signal(signal.SIGSTOP)
                try:
                    world.history.injected(f"SIGSTOP for {_PAUSE_SECONDS:.0f} s")
                    await asyncio.sleep(_PAUSE_SECONDS)
                finally:
                    world.standing.signal(signal.SIGCONT)

        await world.under_load(profiles.DAY, pause)


class DescriptorsExhausted(Fault):
    """No new connection can be taken: those that stand are served, and new ones as soon as there are descriptors."""

    name: ClassVar = "descriptors-exhausted"
    injects: ClassVar = f"RLIMIT_NOFILE {_SPARE} above what is in use, and 24 new connections"

    async def inject(self, world: World, rng: random.Random) -> None:
        async with world.server("short-of-files") as server, world.channels(server, 2) as drivers:
            await world.warm_up(*drivers)
            async with world.watched(server):
                traffic = world.traffic(drivers, profiles.DAY)
                async with asyncio.TaskGroup() as group:
                    group.create_task(traffic.run())
                    await traffic.reached(0.2)
                    await self._starve(world, server)
                    await traffic.reached(0.8)
                    server.limit_descriptors(None)
                async with world.channels(server) as (driver,):
                    await self._connected(world, driver)

    async def _starve(self, world: World, server: Server) -> None:
        server.limit_descriptors((await server.reading()).descriptors + _SPARE)
        async with world.channels(server, 24) as newcomers:
            ask = translations(world.pool, "short")[0]
            manner = Manner(timeout=3.0, may=NEWCOMER)
            world.history.injected("24 connections that there are no descriptors for")
            await asyncio.gather(*(driver.send(ask, "call", manner) for driver in newcomers))

    async def _connected(self, world: World, driver: Driver) -> None:
        """gRPC tries again to accept after a second or so."""
        end = asyncio.get_running_loop().time() + _BACK_SECONDS
        ask = translations(world.pool, "short")[0]
        while await driver.send(ask, "call", Manner(timeout=5.0, may=NEWCOMER)) != "OK":
            if asyncio.get_running_loop().time() > end:
                world.history.expect(False, f"no new connection {_BACK_SECONDS:.0f} s after the limit was lifted")
                return
