"""``dragoman translate``: texts from the command line, or a filter from stdin to stdout."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import asdict
from typing import Annotated, BinaryIO, Unpack

import typer

from dragoman.cli.common import DEFAULT_SERVER, DEFAULT_TIMEOUT, Json, Server, Timeout, connect, error_lines
from dragoman.cli.decoding import decoding_options, several
from dragoman.cli.lines import answers, count_lines, read_lines
from dragoman.cli.progress import progress_bar
from dragoman.decoding import Decoding
from dragoman.errors import DragomanError, InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Unavailable
from dragoman.values import Translation

WINDOW = 32
"""Lines under way at once."""


@decoding_options
def translate(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="None: translate stdin.", show_default=False),
    ] = None,
    *,
    target: Annotated[str, typer.Option("--target", metavar="LANGUAGE", help="Translate into this, such as de.")],
    source: Annotated[str | None, typer.Option("--source", metavar="LANGUAGE", help="The texts' own.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="None: the server's default.")] = None,
    as_json: Json = False,
    server: Server = DEFAULT_SERVER,
    timeout: Timeout = DEFAULT_TIMEOUT,
    **decoding: Unpack[Decoding],
) -> None:
    """Translate texts, or stdin line by line.

    One line in, one line out; empty lines stay empty. A line that fails is told on stderr with its number, leaves an
    empty line in its place (with --json, null stands for both), and makes the exit code 1.

    Where several hypotheses are asked for, each has a line of its own: the number of its text, its rank score and
    itself, between tabs; empty and failed lines have none. With --json they are in the one line.
    """
    stdin = None if texts else standard_input()
    label = "text" if stdin is None else "line"
    each_its_line = several(decoding) and not as_json
    failed = False
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(server, timeout))

        def outcome(line: str | DragomanError) -> Translation | DragomanError | None:
            if isinstance(line, DragomanError):
                return line
            if not line.strip():
                return None
            try:
                return client.translate(line, target=target, source=source, model=model, **decoding)
            except DragomanError as error:
                return error

        lines = iter(texts or ()) if stdin is None else read_lines(stdin)
        total = len(texts or ()) if stdin is None else count_lines(stdin)
        advance = stack.enter_context(progress_bar("translating", total))
        outcomes = stack.enter_context(contextlib.closing(answers(outcome, lines, WINDOW)))
        for number, result in enumerate(outcomes, start=1):
            if isinstance(result, DragomanError):
                failed = True
                report(result, "" if total == 1 and stdin is None else f"{label} {number}: ")
                if concerns_all(result):
                    break
            sys.stdout.write(numbered(result, number) if each_its_line else rendered(result, as_json) + "\n")
            sys.stdout.flush()
            advance()
    if failed:
        raise typer.Exit(1)


def rendered(result: Translation | DragomanError | None, as_json: bool) -> str:
    """The one line that stands for a text's translation."""
    if not isinstance(result, Translation):
        return "null" if as_json else ""
    if as_json:
        return json.dumps({"text": result.text, **asdict(result)}, ensure_ascii=False)
    return one_line(result.text)


def numbered(result: Translation | DragomanError | None, number: int) -> str:
    """A line for each hypothesis of the text with this number: number, rank score and text, between tabs."""
    hypotheses = result.hypotheses if isinstance(result, Translation) else ()
    return "".join(f"{number}\t{h.rank_score:.4f}\t{one_line(h.text)}\n" for h in hypotheses)


def one_line(text: str) -> str:
    """The text with its lines joined by spaces."""
    return " ".join(text.splitlines())


def report(error: DragomanError, where: str) -> None:
    """Tell what failed, and where, on stderr."""
    for line in error_lines(error):
        typer.echo(f"dragoman translate: {where}{line}", err=True)


def concerns_all(error: DragomanError) -> bool:
    """Whether the lines to come would fail in the same way: the server or the options are at fault, not the line."""
    if isinstance(error, InvalidArgument):
        return any(violation.field != "text" for violation in error.violations)
    return isinstance(error, NotFound | PermissionDenied | Unauthenticated | Unavailable)


def standard_input() -> BinaryIO:
    """Stdin as bytes. Where it is a file, under a buffer of our own: the thread that reads it may outlive the command,
    and Python's own buffer, locked by it, would stop the interpreter from exiting.
    """
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:
        return sys.stdin.buffer
