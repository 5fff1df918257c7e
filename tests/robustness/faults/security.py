"""Tokens and certificates: wrong ones under traffic, and right ones that are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import grpc
import trustme

from dragoman_server.security.tokens import digest, new_token
from tests.robustness import profiles
from tests.robustness.asks import SHORT
from tests.robustness.driving import Driver, Manner
from tests.robustness.faults.fault import Fault
from tests.robustness.servers import Server
from tests.robustness.world import World, translations

_KNOWN_SECONDS = 10.0
"""For a changed file to be seen: a second, on a machine that is not busy."""
_LOOK_SECONDS = 1.0
"""Between two looks at the file of tokens (docs/security.md)."""
_TIMES = 40


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@dataclass
class Secured:
    """A server with TLS and tokens, and what one needs to be let in."""

    server: Server
    authority: trustme.CA
    folder: Path
    good: str
    scraper: str

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authority.cert_pem.bytes())

    def write_tokens(self, *tokens: str) -> None:
        write_tokens(self.folder / "tokens.toml", self.scraper, *tokens)


def write_tokens(path: Path, scraper: str, *tokens: str) -> None:
    """Those who may infer, and one who may look at metrics alone; replaced by renaming."""
    entries = [(f"user-{number}", token, "infer") for number, token in enumerate(tokens)]
    text = "".join(
        f'[[tokens]]\nname = "{name}"\nsha256 = "{digest(token)}"\npermissions = ["{permission}"]\n\n'
        for name, token, permission in [*entries, ("scraper", scraper, "metrics")]
    )
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


def write_certificate(authority: trustme.CA, folder: Path) -> bytes:
    """A new certificate with its key, each replaced by renaming; the certificate."""
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    for name, blob in (("key.pem", leaf.private_key_pem), ("certificate.pem", leaf.cert_chain_pems[0])):
        beside = folder / f".{name}"
        beside.write_bytes(blob.bytes())
        beside.rename(folder / name)
    return leaf.cert_chain_pems[0].bytes()


@contextlib.asynccontextmanager
async def secured(world: World) -> AsyncIterator[Secured]:
    """Such a server, warm."""
    authority, folder = trustme.CA(), world.folder
    good, scraper = new_token(), new_token()
    write_tokens(folder / "tokens.toml", scraper, good)
    write_certificate(authority, folder)
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    files = ("--tokens", "tokens.toml", "--tls-certificate", "certificate.pem", "--tls-key", "key.pem")
    options = [str(folder / part) if "." in part else part for part in files]
    async with world.server("secured", *options, tls=context, scraper=scraper) as server:
        found = Secured(server, authority, folder, good, scraper)
        async with world.channels(server, credentials=found.credentials) as (driver,):
            for ask in translations(world.pool, SHORT):
                await driver.send(ask, "call", Manner(metadata=bearer(good)))
        yield found


class BadTokens(Fault):
    """No token, unknown ones, malformed ones, and one without the permission."""

    name: ClassVar = "bad-tokens"
    injects: ClassVar = "calls with missing, unknown, malformed and insufficient tokens"

    async def inject(self, world: World, rng: random.Random) -> None:
        async with secured(world) as found:
            bad = (
                ((), "UNAUTHENTICATED"),
                (bearer(new_token()), "UNAUTHENTICATED"),
                ((("authorization", "Basic dXNlcjpwYXNz"),), "UNAUTHENTICATED"),
                (bearer(found.good[:-1]), "UNAUTHENTICATED"),
                (bearer(found.scraper), "PERMISSION_DENIED"),
            )
            async with (
                world.watched(found.server),
                world.channels(found.server, 3, credentials=found.credentials) as drivers,
            ):
                traffic = world.traffic(
                    drivers, profiles.DAY, manner=lambda ask, way: Manner(metadata=bearer(found.good))
                )
                async with asyncio.TaskGroup() as group:
                    group.create_task(traffic.run())
                    for number in range(_TIMES):
                        await traffic.reached(number / _TIMES)
                        metadata, status = rng.choice(bad)
                        ask, way = profiles.DAY.draw(world.pool, rng)
                        if way == "bulk":  # refused under its first message, of which gRPC's client loses the status
                            way = "call"
                        await drivers[0].send(ask, way, Manner(metadata=metadata, may=frozenset({status})))
                        world.history.injected(f"a call that must end {status}")


class TokensRotated(Fault):
    """A token is taken away, another is added, and the file is damaged: others never notice."""

    name: ClassVar = "tokens-rotated"
    injects: ClassVar = "the file of tokens replaced under load, damaged, and replaced while no file can be opened"

    async def inject(self, world: World, rng: random.Random) -> None:
        async with secured(world) as found:
            old, new = new_token(), new_token()
            found.write_tokens(found.good, old)
            async with (
                world.watched(found.server, errors_allowed=True),
                world.channels(found.server, 3, credentials=found.credentials) as drivers,
            ):
                probe = drivers[0]
                await self._becomes(world, probe, old, "OK")
                traffic = world.traffic(
                    drivers, profiles.DAY, manner=lambda ask, way: Manner(metadata=bearer(found.good))
                )
                async with asyncio.TaskGroup() as group:
                    group.create_task(traffic.run())
                    await traffic.reached(0.2)
                    found.write_tokens(found.good, new)
                    world.history.injected("one token was replaced by another")
                    await self._becomes(world, probe, old, "UNAUTHENTICATED")
                    await self._becomes(world, probe, new, "OK")
                    await traffic.reached(0.6)
                    (found.folder / "tokens.toml").write_text("[[tokens]\nname = ")
                    world.history.injected("the file was damaged")
                    await self._becomes(world, probe, new, "OK")
                    await self._unreadable(world, found, probe)

    async def _unreadable(self, world: World, found: Secured, probe: Driver) -> None:
        """A replacement that cannot be read when it comes is read when it can be."""
        latest = new_token()
        found.server.limit_descriptors((await found.server.reading()).descriptors - 1)  # without that of the reading
        try:
            found.write_tokens(found.good, latest)
            world.history.injected("the file was replaced while no file could be opened")
            end = asyncio.get_running_loop().time() + 2 * _LOOK_SECONDS
            while asyncio.get_running_loop().time() < end:
                await self._becomes(world, probe, found.good, "OK")
        finally:
            found.server.limit_descriptors(None)
        await self._becomes(world, probe, latest, "OK")

    async def _becomes(self, world: World, driver: Driver, token: str, status: str) -> None:
        """Wait until the token is treated so."""
        either = frozenset({"OK", "UNAUTHENTICATED"})
        end = asyncio.get_running_loop().time() + _KNOWN_SECONDS
        ask = translations(world.pool, SHORT)[0]
        while await driver.send(ask, "call", Manner(metadata=bearer(token), may=either)) != status:
            if asyncio.get_running_loop().time() > end:
                world.history.expect(False, f"a token was not {status} after {_KNOWN_SECONDS:.0f} s")
                return
            await asyncio.sleep(0.02)


class CertificateRotated(Fault):
    """New connections get the new certificate, standing ones go on; a pair that does not match is not used."""

    name: ClassVar = "certificate-rotated"
    injects: ClassVar = "certificate and key replaced under load, and replaced by a pair that does not match"

    async def inject(self, world: World, rng: random.Random) -> None:
        async with (
            secured(world) as found,
            world.watched(found.server, errors_allowed=True),
            world.channels(found.server, 2, credentials=found.credentials) as drivers,
        ):
            good = Manner(metadata=bearer(found.good))
            traffic = world.traffic(drivers, profiles.DAY, manner=lambda ask, way: good)
            async with asyncio.TaskGroup() as group:
                group.create_task(traffic.run())
                for share in (0.2, 0.5):
                    await traffic.reached(share)
                    certificate = write_certificate(found.authority, found.folder)
                    world.history.injected("a new certificate")
                    await self._served(world, found, certificate)
                    await self._newcomer(world, found, good)
                await traffic.reached(0.7)
                other = trustme.CA().issue_cert("localhost")
                (found.folder / "key.pem").write_bytes(other.private_key_pem.bytes())
                world.history.injected("a key that does not match")
                await self._newcomer(world, found, good)

    async def _served(self, world: World, found: Secured, certificate: bytes) -> None:
        end = asyncio.get_running_loop().time() + _KNOWN_SECONDS
        where = ("127.0.0.1", found.server.port)
        while await asyncio.to_thread(ssl.get_server_certificate, where) != certificate.decode():
            if asyncio.get_running_loop().time() > end:
                world.history.expect(False, "new connections still get the old certificate")
                return

    async def _newcomer(self, world: World, found: Secured, good: Manner) -> None:
        async with world.channels(found.server, credentials=found.credentials) as (driver,):
            await driver.send(translations(world.pool, SHORT)[0], "call", good)
