"""Samples and measurements with what a test is about filled in, and all else as nothing."""

from __future__ import annotations

from dragoman.load.measurement import Measurement, Mode, Objectives
from dragoman.load.percentiles import Summary
from dragoman.load.result import LoadResult, Served


def summary(ms: float) -> Summary:
    """One time, many times over."""
    return Summary(count=100, mean=ms, p50=ms, p95=ms, p99=ms, largest=ms)


def point(  # noqa: PLR0917
    offered: float,
    throughput: float,
    ms: float | None = 10.0,
    mode: Mode = "closed",
    kept: float = 1.0,
    tokens: float = 0.0,
) -> Measurement:
    """A measurement."""
    return Measurement(
        mode=mode,
        offered=offered,
        seconds=10.0,
        requests=100,
        throughput=throughput,
        tokens=tokens,
        goodput=kept * throughput,
        kept=kept,
        faults={},
        compared=100,
        wrong=0,
        latency=None if ms is None else summary(ms),
        first_token=None,
        token_time=None,
        gap=None,
        late=summary(0.5),
        kinds={},
    )


def result(*points: Measurement, objectives: Objectives = Objectives(latency_ms=50.0)) -> LoadResult:  # noqa: B008  (frozen)
    """A result with these points."""
    return LoadResult(
        measured_at="2026-01-02T03:04:05Z",
        workload="mixed",
        description="sentences",
        models=[Served("deu-eng", "1", "int8", 2, 128)],
        seed=1,
        different=7,
        connections=4,
        timeout=30.0,
        warm_up=2.0,
        objectives=objectives,
        price_per_hour=0.36,
        alone=summary(5.0),
        points=points,
    )
