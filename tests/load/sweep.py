"""``make load``: a real server under rising load, workload by workload; writes load.json, pictures and load.md.

The generator is this process, the server one of its own. Both share the machine's cores, and the tables say how much of
them each took. ``--quick`` takes two minutes, all of it ten; nothing else should run meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from dragoman import Client
from dragoman.cli.load_progress import watching
from dragoman.connection import connection
from dragoman.load.measurement import Objectives
from dragoman.load.pictures import write_picture
from dragoman.load.result import LoadResult
from dragoman.load.running import Rate, Sweep, run
from dragoman.load.samples import Window
from dragoman.load.workload import workload
from dragoman_server.machine import usable_cores
from tests.bench.ours import OurSettings
from tests.bench.results import FOLDER, ROOT, machine_facts, versions
from tests.bench.server import Server
from tests.load.forecast import FORETOLD, foretold, profiles
from tests.load.report import write_page

PRICE = 0.1
"""An hour of a machine with two cores, in dollars: about what clouds ask for one on demand."""
SEED = 1
DIFFERENT = 120
_ROWS = 128
_LONG = Window(1.5, 8.0)


@dataclass(frozen=True)
class Plan:
    """How one workload is measured."""

    objectives: Objectives
    users: tuple[int, ...] = (1, 4, 16, 64)
    shares: tuple[float, ...] = (0.4, 0.7, 0.9, 1.2)
    """Rates, as shares of the capacity."""
    window: Window = field(default=Window(1.5, 5.0))

    def quickly(self) -> Plan:
        """The same in a sixth of the time."""
        return Plan(self.objectives, (1, 8, 64), (0.5, 0.9, 1.2), Window(0.5, 2.5))


PLANS = {
    "mixed": Plan(
        Objectives(latency_ms=250.0),
        (1, 2, 4, 8, 16, 32, 64, 128),
        (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
        Window(2.0, 8.0),
    ),
    "short": Plan(Objectives(latency_ms=100.0)),
    "stream": Plan(Objectives(latency_ms=500.0, first_token_ms=100.0, token_ms=20.0)),
    "classify": Plan(Objectives(latency_ms=50.0)),
    # Long work: fewer requests a second, so longer points.
    "document": Plan(Objectives(latency_ms=1000.0), (1, 4, 16), (0.5, 0.9, 1.2), Window(1.5, 8.0)),
    "generate": Plan(
        Objectives(latency_ms=1000.0, first_token_ms=100.0, token_ms=20.0),
        (1, 4, 16),
        (0.5, 0.9, 1.2),
        Window(1.5, 8.0),
    ),
    "day": Plan(Objectives(latency_ms=1000.0), (4, 16, 64), (0.5, 0.8, 1.2), Window(1.5, 10.0)),
}
"""The main one first. The limits are what a person at a screen would still call prompt."""
QUICK = ("mixed", "stream", "classify")


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Three workloads, a few seconds each.")] = False,
    names: Annotated[list[str] | None, typer.Option("--workload", help="Which; default: all.")] = None,
    price: Annotated[float, typer.Option("--price-per-hour", help="Of the machine.")] = PRICE,
    output: Annotated[Path, typer.Option(help="Folder for load.json, the pictures and load.md.")] = FOLDER,
) -> None:
    """Measure and publish."""
    chosen = names or list(QUICK if quick else PLANS)
    plans = {name: PLANS[name].quickly() if quick else PLANS[name] for name in chosen}
    settings = OurSettings(lanes=usable_cores(), max_rows=_ROWS)
    known = {} if quick else profiles([name for name in FORETOLD if name in plans], settings, SEED, DIFFERENT)
    results = []
    with Server(ROOT / "models", settings) as server:
        for name, plan in plans.items():
            found = _measure(server, name, plan, price)
            results.append(foretold(found, known[name]) if name in known else found)
    publish(results, output, quick=quick)


def publish(results: list[LoadResult], output: Path, *, quick: bool) -> None:
    """Write the JSON and a picture of each workload, and fill the page."""
    output.mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": "load",
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": quick,
        "machine": machine_facts(),
        "versions": versions(),
        "workloads": [result.as_json() for result in results],
    }
    (output / "load.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for result in results:
        write_picture(result, output / f"load_{result.workload}.png")
    write_page(output)


def _measure(server: Server, name: str, plan: Plan, price: float) -> LoadResult:
    with Client(server.address) as client:
        models = client.models()
    sweep = Sweep(
        users=plan.users,
        rates=[Rate(share, relative=True) for share in plan.shares],
        window=plan.window,
        objectives=plan.objectives,
        seed=SEED,
        price_per_hour=price,
        meters={"server": server.cpu_seconds},
    )
    asked = workload(name, models, seed=SEED, size=DIFFERENT)
    with watching() as watcher:
        return asyncio.run(run(connection(server.address, None, tls=False), asked, models, sweep, watcher))


if __name__ == "__main__":
    typer.run(main)
