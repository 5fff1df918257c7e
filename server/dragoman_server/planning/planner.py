"""How many replicas of how many lanes and rows answer a rate within a latency: the model's inverse, by search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil

from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.planning.model import Prediction, capacity, predict
from dragoman_server.planning.profile import Profile
from dragoman_server.planning.workload import Workload
from dragoman_server.rows import row_buckets

MOST_REPLICAS = 100_000
_SELDOM = 1e-3
"""Requests in a second that hardly ever meet."""
_TOLERANCE = 0.02
_MOST_LOAD = 0.95
"""Of the capacity: closer to it the queue grows for longer than is simulated."""
REQUESTS = 6000
"""Simulated for each of the configurations that are tried."""
_MIB = 1 << 20


class Unmeetable(Exception):
    """No number of replicas meets the target; the message says what could be met."""


@dataclass(frozen=True)
class Target:
    """What is asked for."""

    rate: float
    """Requests in a second, for all replicas together."""
    p99_ms: float
    memory_limit: int | None = None
    """Bytes of one replica's process."""

    def __post_init__(self) -> None:
        given = {"rate": self.rate, "p99": self.p99_ms, "memory_limit": self.memory_limit}
        faults = [
            Violation(name, str(value), "more than 0, finite")
            for name, value in given.items()
            if value is not None and not 0 < value < float("inf")
        ]
        if faults:
            raise InvalidArgument(faults)


@dataclass(frozen=True)
class Plan:
    """What answers the target's rate within its latency, by the model."""

    replicas: int
    lanes: int
    max_rows: int
    memory: int
    """Bytes of one replica."""
    prediction: Prediction
    capacity: float
    """Requests in a second at which all these replicas together still meet the target."""
    floor_ms: float
    """The 99th percentile of requests that have a replica to themselves."""

    @property
    def headroom(self) -> float:
        """By which share the rate may grow."""
        return self.capacity / self.prediction.rate - 1


def plan(profile: Profile, workload: Workload, target: Target, *, requests: int = REQUESTS, seed: int = 1) -> Plan:
    """The fewest replicas, then the fewest rows. Raises Unmeetable, and InvalidArgument.

    Where memory is limited, lanes and rows are fewer; then the shape is taken that needs the fewest replicas.
    """
    plans = []
    floors = []
    for shape in _shapes(profile, target):
        search = _Search(shape, workload, target, partial(predict, requests=requests, seed=seed))
        floors.append(search.floor_ms)
        if search.floor_ms <= target.p99_ms:
            plans.append(search.plan())
    if not plans:
        floor = min(floors)
        raise Unmeetable(
            f"p99 = {target.p99_ms:g} ms: {floor:.1f} ms at the least, which requests take that have a server "
            "to themselves"
        )
    return min(plans, key=lambda found: (found.replicas, found.memory))


def _shapes(profile: Profile, target: Target) -> list[Profile]:
    """The profile as it was measured where it fits the memory, else with as many rows as fit, for any lanes."""
    limit, memory = target.memory_limit, profile.memory
    if limit is None or memory.total(profile.lanes, profile.max_rows) <= limit:
        return [profile]
    shapes = []
    for lanes in range(profile.lanes, 0, -1):
        room = limit - memory.total(lanes, 0)
        rows = profile.max_rows if not memory.row else min(profile.max_rows, room // (lanes * memory.row))
        if room >= 0 and rows >= 1:
            shapes.append(profile.with_shape(lanes, rows))
    if not shapes:
        least = memory.total(1, 1) / _MIB
        raise Unmeetable(f"memory limit = {limit / _MIB:.0f} MiB: one lane of one row takes {least:.0f} MiB")
    return shapes


class _Search:
    """For one shape of a replica."""

    def __init__(
        self, profile: Profile, workload: Workload, target: Target, predict: Callable[..., Prediction]
    ) -> None:
        self._profile, self._workload, self._target = profile, workload, target
        self._of = predict
        self._most = _MOST_LOAD * capacity(profile, workload)
        self.floor_ms = self._at(_SELDOM).p99_ms

    def plan(self) -> Plan:
        """The target is above the floor."""
        most = self._most_rate()
        replicas = max(1, ceil(self._target.rate / most))
        # The search ends a little early: one more or one fewer may be right.
        while not self._meets(replicas):
            replicas += 1
            if replicas > MOST_REPLICAS:
                raise Unmeetable(f"rate = {self._target.rate:g}: more than {MOST_REPLICAS} replicas")
        while replicas > 1 and self._meets(replicas - 1):
            replicas -= 1
        shape, prediction = self._fewest_rows(replicas)
        return Plan(
            replicas=replicas,
            lanes=shape.lanes,
            max_rows=shape.max_rows,
            memory=shape.memory.total(shape.lanes, shape.max_rows),
            prediction=prediction,
            capacity=max(most * replicas, self._target.rate),
            floor_ms=self.floor_ms,
        )

    def _most_rate(self) -> float:
        """Of one replica that meets the target."""
        low, high = _SELDOM, self._most
        if self._holds(self._at(high)):
            return high
        while high > low * (1 + _TOLERANCE):
            middle = (low * high) ** 0.5
            if self._holds(self._at(middle)):
                low = middle
            else:
                high = middle
        return low

    def _fewest_rows(self, replicas: int) -> tuple[Profile, Prediction]:
        """Rows beyond what is used cost memory and nothing else."""
        most = self._profile.max_rows
        whole = self._of(self._profile, self._workload, self._target.rate, replicas=replicas)
        for rows in row_buckets(most):
            if whole.peak_rows <= rows < most:
                shape = self._profile.with_shape(self._profile.lanes, rows)
                found = self._of(shape, self._workload, self._target.rate, replicas=replicas)
                if self._holds(found):
                    return shape, found
        return self._profile, whole

    def _meets(self, replicas: int) -> bool:
        rate = self._target.rate / replicas
        return rate <= self._most and self._holds(self._at(rate))

    def _holds(self, prediction: Prediction) -> bool:
        return prediction.p99_ms <= self._target.p99_ms and not prediction.refused

    def _at(self, rate: float) -> Prediction:
        """Of one replica."""
        return self._of(self._profile, self._workload, rate)
