"""``dragoman bench load``: users and arrivals on a running server, with every answer checked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dragoman.cli.common import Json
from dragoman.cli.connecting import Connect, connecting
from dragoman.cli.load_progress import watching
from dragoman.connection import connection
from dragoman.errors import InvalidArgument, Violation
from dragoman.load.measurement import Objectives
from dragoman.load.pictures import write_picture
from dragoman.load.report import Rows, findings, kinds, markdown, settings, streams, table
from dragoman.load.result import LoadResult
from dragoman.load.running import Rate, Sweep, run
from dragoman.load.samples import Window
from dragoman.load.workload import WORKLOADS, check_name, workload

_USERS = "1,2,4,8,16,32,64"
_MOST_USERS = 10_000
_WIDTH = 200
"""Characters of the table where stdout is no terminal."""


@connecting
def load(
    *,
    name: Annotated[str, typer.Option("--workload", metavar="NAME", help=", ".join(WORKLOADS))] = "mixed",
    concurrency: Annotated[
        str | None,
        typer.Option(
            metavar="N,...", help=f"Users of the closed loops. Default: {_USERS}, unless all rates are numbers."
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="N,...", help="Poisson arrivals a second; 80%: of the largest throughput of the closed loops."
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option(min=0.1, max=86_400, metavar="SECONDS", help="Of each point, after its warm-up.")
    ] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, max=3600, metavar="SECONDS", help="Before that.")] = 2.0,
    p99: Annotated[
        float | None, typer.Option("--objective-p99-ms", metavar="MS", help="Goodput: the answer within this time.")
    ] = None,
    ttft: Annotated[
        float | None, typer.Option("--objective-ttft-ms", metavar="MS", help="A stream's first chunk within this.")
    ] = None,
    tpot: Annotated[
        float | None, typer.Option("--objective-tpot-ms", metavar="MS", help="A stream's mean token within this.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="LANGUAGE", help="To translate into. Default: the model's first but English.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Texts to ask about, one a line. Default: of our own.")
    ] = None,
    different: Annotated[
        int,
        typer.Option(
            "--requests", min=1, max=100_000, metavar="N", help="Different requests of each kind; of long ones a third."
        ),
    ] = 120,
    connections: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Connections, which take turns.")] = 4,
    price: Annotated[
        float,
        typer.Option("--price-per-hour", min=0, metavar="PRICE", help="Of the machine: for the cost of the tokens."),
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of all that is drawn: requests, their order, arrivals.")] = 1,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write NAME.json, NAME.md and, with matplotlib, NAME.png there.")
    ] = None,
    as_json: Json = False,
    connect: Connect,
) -> None:
    """Measure a running server under load, every answer checked.

    First each request is asked alone, and its answer is kept. Then come closed loops, in which so many users wait for
    each answer before they ask again, and open ones, whose requests arrive at random moments and wait for nobody: their
    latency counts from the moment at which they were due. --timeout is the longest wait for one answer. An answer that
    differs from the request's own alone is a failure, and makes the exit status 1; of an int8 model it must be the same
    to the bit. docs/load-testing.md says how every figure is defined.
    """
    faults: list[Violation] = []
    users: list[int] = []
    rates: list[Rate] = []
    objectives, lines = Objectives(), list[str]()
    with _noted(faults):
        users, rates = _loads(concurrency, rate)
    with _noted(faults):
        objectives = Objectives(p99, ttft, tpot)
    with _noted(faults):
        lines = [] if texts is None else _lines(texts)
    with _noted(faults):
        check_name(name)
    if faults:
        raise InvalidArgument(faults)
    if output is not None:
        _make(output)  # before anything is measured
    reach = connect.reach()
    with connect() as client:
        models = [model for model in client.models() if model.state == "ready"]
    asked = workload(name, models, seed=seed, size=different, target=target, lines=lines)
    sweep = Sweep(
        users,
        rates,
        Window(warm_up, duration),
        objectives,
        seed=seed,
        connections=connections,
        timeout=reach.timeout,
        price_per_hour=price,
    )
    with watching() as watcher:
        found = asyncio.run(run(connection(reach.addresses, reach.token, reach.tls), asked, models, sweep, watcher))
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        _print(found)
    if output is not None:
        write(found, output)
    if any(point.wrong for point in found.points):
        raise typer.Exit(1)


def write(found: LoadResult, folder: Path) -> None:
    """JSON, Markdown and, with matplotlib, a picture, named after the workload, into a folder that is there."""
    path = folder / f"{found.workload}.json"
    path.write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    try:
        write_picture(found, path.with_suffix(".png"))
    except ModuleNotFoundError:
        missing = "matplotlib is not installed; this brings it: pip install 'dragoman[plot]'"
        typer.echo(f"dragoman bench load: no picture: {missing}", err=True)


@contextlib.contextmanager
def _noted(faults: list[Violation]) -> Iterator[None]:
    """Keep what is at fault, so that all of it can be told at once."""
    try:
        yield
    except InvalidArgument as error:
        faults += error.violations


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        limit = f"a folder to write to ({error.strerror})"
        raise InvalidArgument([Violation("--output", repr(str(folder)), limit)]) from None


def _loads(concurrency: str | None, rate: str | None) -> tuple[list[int], list[Rate]]:
    """Users and rates; raises InvalidArgument for what is neither a number nor, of a rate, a share."""
    faults: list[Violation] = []
    rates = []
    for part in rate.split(",") if rate else []:
        value = _number(part.strip().removesuffix("%"))
        if value is None:
            faults.append(Violation("--rate", repr(part), "more than 0: arrivals a second, or a share such as 80%"))
        else:
            relative = part.strip().endswith("%")
            rates.append(Rate(value / 100 if relative else value, relative))
    wanted = concurrency if concurrency is not None else _USERS if not rates or any(r.relative for r in rates) else ""
    users = []
    for part in wanted.split(",") if wanted else []:
        if part.strip().isdecimal() and 1 <= int(part) <= _MOST_USERS:
            users.append(int(part))
        else:
            faults.append(Violation("--concurrency", repr(part), f"users: 1 to {_MOST_USERS}"))
    if not users and any(r.relative for r in rates):
        faults.append(Violation("--rate", repr(rate), "without --concurrency, arrivals a second"))
    if faults:
        raise InvalidArgument(faults)
    return users, rates


def _number(text: str) -> float | None:
    """A number above 0, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument([Violation("--texts", repr(str(path)), f"a readable file: {error}")]) from None
    if not found:
        raise InvalidArgument([Violation("--texts", repr(str(path)), "at least one line of text")])
    return found


def _print(found: LoadResult) -> None:
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, emoji=False, width=_WIDTH)
    console.print(settings(found))
    for rows in (table(found), streams(found), kinds(found)):
        if rows:
            console.print(_table(rows))
    for line in findings(found):
        console.print(f"- {line}")


def _table(rows: Rows) -> Table:
    head, *body = rows
    shown = Table(*head)
    for row in body:
        shown.add_row(*row)
    return shown
