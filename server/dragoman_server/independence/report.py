"""What the proof has found: a table for people, one object for machines."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import onnxruntime
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dragoman_server import machine
from dragoman_server.independence.checking import Company, Result
from dragoman_server.independence.comparison import tolerance

_PARTED_SHOWN = 20
WIDTH = 165
"""Columns that the table needs."""


@dataclass(frozen=True)
class Report:
    """The whole outcome, and what it was found with."""

    model: str
    """Name and version."""
    graphs: dict[str, dict[str, str]]
    """SHA-256 of encoder and decoder, by precision."""
    sentences: int
    source: str
    """Where the sentences come from."""
    seed: int
    results: list[Result]
    company: list[Company]

    @property
    def holds(self) -> bool:
        """Whether the promise is kept in every line."""
        return all(result.holds for result in self.results)


def table(report: Report) -> RenderableType:
    """One line for each precision, kind and number of lanes, and the verdict."""
    compared = ("tokens differ", "scores differ", "attention differs", "largest", "ties", "taken back")
    rated = ("alone/s", "together/s", "batch", "")
    shown = Table("precision", "kind", "lanes", "requests", *compared, *rated, box=None)
    for result in report.results:
        found = result.comparison
        rates = (result.alone_per_second, result.together_per_second, result.mean_batch)
        shown.add_row(
            result.precision,
            result.kind,
            str(result.lanes),
            f"{found.requests:,}",
            f"{found.different_tokens:,} of {found.tokens:,}",
            f"{found.different_scores:,} of {found.scores:,}",
            f"{found.different_weights:,} of {found.weights:,}",
            f"{found.largest_difference:.2g}",
            str(found.ties),
            f"{found.taken_back:,} of {found.watched:,}",
            *("" if rate is None else f"{rate:,.1f}" for rate in rates),
            "ok" if result.holds else "FAIL",
        )
    return Group(shown, *(Text(line) for line in _lines(report)))


def _lines(report: Report) -> list[str]:
    described = machine_description()
    lines = [f"{report.model}; {report.sentences:,} sentences {report.source}, seed {report.seed}"]
    lines.append(f"{described['processor']}, {described['cores']} cores; onnxruntime {described['onnxruntime']}")
    for company in report.company:
        outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(company.outcomes.items())) or "none"
        lines.append(f"{company.precision}, {company.lanes} lane(s): requests that do not count: {outcomes}")
    for result in report.results:
        if result.comparison.parted:
            numbers = ", ".join(map(str, _parted(result)))
            lines.append(f"{result.precision}, {result.kind}, {result.lanes} lane(s): cases that part: {numbers}")
    lines.append("the same under any load" if report.holds else "NOT the same under any load")
    return lines


def as_json(report: Report) -> dict[str, Any]:
    """The report with the machine that it was made on."""
    return {
        "dragoman": version("dragoman"),
        "model": report.model,
        "graphs": report.graphs,
        "machine": machine_description(),
        "sentences": report.sentences,
        "source": report.source,
        "seed": report.seed,
        "results": [_plain(result) for result in report.results],
        "company": [
            {**vars(company), "outcomes": dict(sorted(company.outcomes.items()))} for company in report.company
        ],
        "holds": report.holds,
    }


def _plain(result: Result) -> dict[str, Any]:
    found = result.comparison
    return {
        "precision": result.precision,
        "kind": result.kind,
        "lanes": result.lanes,
        "requests": found.requests,
        "tokens": found.tokens,
        "different_tokens": found.different_tokens,
        "scores": found.scores,
        "different_scores": found.different_scores,
        "weights": found.weights,
        "different_weights": found.different_weights,
        "largest_difference": found.largest_difference,
        "tolerance": tolerance(result.precision),
        "ties": found.ties,
        "parted": _parted(result),
        "watched": found.watched,
        "taken_back": found.taken_back,
        "alone_per_second": result.alone_per_second,
        "together_per_second": result.together_per_second,
        "mean_batch": result.mean_batch,
        "holds": result.holds,
    }


def _parted(result: Result) -> Sequence[int]:
    return sorted(set(result.comparison.parted))[:_PARTED_SHOWN]


def machine_description() -> dict[str, Any]:
    """What the figures depend on besides the graphs."""
    return {
        "processor": machine.processor() or platform.machine(),
        "int8_instructions": machine.int8_instructions(),
        "cores": machine.usable_cores(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }
