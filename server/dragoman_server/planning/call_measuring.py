"""What a call costs beside the lanes: found by asking which costs make the simulation agree with a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np

from dragoman_server.planning.calling import Called, closed_loop
from dragoman_server.planning.profile import Profile
from dragoman_server.planning.simulation import Trace
from dragoman_server.planning.simulation import closed_loop as simulate
from dragoman_server.planning.subject import Subject
from dragoman_server.planning.workload import Workload

FEW, CALLERS = 4, 128
"""That keep the cores busy, and that keep rows and event loop as full as they are at the most."""
_WARM_UP = 20
_SIMULATED = 1000
_ROUNDS, _TURNS = 9, 2
_MOST_SECONDS, _LONGEST_WAKE = 1.0, 0.02
"""Of a call beside the lanes, and of a wait for a core."""


@dataclass(frozen=True)
class CallSeconds:
    """See ``Profile``."""

    alone: float
    busy: float
    wake: float
    caller: float


def measure_calls(address: str, subject: Subject, profile: Profile, *, seconds: float) -> CallSeconds:
    """One caller for so long, then ``FEW``, then ``CALLERS``; ``profile`` says what the lanes take.

    What one caller waits beyond the lanes' time is the cost of a call that finds the server asleep; what a call costs
    a busy server is what makes the simulated callers get as many answers as the real ones; and how long a thread that
    wakes up waits for a core is what makes few of them wait as long.
    """
    one, few, many = (asyncio.run(_called(address, subject, callers, seconds)) for callers in (1, FEW, CALLERS))
    caller = many.cpu_seconds / len(many.latencies)
    lengths = Workload(profile.lengths, caller)

    return fitted(
        profile,
        lengths,
        alone=float(np.median(one.latencies)),
        few=float(np.median(few.latencies)),
        throughput=many.throughput,
    )


def fitted(profile: Profile, lengths: Workload, *, alone: float, few: float, throughput: float) -> CallSeconds:
    """What calls cost, from the median latencies of one caller and of ``FEW``, and the answers/s of ``CALLERS``."""
    # One caller's call meets nobody: what it costs is what is left.
    cost = max(0.0, alone - _median(simulate(profile, lengths, 1, _SIMULATED, 1)))

    def simulated(callers: int, busy: float, wake: float) -> Trace:
        costs = {"call_alone": cost, "call_busy": busy, "wake": wake}
        return simulate(profile.model_copy(update=costs), lengths, callers, max(_SIMULATED, 12 * callers), 1)

    def gap(busy: float, wake: float) -> float:
        return 1 / simulated(CALLERS, busy, wake).sustained

    def wait(busy: float, wake: float) -> float:
        return _median(simulated(FEW, busy, wake))

    wake = busy = 0.0
    for _ in range(_TURNS):  # each depends little on the other
        busy = _solve(partial(gap, wake=wake), 1 / throughput, _MOST_SECONDS)
        wake = _solve(partial(wait, busy), few, _LONGEST_WAKE)
    return CallSeconds(cost, busy, wake, lengths.caller)


def _median(trace: Trace) -> float:
    return float(np.nanmedian(trace.answered - trace.arrived))


async def _called(address: str, subject: Subject, callers: int, seconds: float) -> Called:
    warm_up = _WARM_UP * ceil(callers / 4)
    return await closed_loop(address, subject.calls, callers=callers, seconds=seconds, warm_up=warm_up)


def _solve(seconds_at: Callable[[float], float], wanted: float, most: float) -> float:
    """The cost at which what grows with it is as wanted, by bisection; 0 where nothing is left for it."""
    low, high = 0.0, min(most, wanted)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if seconds_at(middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
