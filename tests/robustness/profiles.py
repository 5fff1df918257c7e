"""Traffic profiles: which requests come, and in which ways they are sent."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.robustness import asks
from tests.robustness.asks import Ask, Generate, Translate

Way = Literal["call", "stream", "bulk"]
"""One call and one answer; one call and many chunks; an item of a call with many."""


@dataclass(frozen=True)
class Profile:
    """Kinds of requests with the share of each; ``ways`` is how translations are sent, by share."""

    name: str
    kinds: Mapping[str, int]
    ways: Mapping[Way, int]

    def draw(self, pool: Mapping[str, Sequence[Ask]], rng: random.Random) -> tuple[Ask, Way]:
        """The next request, and how it is sent."""
        (kind,) = rng.choices(list(self.kinds), list(self.kinds.values()))
        ask = rng.choice(pool[kind])
        if isinstance(ask, Generate):
            return ask, "stream"
        if not isinstance(ask, Translate):
            return ask, "call"
        (way,) = rng.choices(list(self.ways), list(self.ways.values()))
        return ask, way


SHORT = Profile("short", {asks.SHORT: 1}, {"call": 1})
MIXED = Profile("mixed", {asks.SHORT: 2, asks.WIDE: 4, asks.TEXTS: 1}, {"call": 3, "bulk": 1})
STREAMS = Profile("streams", {asks.SHORT: 2, asks.WIDE: 1, asks.LONG: 1, asks.PROMPTS: 2}, {"stream": 1})
GENERATE = Profile("generate", {asks.PROMPTS: 3, asks.LONG_PROMPTS: 1}, {"stream": 1})
READING = Profile("reading", {asks.READINGS: 1}, {"call": 1})
BULK = Profile("bulk", {asks.SHORT: 4, asks.WIDE: 1, asks.LONG: 1}, {"bulk": 1})
DAY = Profile(
    "day",
    {asks.SHORT: 6, asks.WIDE: 3, asks.LONG: 1, asks.TEXTS: 1, asks.PROMPTS: 2, asks.READINGS: 3},
    {"call": 3, "stream": 2, "bulk": 2},
)
PROFILES = (SHORT, MIXED, STREAMS, GENERATE, READING, BULK, DAY)
