"""Faults of the network: slow, broken, flooded."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import ClassVar

from tests.robustness import profiles
from tests.robustness.driving import Manner
from tests.robustness.faults.fault import Fault
from tests.robustness.proxy import Proxy
from tests.robustness.traffic import Traffic
from tests.robustness.world import World

BROKEN = Manner(may=frozenset({"OK", "UNAVAILABLE"}))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CONNECTIONS = 64
_FLOOD = 200


class SlowNetwork(Fault):
    """Messages come late and in pieces, cut anywhere."""

    name: ClassVar = "slow-network"
    injects: ClassVar = "a proxy that passes on 1 to 300 bytes at a time, 1 ms apart"

    async def inject(self, world: World, rng: random.Random) -> None:
        async with (
            world.watched(world.standing),
            Proxy(world.standing.address, rng, delay=0.001, piece=300) as proxy,
            world.channels(world.standing, 2) as drivers,
            world.channels(world.standing, 6, address=proxy.address) as slow,
        ):
            world.history.injected("6 connections by a slow network")
            async with asyncio.TaskGroup() as group:
                group.create_task(world.traffic(drivers, profiles.DAY, share=0.5).run())
                group.create_task(world.traffic(slow, profiles.DAY, share=0.5).run())


class ResetInMidStream(Fault):
    """Every connection breaks at once: calls are tried again elsewhere or anew, streams that have begun are not."""

    name: ClassVar = "reset-in-mid-stream"
    injects: ClassVar = "RST on all connections of Dragoman's clients"
    quick: ClassVar = True

    async def inject(self, world: World, rng: random.Random) -> None:
        async with (
            world.watched(world.standing),
            Proxy(world.standing.address, rng) as proxy,
            world.clients("standing", proxy.address, count=3) as clients,
        ):
            traffic = world.traffic(
                clients, profiles.DAY, manner=lambda ask, way: BROKEN if way == "stream" else Manner()
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(traffic.run())
                for share in (0.2, 0.4, 0.6, 0.8):
                    await traffic.reached(share)
                    world.history.injected(f"RST on {proxy.reset()} connections")


class ConnectionFlood(Fault):
    """More connections than are allowed, which say nothing or stop in the handshake."""

    name: ClassVar = "connection-flood"
    injects: ClassVar = f"{_FLOOD} idle connections at a server that takes {_CONNECTIONS}"

    async def inject(self, world: World, rng: random.Random) -> None:
        config = world.folder / "few.toml"
        config.write_text(f"max_connections = {_CONNECTIONS}\n")
        async with world.server("flooded", "--config", str(config)) as server, world.channels(server, 2) as drivers:
            await world.warm_up(*drivers)
            async with world.watched(server):
                traffic = world.traffic(drivers, profiles.DAY)
                async with asyncio.TaskGroup() as group:
                    group.create_task(traffic.run())
                    await traffic.reached(0.2)
                    with contextlib.ExitStack() as stack:
                        for _ in range(_FLOOD):
                            stack.enter_context(await _connected(server.port, rng))
                        world.history.injected(f"{_FLOOD} connections")
                        await traffic.reached(0.8)
            # And when they have gone, new ones are taken.
            async with world.channels(server) as (driver,):
                await world.warm_up(driver)


class GarbageBytes(Fault):
    """Connections that speak something else, or HTTP/2 that is none."""

    name: ClassVar = "garbage-bytes"
    injects: ClassVar = "random bytes, HTTP/1, TLS and broken HTTP/2 frames at the port"
    quick: ClassVar = True

    async def inject(self, world: World, rng: random.Random) -> None:
        def garbage() -> bytes:
            return rng.choice(
                (
                    rng.randbytes(rng.randint(1, 4096)),
                    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(512),
                    PREFACE + rng.randbytes(rng.randint(1, 2048)),
                    PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff" + rng.randbytes(200),
                )
            )

        async def throw(traffic: Traffic) -> None:
            for number in range(60):
                await traffic.reached(number / 80)
                with contextlib.suppress(OSError):  # the server may close while we write
                    reader, writer = await asyncio.open_connection("127.0.0.1", world.standing.port)
                    writer.write(garbage())
                    await writer.drain()
                    if rng.random() < 0.5:
                        async with asyncio.timeout(0.2):
                            await reader.read(1024)
                    writer.close()
                world.history.injected("garbage at the port")

        await world.under_load(profiles.DAY, throw)


async def _connected(port: int, rng: random.Random) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        if rng.random() < 0.5:
            await asyncio.get_running_loop().sock_sendall(sock, PREFACE[: rng.randint(1, len(PREFACE))])
    return sock
