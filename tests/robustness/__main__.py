"""``python -m tests.robustness``: faults under load, and whether the promises held."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Annotated

import typer

from tests.robustness import report
from tests.robustness.campaign import Campaign
from tests.robustness.faults.every import EVERY

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "robustness.md"


app = typer.Typer(add_completion=False)


@app.command()
def main(  # noqa: PLR0917  (options of a command)
    seed: Annotated[
        int | None, typer.Option(help="From which everything is drawn; by default another each time.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests in all, shared by the faults.")] = 10_000,
    faults: Annotated[str, typer.Option(help="Names with commas between them; by default all.")] = "",
    output: Annotated[Path, typer.Option(help="Where histories with violations are written.")] = Path(
        "runs/robustness"
    ),
    write_report: Annotated[bool, typer.Option("--report", help=f"Write {PAGE.name} and its JSON.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show the faults, and inject none.")] = False,
) -> None:
    """Inject faults under load, and check every history. Exit status 1: an invariant was broken."""
    if show_list:
        for fault in EVERY:
            print(f"{fault.name:26} {fault.injects}")
        return
    names = [name for name in faults.split(",") if name] or [fault.name for fault in EVERY]
    if unknown := set(names) - {fault.name for fault in EVERY}:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: see --list", param_hint="--faults")
    drawn = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    print(f"seed {drawn}", file=sys.stderr)
    campaign = Campaign(
        [fault for fault in EVERY if fault.name in names],
        requests,
        drawn,
        output,
        show=lambda result: print(report.line(result), flush=True),
    )
    results = asyncio.run(campaign.run())
    print(report.summary(results))
    if write_report:
        report.write(results, drawn, PAGE)
    if any(result.violations for result in results):
        print(f"the histories: {output}", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
