"""Writes docs/benchmarks/load.md anew from load.json: the results between its markers, the prose as it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from dragoman.load.knee import capacity, knee, sustained
from dragoman.load.report import Rows, markdown, markdown_table
from dragoman.load.result import LoadResult, from_json
from tests.bench.report import with_sections
from tests.bench.results import FOLDER

PAGE = "load.md"


def main(folder: Path = FOLDER) -> None:
    """Fill the page from the JSON beside it."""
    print(write_page(folder))


def write_page(folder: Path) -> Path:
    """Fill ``load.md`` of the folder, or a copy of the project's page where there is none; returns its path."""
    page = folder / PAGE
    text = (page if page.is_file() else FOLDER / PAGE).read_text(encoding="utf-8")
    content = json.loads((folder / "load.json").read_text(encoding="utf-8"))
    page.write_text(with_sections(text, {"load": section(content)}), encoding="utf-8")
    return page


def section(content: Mapping[str, Any]) -> str:
    """All that was measured: an overview, then each workload, then the machine."""
    results = [from_json(values) for values in content["workloads"]]
    parts = ["Measured with `--quick`: a few seconds a point."] if content["quick"] else []
    parts += ["### In short", markdown_table(overview(results))]
    for result in results:
        parts.append(markdown(result).replace("## ", "### ", 1).rstrip())
        parts.append(f"![{result.workload}](load_{result.workload}.png)")
    machine, known = content["machine"], content["versions"]
    instructions = ", ".join(machine["int8_instructions"] or []) or "no int8 instructions"
    named = ", ".join(f"{name} {version}" for name, version in known.items())
    where = f"{machine['processor']}, {machine['cores']} cores ({instructions})"
    parts.append(f"{where}; {named}; {content['measured_at'][:10]}.")
    return "\n\n".join(parts) + "\n"


def overview(results: list[LoadResult]) -> Rows:
    """One row for each workload."""
    rows = [
        [
            "workload",
            "capacity, requests/s",
            "tokens/s",
            "knee, users",
            "p99 there, ms",
            "sustained, arrivals/s",
            "p50 alone, ms",
            "cost of 1M tokens",
            "wrong answers",
        ]
    ]
    for result in results:
        points = result.points
        most, best, held = capacity(points), knee(points), sustained(points)
        top = max(points, key=lambda point: point.tokens)
        cost = result.cost(top)
        rows.append(
            [
                result.workload,
                "" if most is None else f"{most:.1f}",
                f"{top.tokens:,.0f}",
                "" if best is None else f"{best.offered:g}",
                "" if best is None or best.latency is None else f"{best.latency.p99:.1f}",
                "none of these" if held is None else f"{held.offered:.1f}",
                f"{result.alone.p50:.1f}",
                "" if cost is None else f"{cost:.3g}",
                str(sum(point.wrong for point in points)),
            ]
        )
    return rows


if __name__ == "__main__":
    typer.run(main)
