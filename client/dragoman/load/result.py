"""The result of a load test, and its form as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dragoman.load.knee import capacity, knee, sustained
from dragoman.load.measurement import Forecast, Measurement, Objectives
from dragoman.load.percentiles import Summary

FORMAT = 1
_SUMMARIES = ("latency", "first_token", "token_time", "gap", "late")


@dataclass(frozen=True, slots=True)
class Served:
    """A model of the server."""

    name: str
    version: str
    precision: str
    lanes: int
    max_rows: int


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One workload, at all loads that were asked for."""

    measured_at: str
    """UTC, ISO 8601."""
    workload: str
    description: str
    models: Sequence[Served]
    seed: int
    different: int
    """Requests that are not the same."""
    connections: int
    timeout: float
    """Seconds: the longest wait for one answer."""
    warm_up: float
    """Seconds at the beginning of each point that do not count."""
    objectives: Objectives
    price_per_hour: float
    """Of the machine, in any currency."""
    alone: Summary
    """Latency of the requests one after the other, with nobody else there."""
    points: Sequence[Measurement]

    def cost(self, point: Measurement) -> float | None:
        """Of a million tokens at this point's pace, in the currency of the price; None where none were made."""
        return 1e6 * self.price_per_hour / (3600 * point.tokens) if point.tokens else None

    def as_json(self) -> dict[str, Any]:
        """All of it, and what follows from it."""
        best, most, held = knee(self.points), capacity(self.points), sustained(self.points)
        found = {
            "capacity": most,
            "knee_users": None if best is None else best.offered,
            "sustained_rate": None if held is None else held.offered,
            "cost_per_million_tokens": [self.cost(point) for point in self.points],
        }
        return {"format": FORMAT, **asdict(self), "found": found}


def from_json(values: Mapping[str, Any]) -> LoadResult:
    """A result as ``as_json`` wrote it; raises ValueError for another format."""
    if values.get("format") != FORMAT:
        raise ValueError(f"format = {values.get('format')!r}: {FORMAT}")
    given = {key: value for key, value in values.items() if key not in {"format", "found"}}
    given["models"] = [Served(**model) for model in given["models"]]
    given["objectives"] = Objectives(**given["objectives"])
    given["alone"] = Summary(**given["alone"])
    given["points"] = [_point(point) for point in given["points"]]
    return LoadResult(**given)


def _point(values: Mapping[str, Any]) -> Measurement:
    given = dict(values)
    for name in _SUMMARIES:
        given[name] = None if given[name] is None else Summary(**given[name])
    given["kinds"] = {kind: Summary(**summary) for kind, summary in given["kinds"].items()}
    given["forecast"] = None if given["forecast"] is None else Forecast(**given["forecast"])
    return Measurement(**given)
