"""Where more load stops being worth its latency, and how much load keeps the objectives."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman.load.measurement import Measurement


def power(point: Measurement) -> float:
    """Throughput divided by mean latency, in requests a second and second; 0 where nothing was answered.

    Kleinrock 1979, "Power and deterministic rules of thumb for probabilistic problems in computer communications".
    """
    return 0.0 if point.latency is None or not point.latency.mean else 1e3 * point.throughput / point.latency.mean


def knee(points: Iterable[Measurement]) -> Measurement | None:
    """Of the closed loops, the one of the greatest power: with fewer users throughput falls faster than latency, with
    more of them latency rises faster than throughput. The first of equals; None without any that was answered."""
    best = max((p for p in points if p.mode == "closed"), key=power, default=None)
    return best if best is not None and power(best) > 0 else None


def capacity(points: Iterable[Measurement]) -> float | None:
    """The largest throughput of the closed loops, in requests a second."""
    return max((p.throughput for p in points if p.mode == "closed"), default=None)


def sustained(points: Iterable[Measurement]) -> Measurement | None:
    """Of the open loops, that of the highest rate up to which all of them kept the objectives; None: not even one."""
    best = None
    for point in sorted((p for p in points if p.mode == "open"), key=lambda p: p.offered):
        if not point.holds:
            break
        best = point
    return best
