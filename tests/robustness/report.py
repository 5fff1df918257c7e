"""What a campaign has found: lines for the terminal, a page with a table, and one object for machines."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dragoman_server.machine import usable_cores
from tests.robustness.campaign import Result

_SHOWN = 5


def line(result: Result) -> str:
    """One result, for the terminal; with the first violations and how to see them again."""
    ended = ", ".join(f"{count} {status}" for status, count in result.ended.items())
    verdict = f"{len(result.violations)} violations" if result.violations else "ok"
    lines = [
        f"{result.fault:26} {result.injections:5} injections {result.requests:6} requests {result.seconds:6.1f} s"
        f"  {verdict:14} {ended}"
    ]
    lines += [f"    {violation}" for violation in result.violations[:_SHOWN]]
    if result.violations:
        lines.append(f"    again with: {result.reproduce}")
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> str:
    """All of it in a sentence."""
    kinds = sum(result.injections > 0 for result in results)
    requests = sum(result.requests for result in results)
    found = sum(len(result.violations) for result in results)
    injections = sum(result.injections for result in results)
    return f"{kinds} kinds of fault, {injections:,} injections, {requests:,} requests, {found} violations"


def write(results: Sequence[Result], seed: int, page: Path) -> None:
    """The page, and the same as JSON beside it."""
    rows = "\n".join(
        f"| {result.fault} | {result.injects} | {result.injections} | {result.requests} | "
        + ", ".join(f"{count} {status}" for status, count in result.ended.items())
        + f" | {len(result.violations)} |"
        for result in results
    )
    seconds = sum(result.seconds for result in results)
    page.write_text(
        f"""# Robustness: the last campaign

{summary(results)}; seed {seed}, {seconds / 60:.0f} minutes on {usable_cores()} cores ({platform.machine()}).
What is injected and what is checked: [robustness](../robustness.md). Written by `make robustness OPTIONS=--report`.

| fault | what is done | injections | requests | ended as | violations |
|---|---|---|---|---|---|
{rows}
""",
        encoding="utf-8",
    )
    content = {
        "seed": seed,
        "seconds": round(seconds, 1),
        "summary": summary(results),
        "faults": [_plain(r) for r in results],
    }
    page.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _plain(result: Result) -> dict[str, object]:
    return {**asdict(result), "seconds": round(result.seconds, 1), "violations": [str(v) for v in result.violations]}
