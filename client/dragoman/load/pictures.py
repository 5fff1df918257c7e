"""A load test's result as a picture: throughput and latency against the load. Needs ``dragoman[plot]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dragoman.load.knee import capacity, knee
from dragoman.load.measurement import Measurement
from dragoman.load.result import LoadResult

# Okabe and Ito's palette, which everybody can tell apart.
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"


def write_picture(result: LoadResult, path: Path) -> None:
    """Write a PNG of a row for the closed loops and one for the open ones. ModuleNotFoundError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (an extra, and slow)
    from matplotlib.figure import Figure  # noqa: PLC0415

    closed = [point for point in result.points if point.mode == "closed"]
    opened = sorted((point for point in result.points if point.mode == "open"), key=lambda point: point.offered)
    rows = [points for points in (closed, opened) if points]
    figure = Figure(figsize=(11, 0.4 + 3.9 * max(1, len(rows))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{result.workload}: {result.description}", x=0.01, ha="left", fontsize=11)
    axes = figure.subplots(max(1, len(rows)), 2, squeeze=False)
    for (left, right), points in zip(axes, rows, strict=False):
        _throughput(left, points)
        _latency(right, points, result)
    figure.savefig(path, format="png", dpi=120)


def _throughput(axes: Any, points: Sequence[Measurement]) -> None:
    loads = _axis(axes, points)
    axes.plot(loads, [p.throughput for p in points], "o-", color=_BLUE, label="right answers")
    axes.plot(loads, [p.goodput for p in points], "s--", color=_GREEN, label="in time (goodput)")
    if points[0].mode == "open":
        axes.plot(loads, loads, ":", color="grey", label="offered")
        foretold = [p for p in points if p.forecast is not None]
        if foretold:
            values = [p.forecast.throughput for p in foretold if p.forecast is not None]
            axes.plot([p.offered for p in foretold], values, "x-.", color=_PURPLE, label="foretold")
    else:
        most, best = capacity(points), knee(points)
        if most is not None:
            axes.axhline(most, color="grey", linestyle=":", label="capacity")
        if best is not None:
            axes.axvline(best.offered, color=_ORANGE, linestyle=":", label="knee")
    axes.set_ylabel("requests a second")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def _latency(axes: Any, points: Sequence[Measurement], result: LoadResult) -> None:
    _axis(axes, points)
    for name, colour, style in (("p50", _BLUE, "o-"), ("p95", _ORANGE, "s-"), ("p99", _GREEN, "^-")):
        _line(axes, [(p.offered, getattr(p.latency, name, None)) for p in points], style, colour, name)
        foretold = [(p.offered, getattr(p.forecast, f"{name}_ms", None)) for p in points]
        _line(axes, foretold, "x-.", colour, f"{name}, foretold")
    limit = result.objectives.latency_ms
    if limit is not None:
        axes.axhline(limit, color="grey", linestyle=":", label="objective")
    axes.set_yscale("log")
    axes.set_ylabel("latency, ms")
    axes.legend(frameon=False, fontsize=8)


def _line(axes: Any, places: Sequence[tuple[float, float | None]], style: str, colour: str, label: str) -> None:
    known = [place for place in places if place[1] is not None]
    if known:
        axes.plot(*zip(*known, strict=True), style, color=colour, label=label)


def _axis(axes: Any, points: Sequence[Measurement]) -> list[float]:
    loads = [point.offered for point in points]
    if points[0].mode == "closed":
        axes.set_xscale("log", base=2)
        axes.set_xticks(loads, [f"{load:g}" for load in loads])
        axes.set_xlabel("users, each with one request under way")
    else:
        axes.set_xlabel("arrivals a second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return loads
