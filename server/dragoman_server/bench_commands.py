"""``dragoman bench independence``: what is promised, proved on this machine."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dragoman_server.errors import InvalidArgument


def independence(  # noqa: PLR0917  (the arguments are the command line's options)
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="Folder of a bundle. Default: the default model's.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Sentences, one a line; .tsv and .gz are known by their names. Default: of our own."),
    ] = None,
    column: Annotated[int, typer.Option(help="Which column of a .tsv file, counted from 1.")] = 1,
    target: Annotated[
        str | None, typer.Option(help="Language to translate into. Default: one that the model has, by chance.")
    ] = None,
    sentences: Annotated[int, typer.Option(help="How many different sentences.")] = 1000,
    precision: Annotated[str, typer.Option(help="int8, fp32, or all: those of the two that the bundle has.")] = "all",
    lanes: Annotated[str, typer.Option(help="Numbers of lanes to decode on, one after the other.")] = "1,2",
    max_rows: Annotated[int, typer.Option("--max-rows", help="Rows of a lane.")] = 64,
    seed: Annotated[int, typer.Option(help="Of all that is drawn: sentences, options, order, company.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Prove that every request gets the same answer alone and under random loads.

    Each sentence is decoded alone: greedily, by a beam or as alternatives, by a seeded sample, a third of them with
    filters; and half of them as a target that is scored. Then all are decoded again among each other, repeated,
    cancelled and expiring requests, from several threads, on each number of lanes. int8: tokens, scores and attention
    must be the same to the bit; fp32: the same tokens, scores and attention within 0.0001. The encoder's output is
    compared too, at every length, and progress must come true. Of an encoder-only model, what it says of each text is
    compared: states, labels, tags and fillings. The exit status is 1 for any difference beyond that.
    """
    from dragoman_server import logs  # noqa: PLC0415  (--help needs none of these)
    from dragoman_server.bundle import BundleError  # noqa: PLC0415
    from dragoman_server.independence import report  # noqa: PLC0415
    from dragoman_server.independence.running import Options, parse_lanes, run  # noqa: PLC0415
    from dragoman_server.independence.traffic import TrafficError  # noqa: PLC0415
    from dragoman_server.progress import Stages  # noqa: PLC0415
    from dragoman_server.settings import SettingsError  # noqa: PLC0415

    logs.configure("warning", "auto")
    try:
        options = Options(
            bundle=bundle,
            data=data,
            column=column,
            target=target,
            sentences=sentences,
            precision=precision,
            lanes=parse_lanes(lanes),
            max_rows=max_rows,
            seed=seed,
        )
        found = run(options, Stages())
    except (BundleError, InvalidArgument, SettingsError, TrafficError) as error:
        typer.echo(f"dragoman bench independence: {error}", err=True)
        raise typer.Exit(2) from None
    if json:
        typer.echo(json_format.dumps(report.as_json(found)))
    else:
        Console(markup=False, highlight=False, emoji=False, width=report.WIDTH).print(report.table(found))
    if not found.holds:
        raise typer.Exit(1)
