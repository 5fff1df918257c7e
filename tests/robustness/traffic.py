"""Many requests at one time, drawn from a profile, until so many were sent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tests.robustness.asks import Ask, Translate
from tests.robustness.driving import Manner
from tests.robustness.profiles import Profile, Way

_BULK = 12
"""Items of one bulk call."""


class Sender(Protocol):
    """Sends a request and records what comes of it."""

    async def send(self, ask: Ask, way: Way, manner: Manner = ...) -> str:
        """The status that it ended with."""

    async def send_many(self, asks: Sequence[Translate], manner: Manner = ...) -> list[str]:
        """The same for several texts that are asked for in the same way, by one call."""


class Traffic:
    """``count`` requests of a profile, ``at_once`` of them under way; the statuses are counted in ``ended``."""

    def __init__(
        self,
        senders: Sequence[Sender],
        profile: Profile,
        pool: Mapping[str, Sequence[Ask]],
        rng: random.Random,
        *,
        count: int,
        at_once: int = 24,
        manner: Callable[[Ask, Way], Manner] = lambda ask, way: Manner(),
    ) -> None:
        self.ended: Counter[str] = Counter()
        self.count = count
        self._senders = senders
        self._profile = profile
        self._pool = pool
        self._rng = rng
        self._at_once = at_once
        self._manner = manner
        self._left = count
        self._stopped = False
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Send them all, and wait for their ends."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._at_once):
                group.create_task(self._user(self._senders[number % len(self._senders)]))

    def stop(self) -> None:
        """Send no more; nobody waits any longer for a share to be reached."""
        self._left = 0
        self._stopped = True
        self._moved.set()

    async def reached(self, share: float) -> None:
        """Wait until this share of the requests has ended."""
        while self.ended.total() < share * self.count and not self._stopped:
            self._moved.clear()
            await self._moved.wait()

    async def _user(self, sender: Sender) -> None:
        while self._left > 0:
            ask, way = self._profile.draw(self._pool, self._rng)
            if way == "bulk" and isinstance(ask, Translate):
                texts = [ask, *self._rng.choices(self._alike(ask), k=min(_BULK, self._left) - 1)]
                self._left -= len(texts)
                statuses = await sender.send_many(texts, self._manner(ask, way))
            else:
                self._left -= 1
                statuses = [await sender.send(ask, way, self._manner(ask, way))]
            self.ended.update(statuses)
            self._moved.set()

    def _alike(self, ask: Translate) -> list[Translate]:
        """The translations that are asked for in the same way, and so may be items of one call of Dragoman's client."""
        how = (ask.decoding, ask.priority, ask.model)
        return [
            other
            for kind in self._profile.kinds
            for other in self._pool[kind]
            if isinstance(other, Translate) and (other.decoding, other.priority, other.model) == how
        ]
