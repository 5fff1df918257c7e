"""A load test's result as tables: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dragoman.load.knee import capacity, knee, sustained
from dragoman.load.measurement import SHARE, Measurement
from dragoman.load.percentiles import Summary
from dragoman.load.result import LoadResult

Rows = list[list[str]]
"""Cells as text; the first row has the columns' names."""


def table(result: LoadResult) -> Rows:
    """One row for each point; columns that would be empty are left out."""
    rows = [_row(result, point) for point in result.points]
    names = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    return [names, *([row[name] for name in names] for row in rows)]


def streams(result: LoadResult) -> Rows:
    """TTFT, TPOT and ITL of each point; empty where nothing was streamed."""
    points = [point for point in result.points if point.first_token is not None]
    if not points:
        return []
    head = ["load", *(f"{name} {share}, ms" for name in ("TTFT", "TPOT", "ITL") for share in ("p50", "p95", "p99"))]
    return [
        head,
        *([p.load, *_three(p.first_token), *_three(p.token_time), *_three(p.gap)] for p in points),
    ]


def kinds(result: LoadResult) -> Rows:
    """p50 and p99 of each kind of request at each point; empty for a workload of one kind."""
    names = sorted({kind for point in result.points for kind in point.kinds})
    if len(names) < 2:
        return []
    return [["load", *names], *([p.load, *(_both(p.kinds.get(name)) for name in names)] for p in result.points)]


def findings(result: LoadResult) -> list[str]:
    """What the points say together, a sentence each."""
    found = [f"Alone, one after the other: p50 {result.alone.p50:.1f} ms, p99 {result.alone.p99:.1f} ms."]
    most, best, held = capacity(result.points), knee(result.points), sustained(result.points)
    if most is not None:
        found.append(f"Capacity, the largest throughput of the closed loops: {most:.1f} requests/s.")
    if best is not None and best.latency is not None:
        found.append(
            f"Knee, where throughput divided by mean latency is largest: {best.load}, "
            f"{best.throughput:.1f} requests/s at a p99 of {best.latency.p99:.1f} ms."
        )
    if any(point.mode == "open" for point in result.points):
        limit = "Highest rate up to which " + _objectives(result)
        found.append(f"{limit}: " + (f"{held.offered:.1f} arrivals/s." if held is not None else "none of these."))
    paying = max(result.points, key=lambda point: point.tokens, default=None)
    cost = None if paying is None else result.cost(paying)
    if cost is not None:
        found.append(
            f"A million tokens cost {cost:.3g} at the largest throughput, on a machine of {result.price_per_hour:g} "
            "an hour."
        )
    busy = {
        name: max((p.processors.get(name, 0.0) for p in result.points), default=0.0) for name in ("generator", "server")
    }
    told = [f"the {name} at most {cores:.2f}" for name, cores in busy.items() if cores]
    found += [f"Cores kept busy: {', '.join(told)}."] if told else []
    wrong, compared = (sum(getattr(point, name) for point in result.points) for name in ("wrong", "compared"))
    found.append(f"Answers that differ from the request's own alone: {wrong} of {compared}.")
    return found


def settings(result: LoadResult) -> str:
    """What was measured and how, in one paragraph."""
    served = ", ".join(f"{m.name} {m.version} ({m.precision}, {m.lanes} x {m.max_rows} rows)" for m in result.models)
    seconds = result.points[0].seconds if result.points else 0.0
    return (
        f"Workload {result.workload}: {result.description}; {result.different} different requests, seed {result.seed}. "
        f"{seconds:g} s each after a warm-up of {result.warm_up:g} s, over {result.connections} connections; an answer "
        f"may take {result.timeout:g} s. Models: {served}. {result.measured_at}."
    )


def markdown(result: LoadResult, *, title: str | None = None) -> str:
    """The whole result as a section, headed by ``title`` or else the workload's name."""
    parts = [f"## {title or result.workload}", settings(result), "\n".join(f"- {line}" for line in findings(result))]
    parts += [markdown_table(rows) for rows in (table(result), streams(result), kinds(result)) if rows]
    return "\n\n".join(parts) + "\n"


def markdown_table(rows: Rows) -> str:
    """The rows between bars."""
    head, *body = rows
    return "\n".join(_bars(row) for row in (head, ["---"] * len(head), *body))


def _bars(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _row(result: LoadResult, point: Measurement) -> dict[str, str]:
    latency, late, forecast = _three(point.latency), point.late, point.forecast
    cost = result.cost(point)
    foretold = [""] * 4
    if forecast is not None:
        times = (forecast.p50_ms, forecast.p99_ms)
        foretold = [f"{forecast.throughput:.1f}", *(f"{time:.1f}" for time in times), f"{forecast.utilisation:.0%}"]
    return {
        "load": point.load,
        "requests/s": f"{point.throughput:.1f}",
        "tokens/s": f"{point.tokens:,.0f}",
        "goodput/s": f"{point.goodput:.1f}",
        "in time": f"{point.kept:.1%}",
        "failed": ", ".join(f"{count} {kind}" for kind, count in point.faults.items()) or "0",
        "p50, ms": latency[0],
        "p95, ms": latency[1],
        "p99, ms": latency[2],
        "late p99, ms": f"{late.p99:.1f}" if late is not None and point.mode == "open" else "",
        "foretold requests/s": foretold[0],
        "foretold p50, ms": foretold[1],
        "foretold p99, ms": foretold[2],
        "foretold use": foretold[3],
        "cost of 1M tokens": "" if cost is None else f"{cost:.3g}",
        "server's cores": _cores(point, "server"),
        "generator's cores": _cores(point, "generator"),
    }


def _cores(point: Measurement, name: str) -> str:
    return f"{point.processors[name]:.2f}" if name in point.processors else ""


def _three(summary: Summary | None) -> Sequence[str]:
    return ["", "", ""] if summary is None else [f"{value:.1f}" for value in (summary.p50, summary.p95, summary.p99)]


def _both(summary: Summary | None) -> str:
    return "" if summary is None else f"{summary.p50:.1f} / {summary.p99:.1f}"


def _objectives(result: LoadResult) -> str:
    goals = result.objectives
    limits = {"answer": goals.latency_ms, "first token": goals.first_token_ms, "token": goals.token_ms}
    stated = [f"{name} within {limit:g} ms" for name, limit in limits.items() if limit is not None]
    return f"{SHARE:.0%} are right" + "".join(f", {text}" for text in stated)
