"""What several of the client's commands share: options, the connection, and how errors are told."""

from __future__ import annotations

from typing import Annotated

import typer

from dragoman.client import Client
from dragoman.connection import DEFAULT_ADDRESS
from dragoman.errors import DragomanError, InvalidArgument

Server = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="DRAGOMAN_SERVER",
        metavar="HOST:PORT[,...]",
        help="Where the server listens; several addresses take turns.",
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Longest wait for one answer.")]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="None: the server chooses.")]
Priority = Annotated[
    int | None, typer.Option("--priority", metavar="N", help="0 to 9: the higher goes first.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

DEFAULT_SERVER = DEFAULT_ADDRESS
DEFAULT_TIMEOUT = 30.0


def connect(server: str, timeout: float) -> Client:
    """A client for the shared options."""
    addresses = [address.strip() for address in server.split(",")]
    return Client(addresses[0] if len(addresses) == 1 else addresses, timeout=timeout)


def error_lines(error: DragomanError) -> list[str]:
    """What to print of an error: one line, or one for each violation."""
    if isinstance(error, InvalidArgument) and error.violations:
        return [str(violation) for violation in error.violations]
    return [" ".join(str(error).split()) or type(error).__name__]
