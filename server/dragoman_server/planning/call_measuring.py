"""What a call costs beside the lanes: found by asking which costs make the simulation agree with a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np

from dragoman_server.planning.calling import Called, closed_loop
from dragoman_server.planning.profile import Profile
from dragoman_server.planning.simulation import closed_loop as simulate
from dragoman_server.planning.subject import Subject
from dragoman_server.planning.workload import Workload

CALLERS = 32
"""That keep the server busy."""
_WARM_UP = 20
_SIMULATED = 1000
_ROUNDS = 9
_MOST_SECONDS = 1.0
"""Of a call beside the lanes."""


@dataclass(frozen=True)
class CallSeconds:
    """See ``Profile``."""

    alone: float
    busy: float
    caller: float


def measure_calls(address: str, subject: Subject, profile: Profile, *, seconds: float) -> CallSeconds:
    """One caller for so long, then ``CALLERS``; ``profile`` says what the lanes take.

    What one caller waits beyond the lanes' time is the cost of a call that finds the server asleep; what a call costs
    a busy server is what makes the simulated callers get as many answers as the real ones.
    """
    one = asyncio.run(_called(address, subject, 1, seconds))
    many = asyncio.run(_called(address, subject, CALLERS, seconds))
    caller = many.cpu_seconds / len(many.latencies)
    lengths = Workload(profile.lengths, caller)

    # One caller's call meets nobody: what it costs is what is left.
    without = simulate(profile, lengths, 1, _SIMULATED, 1)
    alone = max(0.0, float(np.median(one.latencies)) - float(np.median(without.answered - without.arrived)))

    def many_take(busy: float) -> float:
        costs = {"call_alone": alone, "call_busy": busy}
        return 1 / simulate(profile.model_copy(update=costs), lengths, CALLERS, _SIMULATED, 1).sustained

    return CallSeconds(alone, _solve(many_take, 1 / many.throughput), caller)


async def _called(address: str, subject: Subject, callers: int, seconds: float) -> Called:
    warm_up = _WARM_UP * ceil(callers / 4)
    return await closed_loop(address, subject.calls, callers=callers, seconds=seconds, warm_up=warm_up)


def _solve(seconds_at: Callable[[float], float], wanted: float) -> float:
    """The cost at which what grows with it is as wanted, by bisection; 0 where nothing is left for it."""
    low, high = 0.0, min(_MOST_SECONDS, wanted)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if seconds_at(middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
