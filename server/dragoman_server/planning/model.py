"""What a rate of requests comes to: latency, throughput and use of the machine, by simulation from a profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.planning.profile import Pilot, Profile
from dragoman_server.planning.simulation import Trace, closed_loop, open_loop
from dragoman_server.planning.workload import Workload

REQUESTS = 10_000
"""Simulated for a prediction: a hundred of them lie beyond the 99th percentile."""
_WARM_UP = 0.1
"""Share of the requests that come before those that count."""
_TURNS = 12
"""Of each caller, to find the capacity."""
_ANSWERED = 0.95
"""Of the requests that come, at the least; a few are under way when the last one comes."""
_BUSIEST = 99.9
"""Percentile of a lane's rows that is given as their peak."""


@dataclass(frozen=True)
class Prediction:
    """Of all replicas together; latency from when a caller asks until it has the answer."""

    rate: float
    """Requests that come in a second."""
    replicas: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    throughput: float
    """Requests that are answered in a second."""
    utilisation: float
    """Share of the time of the servers' cores that is used, by callers of the same machine too."""
    lane_utilisation: float
    """Share of the time that a lane is at work."""
    rows: float
    """Of a lane at work, on average."""
    peak_rows: int
    """What a lane's rows exceed in one step of a thousand."""
    queue_ms: float
    """Mean wait for a row."""
    present: float
    """Requests that are under way at one time, on average."""
    refused: float
    """Share of the requests that found the queue full."""

    @property
    def overloaded(self) -> bool:
        """Whether more comes than is answered: latencies grow for as long as it does, or as the queue's bound lets."""
        return bool(self.refused) or self.throughput < _ANSWERED * self.rate


def predict(
    profile: Profile, workload: Workload, rate: float, *, replicas: int = 1, requests: int = REQUESTS, seed: int = 1
) -> Prediction:
    """What ``rate`` requests in a second come to, shared evenly by replicas that have a machine each.

    Arrivals are a Poisson process. The same arguments give the same prediction. Raises InvalidArgument.
    """
    faults = []
    if not (isfinite(rate) and rate > 0):
        faults.append(Violation("rate", str(rate), "more than 0 requests in a second"))
    if replicas < 1:
        faults.append(Violation("replicas", str(replicas), "at least 1"))
    if requests < 1:
        faults.append(Violation("requests", str(requests), "at least 1"))
    if faults:
        raise InvalidArgument(faults)
    trace = open_loop(profile, workload, rate / replicas, requests, seed)
    return _stretched(_summary(trace, profile, rate, replicas), profile)


def capacity(profile: Profile, workload: Workload, *, seed: int = 1) -> float:
    """The most requests that one replica answers in a second, while there is somebody for every row."""
    callers = profile.lanes * profile.max_rows
    return closed_loop(profile, workload, callers, _TURNS * callers, seed).sustained


def _summary(trace: Trace, profile: Profile, rate: float, replicas: int) -> Prediction:
    first = int(len(trace.arrived) * _WARM_UP)
    answered = np.isfinite(trace.answered[first:])
    latencies = (trace.answered - trace.arrived)[first:][answered] * 1e3
    queued = (trace.joined - trace.arrived)[first:][answered] * 1e3
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
    # While requests come: afterwards the last ones are only emptied out.
    came = trace.arrived[-1] - trace.arrived[first]
    meanwhile = (trace.answered >= trace.arrived[first]) & (trace.answered <= trace.arrived[-1])
    throughput = float(np.count_nonzero(meanwhile) / came) if came > 0 else 0.0
    return Prediction(
        rate=rate,
        replicas=replicas,
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        mean_ms=float(latencies.mean()),
        throughput=throughput * replicas,
        utilisation=trace.core_seconds / (trace.end * profile.cores),
        lane_utilisation=trace.lane_seconds / (trace.end * profile.lanes),
        rows=trace.row_steps / trace.steps,
        peak_rows=int(np.ceil(np.percentile(trace.lane_rows, _BUSIEST))),
        queue_ms=float(queued.mean()),
        present=trace.present_seconds / trace.end * replicas,
        refused=trace.refused / len(trace.arrived),
    )


def _stretched(prediction: Prediction, profile: Profile) -> Prediction:
    """With latencies as a server has them, where the profile knows; those of percentiles keep their order.

    Where the server is overloaded, the queue's length and the throughput are the latency: there is nothing to stretch.
    """
    if not profile.pilots or prediction.overloaded:
        return prediction
    used = [pilot.utilisation for pilot in profile.pilots]
    by = {
        name: float(np.interp(prediction.utilisation, used, [getattr(pilot, name) for pilot in profile.pilots]))
        for name in Pilot._fields[1:]
    }
    p50 = prediction.p50_ms * by["p50"]
    p95 = max(p50, prediction.p95_ms * by["p95"])
    p99 = max(p95, prediction.p99_ms * by["p99"])
    return replace(prediction, p50_ms=p50, p95_ms=p95, p99_ms=p99, mean_ms=prediction.mean_ms * by["mean"])
