"""``dragoman token``: a new bearer token, and the entry of the tokens' file that knows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dragoman_server.security.principal import Permission

if TYPE_CHECKING:
    from dragoman_server.security.tokens import TokenEntry


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is, as it appears in logs.")],
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="Add the entry to this file of tokens.")],
    permission: Annotated[
        list[Permission] | None, typer.Option(help="What it allows; repeatable. Default: infer.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Its quota. Default: none.", show_default=False)
    ] = None,
) -> None:
    """Make a bearer token and print it, once: the file keeps its hash alone.

    A server that runs with --tokens FILE knows the token within a second. To take it back, remove its entry.
    """
    from pydantic import ValidationError  # noqa: PLC0415  (--help needs none of these)

    from dragoman_server.security.tokens import TokenEntry, digest, new_token, read_tokens  # noqa: PLC0415
    from dragoman_server.settings import SettingsError  # noqa: PLC0415

    made = new_token()
    permissions = frozenset(permission or [Permission.INFER])
    try:
        existing = read_tokens(file) if file.exists() and file.stat().st_size else []
        entry = TokenEntry(
            name=name, sha256=digest(made), permissions=permissions, requests_per_minute=requests_per_minute
        )
    except SettingsError as error:
        typer.echo(f"dragoman token: {error}", err=True)
        raise typer.Exit(1) from None
    except ValidationError as error:
        for fault in error.errors():
            typer.echo(f"dragoman token: {fault['loc'][0]} = {fault['input']}: {fault['msg']}", err=True)
        raise typer.Exit(1) from None
    if name in {known.name for known in existing}:
        typer.echo(f"dragoman token: name = {name}: {file} has an entry of this name", err=True)
        raise typer.Exit(1)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            stream.write(("\n" if existing else "") + _entry(entry))
    except OSError as error:
        typer.echo(f"dragoman token: file = {file}: {error.strerror}", err=True)
        raise typer.Exit(1) from None
    typer.echo(made)


def _entry(entry: TokenEntry) -> str:
    allowed = ", ".join(f'"{permission}"' for permission in sorted(entry.permissions))
    lines = ["[[tokens]]", f'name = "{entry.name}"', f'sha256 = "{entry.sha256}"', f"permissions = [{allowed}]"]
    if entry.requests_per_minute is not None:
        lines.append(f"requests_per_minute = {entry.requests_per_minute}")
    return "\n".join(lines) + "\n"
