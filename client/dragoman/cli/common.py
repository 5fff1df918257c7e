"""What several of the client's commands share: options, and how errors are told."""

from __future__ import annotations

from typing import Annotated

import typer

from dragoman.errors import DragomanError, FailedPrecondition, InvalidArgument

Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="None: the server chooses.")]
Priority = Annotated[
    int | None, typer.Option("--priority", metavar="N", help="0 to 9: the higher goes first.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def error_lines(error: DragomanError) -> list[str]:
    """What to print of an error: one line, or one for each violation or reason."""
    if isinstance(error, InvalidArgument) and error.violations:
        return [str(violation) for violation in error.violations]
    if isinstance(error, FailedPrecondition):
        return str(error).splitlines()
    return [" ".join(str(error).split()) or type(error).__name__]
