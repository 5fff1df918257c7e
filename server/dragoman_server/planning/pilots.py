"""What the simulation leaves out, such as waits for the interpreter's lock: measured at a few rates.

A pilot is a real server under a Poisson process. How much longer its requests take than the simulated ones at the same
rate, percentile by percentile, is what predictions are stretched by, at the same use of the cores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dragoman_server.planning.calling import Called, Floats, open_loop
from dragoman_server.planning.model import Prediction, capacity, predict
from dragoman_server.planning.profile import Pilot, Profile
from dragoman_server.planning.subject import Subject
from dragoman_server.planning.workload import Workload

_SHARES = (0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9)
"""Of the rate that the simulation takes for the most."""
RUNS = len(_SHARES)
"""Of a round."""
_WARM_UP = 0.2
"""Share of the calls that come before those that count."""
_LEAST = 20
"""Calls of a pilot."""
_SEED = 9000
_MOST = 10.0
"""A longer stretch is an accident, or a queue that only grows."""


class Pilots:
    """One for each of a few rates of a server at ``address``; ``profile`` is otherwise complete."""

    def __init__(self, address: str, subject: Subject, profile: Profile) -> None:
        self._address, self._subject = address, subject
        self._bare = profile.model_copy(update={"pilots": ()})
        self._workload = Workload.measured(profile, local=True)
        most = capacity(self._bare, self._workload)
        self._rounds: list[tuple[float, list[Called]]] = [(share * most, []) for share in _SHARES]
        self._runs = 0

    def round(self, seconds: float, done: Callable[[int], None] = lambda _: None) -> None:
        """Each rate once, for so many seconds; ``done`` is told of each. Raises grpc.aio.AioRpcError."""
        for rate, found in self._rounds:
            found.append(asyncio.run(at_random(self._address, self._subject, rate, seconds, _SEED + self._runs)))
            self._runs += 1
            done(1)

    def found(self) -> tuple[Pilot, ...]:
        """Of all rounds the median: a machine that is held up for a moment spoils one. There was at least one."""
        return ascending(_pilot(found, predict(self._bare, self._workload, rate)) for rate, found in self._rounds)


def ascending(pilots: Iterable[Pilot]) -> tuple[Pilot, ...]:
    """Those whose utilisation is not above the one before become one with it, their mean: so it always ascends.

    Two rates may use the same share of the cores where calls are that share, or where both are more than can be done.
    Pool adjacent violators (Ayer et al. 1955).
    """
    pools: list[list[Pilot]] = []
    for pilot in pilots:
        pools.append([pilot])
        while len(pools) > 1 and _mean(pools[-2]).utilisation >= _mean(pools[-1]).utilisation:
            last = pools.pop()
            pools[-1].extend(last)
    return tuple(_mean(pool) for pool in pools)


def _mean(pool: Sequence[Pilot]) -> Pilot:
    return Pilot(*np.mean(pool, axis=0).tolist())


async def at_random(address: str, subject: Subject, rate: float, seconds: float, seed: int) -> Called:
    """A Poisson process of texts that are drawn at random, by a caller on the same machine; ``_LEAST`` at the least."""
    chance = np.random.default_rng(seed)
    count = max(_LEAST, int(rate * seconds))
    due: Floats = np.cumsum(chance.exponential(1 / rate, count))
    calls = [subject.calls[place] for place in chance.integers(0, len(subject.calls), count)]
    return await open_loop(address, calls, due)


def _pilot(rounds: Sequence[Called], simulated: Prediction) -> Pilot:
    thought = np.array([simulated.p50_ms, simulated.p95_ms, simulated.p99_ms, simulated.mean_ms])
    measured = [figures for called in rounds if (figures := _figures(called)) is not None]
    if not measured:
        return Pilot(simulated.utilisation, 1.0, 1.0, 1.0, 1.0)
    ratios = np.clip(np.median(measured, axis=0) / thought, 1 / _MOST, _MOST)
    return Pilot(simulated.utilisation, *ratios.tolist())


def _figures(called: Called) -> Floats | None:
    """Milliseconds: p50, p95, p99 and mean; None where nothing was answered."""
    latencies = called.latencies[int(len(called.latencies) * _WARM_UP) :]
    latencies = latencies[np.isfinite(latencies)] * 1e3
    if not len(latencies):
        return None
    return np.array([*np.percentile(latencies, [50, 95, 99]), latencies.mean()])
