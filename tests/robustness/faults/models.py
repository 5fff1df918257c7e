"""Models that come and go while requests are under way."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from dragoman import AsyncClient
from tests.robustness import asks, profiles
from tests.robustness.asks import Ask, Classify, Embed, FillMask
from tests.robustness.driving import Manner
from tests.robustness.faults.fault import Fault
from tests.robustness.history import Begun
from tests.robustness.profiles import Way
from tests.robustness.traffic import Traffic
from tests.robustness.world import World

LOAD_SECONDS = 120.0
RELOADED = 96.0
"""MiB that a server may have more after a model has come and gone: a load leaves holes in the heap, which are given
back up to two seconds later, and first use what stays; both versions together take 130 more."""
_TRANSLATIONS = (asks.SHORT, asks.WIDE, asks.LONG, asks.TEXTS)
_GONE = frozenset({"NOT_FOUND"})
_AWAY = frozenset({"OK", "NOT_FOUND", "UNAVAILABLE"})


@contextlib.contextmanager
def version(repository: Path, model: str, number: int) -> Iterator[Path]:
    """A copy of version 1 as another version, put beside its place and renamed; it goes in the end."""
    place = repository / model / str(number)
    beside = repository / model / f".{number}"
    shutil.copytree(repository / model / "1", beside)
    beside.rename(place)
    try:
        yield place
    finally:
        shutil.rmtree(place)


class ModelReloaded(Fault):
    """A new version takes over: no request fails, and those that run end on the version that they began with."""

    name: ClassVar = "model-reloaded"
    injects: ClassVar = "LoadModel of version 2, and of version 1 again"

    async def inject(self, world: World, rng: random.Random) -> None:
        changes: list[tuple[int, str]] = [(0, "1")]

        async def reload(traffic: Traffic) -> None:
            with version(world.repository, "deu-eng", 2):
                async with AsyncClient(world.standing.address, timeout=LOAD_SECONDS) as client:
                    for number, target in ((0.2, 2), (0.45, 1), (0.65, 2), (0.85, 1)):
                        await traffic.reached(number)
                        await client.load_model("deu-eng", version=target)
                        changes.append((len(world.history.events), str(target)))
                        world.history.injected(f"deu-eng version {target} took over")
                    while [m for m in await client.models() if m.name == "deu-eng" and m.version == "2"]:
                        await asyncio.sleep(0.05)  # it is unloading

        await world.under_load(profiles.DAY, reload, resident=RELOADED)
        self._versions(world, changes)

    def _versions(self, world: World, changes: list[tuple[int, str]]) -> None:
        """Requests that lie between two changes were answered by the version of that time."""
        begun = {event.request: at for at, event in enumerate(world.history.events) if isinstance(event, Begun)}
        of_model = {ask.key for kind in _TRANSLATIONS for ask in world.pool[kind]}
        names = {event.request: event.ask for event in world.history.events if isinstance(event, Begun)}
        for event in world.history.ends():
            if event.status == "OK" and names[event.request] in of_model:
                start = begun[event.request]
                served = [number for place, number in changes if place <= start][-1]
                # One that was sent while the next version took over may be answered by that.
                allowed = {served, *(number for place, number in changes if place > start)}
                world.history.expect(
                    event.version in allowed, f"{event.request}: version {event.version}, not {' or '.join(allowed)}"
                )


class ModelUnloaded(Fault):
    """A model goes: what runs is finished, what comes is told that it is not there, and others are not touched."""

    name: ClassVar = "model-unloaded"
    injects: ClassVar = "UnloadModel and LoadModel of one of three models"

    async def inject(self, world: World, rng: random.Random) -> None:
        def manner(ask: Ask, way: Way) -> Manner:
            return Manner(may=_AWAY) if isinstance(ask, Classify | FillMask | Embed) else Manner()

        async def unload(traffic: Traffic) -> None:
            async with (
                AsyncClient(world.standing.address, timeout=LOAD_SECONDS) as client,
                world.channels(world.standing) as (driver,),
            ):
                for away, back in ((0.2, 0.4), (0.6, 0.8)):
                    await traffic.reached(away)
                    await client.unload_model("intents")
                    world.history.injected("intents was unloaded")
                    await driver.send(world.pool[asks.READINGS][0], "call", Manner(may=_GONE))
                    await traffic.reached(back)
                    await client.load_model("intents")

        await world.under_load(profiles.DAY, unload, manner=manner, resident=RELOADED)
