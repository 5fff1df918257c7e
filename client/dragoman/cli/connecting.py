"""The options that say how a command reaches the server, the same for all commands that do."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dragoman.client import Client
from dragoman.connection import DEFAULT_ADDRESS, TLS
from dragoman.errors import InvalidArgument, Violation

TOKEN_VARIABLE = "DRAGOMAN_TOKEN"


@dataclass(frozen=True, slots=True)
class Connect:
    """Makes the client that the options describe; raises InvalidArgument for options that cannot work."""

    options: Mapping[str, Any]
    """Those of ``reach`` that were given."""

    def __call__(self) -> Client:
        """A client, not yet connected."""
        found = self.reach()
        return Client(found.addresses, token=found.token, tls=found.tls, timeout=found.timeout)

    def reach(self) -> Reach:
        """The same without a client, for a command that calls in its own way."""
        return reach(**self.options)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the server is and how to get there: the first arguments of ``Client``."""

    addresses: str | list[str]
    token: str | None
    tls: bool | TLS
    timeout: float


def reach(  # noqa: PLR0917  (the arguments are the commands' options)
    server: Annotated[
        str,
        typer.Option(
            envvar="DRAGOMAN_SERVER",
            metavar="HOST:PORT[,...]",
            help="Where the server listens; several addresses take turns.",
        ),
    ] = DEFAULT_ADDRESS,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Longest wait for one answer.")] = 30.0,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="DRAGOMAN_TOKEN_FILE",
            metavar="FILE",
            help=f"Holds the bearer token. Default: the token in {TOKEN_VARIABLE}.",
        ),
    ] = None,
    tls: Annotated[
        bool | None, typer.Option("--tls/--no-tls", envvar="DRAGOMAN_TLS", help="Encrypt, by the usual authorities.")
    ] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(envvar="DRAGOMAN_TLS_CA", metavar="FILE", help="Authorities (PEM) to trust instead.")
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(envvar="DRAGOMAN_TLS_CERTIFICATE", metavar="FILE", help="The client's certificate (PEM)."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="DRAGOMAN_TLS_KEY", metavar="FILE", help="Its private key (PEM).")
    ] = None,
) -> Reach:
    """What the options say; raises InvalidArgument for a token that cannot be read."""
    addresses = [address.strip() for address in server.split(",")]
    files = TLS(ca=tls_ca, certificate=tls_certificate, key=tls_key)
    return Reach(
        addresses[0] if len(addresses) == 1 else addresses,
        token=_token(token_file),
        tls=files if files != TLS() and tls is not False else bool(tls),
        timeout=timeout,
    )


def connecting(command: Callable[..., None]) -> Callable[..., None]:
    """Show Typer the options of ``reach``, and hand ``command`` its parameter ``connect`` made of them."""
    own = inspect.signature(command, eval_str=True)
    options = inspect.signature(reach, eval_str=True).parameters

    @functools.wraps(command)
    def run(*args: Any, **named: Any) -> None:
        chosen = {name: named.pop(name) for name in options if name in named}
        command(*args, connect=Connect(chosen), **named)

    kept = [p for p in own.parameters.values() if p.name != "connect"]
    rest = [p for p in kept if p.kind is inspect.Parameter.VAR_KEYWORD]
    more = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in options.values()]
    listed = [*(p for p in kept if p not in rest), *more, *rest]
    run.__signature__ = own.replace(parameters=listed)  # type: ignore[attr-defined]
    return run


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument([Violation("--token-file", str(file), f"a readable file: {error}")]) from None
