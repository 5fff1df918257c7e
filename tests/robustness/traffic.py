"""Many requests at one time, drawn from a profile, until so many were sent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tests.robustness.asks import Ask, Translate
from tests.robustness.driving import Driver, Manner
from tests.robustness.profiles import Profile, Way

_BULK = 12
"""Items of one bulk call."""


class Sender(Protocol):
    """Sends a request and records what comes of it."""

    async def send(self, ask: Ask, way: Way, manner: Manner = ...) -> str:
        """The status that it ended with."""


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
        manner: Callable[[Way], Manner] = lambda way: Manner(),
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
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Send them all, and wait for their ends."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._at_once):
                group.create_task(self._user(self._senders[number % len(self._senders)]))

    async def reached(self, share: float) -> None:
        """Wait until this share of the requests has ended."""
        while self.ended.total() < share * self.count:
            self._moved.clear()
            await self._moved.wait()

    async def _user(self, sender: Sender) -> None:
        while self._left > 0:
            ask, way = self._profile.draw(self._pool, self._rng)
            if way == "bulk" and isinstance(sender, Driver) and isinstance(ask, Translate):
                texts = [ask, *self._more(min(_BULK, self._left) - 1)]
                self._left -= len(texts)
                statuses = await sender.send_many(texts, self._manner(way))
            else:
                self._left -= 1
                statuses = [await sender.send(ask, way, self._manner(way))]
            self.ended.update(statuses)
            self._moved.set()

    def _more(self, count: int) -> list[Translate]:
        """Further texts for the same bulk call."""
        texts: list[Translate] = []
        while len(texts) < count:
            ask, _ = self._profile.draw(self._pool, self._rng)
            if isinstance(ask, Translate):
                texts.append(ask)
        return texts
