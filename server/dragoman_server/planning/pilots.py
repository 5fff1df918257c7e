"""What the simulation leaves out, such as waits for the interpreter's lock: measured at a few rates.

A pilot is a real server under a Poisson process. How much longer its requests take than the simulated ones at the same
rate, percentile by percentile, is what predictions are stretched by, at the same use of the cores.
"""

from __future__ import annotations

import asyncio

import numpy as np

from dragoman_server.planning.calling import Called, Floats, open_loop
from dragoman_server.planning.model import Prediction, capacity, predict
from dragoman_server.planning.profile import Pilot, Profile
from dragoman_server.planning.subject import Subject
from dragoman_server.planning.workload import Workload

_SHARES = (0.2, 0.45, 0.7, 0.9)
"""Of the rate that the simulation takes for the most."""
_WARM_UP = 0.2
"""Share of the calls that come before those that count."""
_LEAST = 20
"""Calls of a pilot."""
_SEED = 9000
_MOST = 10.0
"""A longer stretch is an accident, or a queue that only grows."""


def measure_pilots(address: str, subject: Subject, profile: Profile, *, seconds: float) -> tuple[Pilot, ...]:
    """One for each of a few rates, for so many seconds each; ``profile`` is otherwise complete.

    Raises grpc.aio.AioRpcError where a call fails.
    """
    workload = Workload.measured(profile, local=True)
    bare = profile.model_copy(update={"pilots": ()})
    most = capacity(bare, workload)
    pilots = []
    for number, share in enumerate(_SHARES):
        rate = share * most
        called = asyncio.run(at_random(address, subject, rate, seconds, seed=_SEED + number))
        pilots.append(_pilot(called, predict(bare, workload, rate)))
    return tuple(pilots)


async def at_random(address: str, subject: Subject, rate: float, seconds: float, seed: int) -> Called:
    """A Poisson process of texts that are drawn at random, by a caller on the same machine; ``_LEAST`` at the least."""
    chance = np.random.default_rng(seed)
    count = max(_LEAST, int(rate * seconds))
    due: Floats = np.cumsum(chance.exponential(1 / rate, count))
    calls = [subject.calls[place] for place in chance.integers(0, len(subject.calls), count)]
    return await open_loop(address, calls, due)


def _pilot(called: Called, simulated: Prediction) -> Pilot:
    latencies = called.latencies[int(len(called.latencies) * _WARM_UP) :]
    latencies = latencies[np.isfinite(latencies)] * 1e3
    if not len(latencies):
        return Pilot(simulated.utilisation, 1.0, 1.0, 1.0, 1.0)
    real = [*np.percentile(latencies, [50, 95, 99]), latencies.mean()]
    thought = [simulated.p50_ms, simulated.p95_ms, simulated.p99_ms, simulated.mean_ms]
    ratios = [min(_MOST, max(1 / _MOST, float(one / other))) for one, other in zip(real, thought, strict=True)]
    return Pilot(simulated.utilisation, *ratios)
