"""The same prediction by a formula: one shared server whose speed grows with the requests that are in it.

Continuous batching serves all requests at one time, each the more slowly the more there are. That is generalised
processor sharing: with n requests in the system, all of them together are served at the rate mu(n). With Poisson
arrivals the number of requests then has the distribution

    p(n) = p(0) * product over k = 1 .. n of rate / mu(k)

whatever the distribution of their lengths, if only its mean is right, and a request of twice the length takes twice as
long on average (J. W. Cohen, The multiple phase service network with generalized processor sharing, Acta Informatica
12, 1979; F. P. Kelly, Reversibility and Stochastic Networks, 1979, section 3.3). Little's law gives the mean latency.

What it leaves out is why there is a simulation: that requests join between two steps only, that groups are encoded
together, and how latencies scatter about the mean of their length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dragoman_server.planning.profile import Profile
from dragoman_server.planning.workload import Workload

_ENDLESS = 1e-12
"""What is left out of the distribution's tail."""


@dataclass(frozen=True)
class Estimate:
    """Of one server."""

    mean_ms: float
    p50_ms: float
    p99_ms: float
    """Quantiles of the lengths, each as slow as requests are on average: too low, since slowness varies too."""
    present: float
    """Requests that are in the system, on average."""
    capacity: float
    """Most requests in a second, however many are waiting."""
    refused: float
    """Share of the requests that find the queue full."""


def estimate(profile: Profile, workload: Workload, rate: float) -> Estimate:
    """At ``rate`` requests in a second, more than 0."""
    places = profile.lanes * profile.max_rows + profile.max_waiting
    speeds = np.array([_speed(profile, workload, n) for n in range(1, profile.lanes * profile.max_rows + 1)])
    capacity = float(speeds.max())
    speeds = np.concatenate([speeds, np.full(places - len(speeds), speeds[-1])])
    # In logarithms: the product grows beyond all bounds where the rate exceeds the capacity.
    logs = np.concatenate([[0.0], np.cumsum(np.log(rate / speeds))])
    shares = np.exp(logs - logs.max())
    shares[shares < _ENDLESS] = 0.0
    shares /= shares.sum()
    present = float(shares @ np.arange(places + 1))
    refused = float(shares[-1])
    mean = present / (rate * (1 - refused))
    # A call costs the same whatever its length; only what the lanes do grows with it.
    calls = profile.call_alone + workload.caller
    alone = np.array([_lane_seconds(profile, source, steps, 1) for source, steps in workload.lengths])
    slowness = max(1.0, (mean - calls) / float(alone.mean()))
    p50, p99 = np.percentile(alone * slowness + calls, [50, 99]) * 1e3
    return Estimate(mean * 1e3, float(p50), float(p99), present, capacity, refused)


def _speed(profile: Profile, workload: Workload, present: int) -> float:
    """mu(n): answers in a second while so many requests are in the system."""
    rows = -(-present // profile.lanes)
    lanes = min(present, profile.lanes)
    source, steps = workload.mean_source, workload.mean_steps
    lane = _lane_seconds(profile, source, steps, rows)
    calls = (profile.call_alone if present == 1 else profile.call_busy) + workload.caller
    # One after the other for a request; and all together no more than the cores can do.
    own = present / (lane + calls)
    work = lane / rows * (1.0 if lanes > 1 else 1 / profile.crowding) + calls
    return min(own, profile.cores / work)


def _lane_seconds(profile: Profile, source: float, steps: float, rows: int) -> float:
    """Of a request in a lane with so many rows: those that join meanwhile are encoded while it waits."""
    if profile.family == "understanding":
        return profile.encoding.at(source * rows)
    return steps * profile.step_seconds(rows) + rows * profile.encoding.at(source)
