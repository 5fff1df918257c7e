"""Percentiles, and what is kept of many times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the ascending values lie, between neighbours linearly.

    Raises ValueError without values, and for a share outside.
    """
    if not ordered or not 0.0 <= share <= 1.0:
        raise ValueError(f"{len(ordered)} values, share = {share}: at least one value, 0 to 1")
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True, slots=True)
class Summary:
    """Many times, in milliseconds."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    largest: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Summary | None:
        """None where there are none."""
        ordered = sorted(1e3 * value for value in seconds)
        if not ordered:
            return None
        return cls(
            count=len(ordered),
            mean=fsum(ordered) / len(ordered),
            p50=percentile(ordered, 0.5),
            p95=percentile(ordered, 0.95),
            p99=percentile(ordered, 0.99),
            largest=ordered[-1],
        )
