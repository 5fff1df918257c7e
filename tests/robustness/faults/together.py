"""Faults seldom come one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from tests.robustness.faults.callers import CancelStorm, ClientKilled, DeadlineStorm
from tests.robustness.faults.fault import Fault
from tests.robustness.faults.hostile import InvalidRequests, MalformedMessage
from tests.robustness.faults.models import RELOADED, ModelReloaded
from tests.robustness.faults.network import GarbageBytes, ResetInMidStream, SlowNetwork
from tests.robustness.scene import RESIDENT
from tests.robustness.servers import Observable
from tests.robustness.world import World

PARTS: Sequence[Fault] = (
    CancelStorm(),
    DeadlineStorm(),
    ClientKilled(),
    ModelReloaded(),
    SlowNetwork(),
    ResetInMidStream(),
    GarbageBytes(),
    MalformedMessage(),
    InvalidRequests(),
)


class ManyAtOnce(Fault):
    """All that the standing server can stand, at the same time."""

    name: ClassVar = "many-at-once"
    injects: ClassVar = f"{len(PARTS)} of these at one server together: {', '.join(part.name for part in PARTS)}"

    async def inject(self, world: World, rng: random.Random) -> None:
        async with world.watched(world.standing, resident=RELOADED), asyncio.TaskGroup() as group:
            for part in PARTS:
                # Each draws by itself: in which order they do is the machine's affair.
                own = random.Random(rng.random())
                group.create_task(part.inject(_Share(world, own, len(PARTS)), own))


class _Share(World):
    """A world for one of several faults at a time: the whole looks at the server, when all of them are over."""

    def __init__(self, world: World, rng: random.Random, parts: int) -> None:
        super().__init__(
            world.history,
            world.pool,
            world.alone,
            rng,
            requests=-(-world.requests // parts),
            standing=world.standing,
            repository=world.repository,
            folder=world.folder,
        )

    @contextlib.asynccontextmanager
    async def watched(
        self, server: Observable, *, resident: float = RESIDENT, errors_allowed: bool = False
    ) -> AsyncIterator[None]:
        """Not by a part."""
        yield
