"""``dragoman score``: how likely given translations are to a model."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from dragoman.cli.common import DEFAULT_SERVER, DEFAULT_TIMEOUT, Json, Server, Timeout, connect, error_lines
from dragoman.cli.lines import answers, read_lines
from dragoman.cli.translate import concerns_all, standard_input
from dragoman.errors import DragomanError, InvalidArgument, Violation
from dragoman.values import Score

WINDOW = 32
"""Lines under way at once."""


def score(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="None: score stdin.", show_default=False)] = None,
    translation: Annotated[
        str | None, typer.Argument(metavar="TRANSLATION", help="What TEXT becomes.", show_default=False)
    ] = None,
    *,
    target: Annotated[str, typer.Option("--target", metavar="LANGUAGE", help="The translation's language.")],
    source: Annotated[str | None, typer.Option("--source", metavar="LANGUAGE", help="The text's own.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="None: the server's default.")] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", metavar="N", help="0 to 9: the higher goes first.", show_default=False)
    ] = None,
    as_json: Json = False,
    server: Server = DEFAULT_SERVER,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Score a translation, or stdin line by line: TEXT and TRANSLATION between a tab.

    For each, prints the natural logarithm of the translation's probability. A line that fails is told on stderr with
    its number, leaves an empty line in its place (with --json, null), and makes the exit code 1.
    """
    failed = False
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(server, timeout))

        def outcome(line: str | DragomanError) -> Score | DragomanError:
            try:
                if isinstance(line, DragomanError):
                    return line
                first, tab, second = (text, "\t", translation) if text is not None else line.partition("\t")
                if not tab or second is None:
                    raise InvalidArgument([Violation("line", "one text", "a text and its translation, between a tab")])
                return client.score(first, second, target=target, source=source, model=model, priority=priority)
            except DragomanError as error:
                return error

        lines = iter([""]) if text is not None else read_lines(standard_input())
        outcomes = stack.enter_context(contextlib.closing(answers(outcome, lines, WINDOW)))
        for number, result in enumerate(outcomes, start=1):
            if isinstance(result, DragomanError):
                failed = True
                for line in error_lines(result):
                    typer.echo(f"dragoman score: {'' if text is not None else f'line {number}: '}{line}", err=True)
                if concerns_all(result) and not _concerns_line(result):
                    break
            sys.stdout.write(rendered(result, as_json) + "\n")
            sys.stdout.flush()
    if failed:
        raise typer.Exit(1)


def _concerns_line(error: DragomanError) -> bool:
    return isinstance(error, InvalidArgument) and all(v.field in {"line", "text", "target"} for v in error.violations)


def rendered(result: Score | DragomanError, as_json: bool) -> str:
    """The one line that stands for a score."""
    if not isinstance(result, Score):
        return "null" if as_json else ""
    return json.dumps(asdict(result), ensure_ascii=False) if as_json else f"{result.score:.4f}"
