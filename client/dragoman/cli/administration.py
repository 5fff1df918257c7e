"""``dragoman load-model`` and ``dragoman unload-model``: what a server serves, changed while it runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dragoman.cli.common import Json
from dragoman.cli.connecting import Connect, connecting
from dragoman.cli.models import record, table

Name = Annotated[str, typer.Argument(metavar="NAME", help="The model, as its folder in the repository is called.")]


@connecting
def load_model(
    name: Name,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="Default: what the server's version policy chooses.")
    ] = None,
    *,
    as_json: Json = False,
    connect: Connect,
) -> None:
    """Have a server load a model of its repository, or a newer version of one, and show it when it is ready.

    What is served goes on until then. Loading goes on when --timeout passes; the same command then waits for it.
    """
    with connect() as client:
        loaded = client.load_model(name, version=version)
    for line in [json.dumps([record(m) for m in loaded], ensure_ascii=False)] if as_json else table(loaded):
        typer.echo(line)


@connecting
def unload_model(
    name: Name,
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Default: all versions.")] = None,
    *,
    connect: Connect,
) -> None:
    """Have a server stop serving a model; ends when its requests have ended and its memory was given back."""
    with connect() as client:
        client.unload_model(name, version=version)
