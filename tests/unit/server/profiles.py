"""Profiles of machines that nobody has: simple enough to know what must come of them."""

from __future__ import annotations

import random
from typing import Any

from dragoman_server.planning.profile import Length, Linear, Memory, Profile, StepPoint

STEP = 1e-3
MIB = 1 << 20


def one_at_a_time(lengths: tuple[Length, ...] = (Length(1, 1),), step: float = STEP) -> Profile:
    """One lane of one row, and nothing but its steps takes time: a queue with one server."""
    return Profile(
        model="single",
        family="translation",
        cores=1,
        lanes=1,
        max_rows=1,
        max_waiting=1_000_000,
        max_waiting_tokens=100_000_000,
        steps=(StepPoint(1, step),),
        encoding=Linear(0, 0),
        call_alone=0,
        call_busy=0,
        lengths=lengths,
    )


def translating(**changes: Any) -> Profile:
    """Two lanes on two cores, about as fast as a small model."""
    chance = random.Random(3)
    lengths = tuple(Length(tokens, max(2, tokens - 3)) for tokens in (chance.randint(4, 40) for _ in range(200)))
    given: dict[str, Any] = {
        "model": "translating",
        "family": "translation",
        "cores": 2,
        "lanes": 2,
        "max_rows": 64,
        "steps": tuple(StepPoint(rows, 0.0003 + 0.00005 * rows) for rows in (1, 2, 4, 8, 16, 32, 64)),
        "encoding": Linear(0.0003, 0.00001),
        "crowding": 1.1,
        "call_alone": 0.002,
        "call_busy": 0.001,
        "lengths": lengths,
        "memory": Memory(80 * MIB, 30 * MIB, MIB // 4),
    }
    return Profile(**(given | changes))


def generating() -> Profile:
    """As ``translating``, with prompts in chunks of 16 tokens."""
    return translating(model="generating", family="generation", join_tokens=16)


def reading() -> Profile:
    """As ``translating``, in passes."""
    lengths = tuple(Length(length.source, 1) for length in translating().lengths)
    return translating(model="reading", family="understanding", join_tokens=2048, steps=(), lengths=lengths)
