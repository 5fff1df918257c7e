"""``dragoman health``: whether a server takes requests, for health checks of containers and scripts."""

from __future__ import annotations

from typing import Annotated

import typer

from dragoman.cli.connecting import Connect, connecting
from dragoman.health import Health


@connecting
def health(
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help="Full name of one of its services. Default: all of them.")
    ] = "",
    *,
    connect: Connect,
) -> None:
    """Say whether a server takes requests: SERVING and exit status 0, or NOT_SERVING and 1. It needs no token."""
    with connect() as client:
        found = client.health(service)
    typer.echo(found.name)
    if found is not Health.SERVING:
        raise typer.Exit(1)
