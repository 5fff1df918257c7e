"""``dragoman score``: how likely given translations, or continuations, are to a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from dragoman.cli.common import Json, Model, Priority
from dragoman.cli.connecting import Connect, connecting
from dragoman.cli.filtering import run_filter
from dragoman.cli.lines import read_lines
from dragoman.cli.translate import standard_input
from dragoman.client import Client
from dragoman.errors import DragomanError, InvalidArgument, Violation
from dragoman.values import Score


@connecting
def score(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="None: score stdin.", show_default=False)] = None,
    translation: Annotated[
        str | None, typer.Argument(metavar="TRANSLATION", help="What TEXT becomes.", show_default=False)
    ] = None,
    *,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="LANGUAGE", help="The translation's language; none for a continuation."),
    ] = None,
    source: Annotated[str | None, typer.Option("--source", metavar="LANGUAGE", help="The text's own.")] = None,
    model: Model = None,
    priority: Priority = None,
    as_json: Json = False,
    connect: Connect,
) -> None:
    """Score a translation, or stdin line by line: TEXT and TRANSLATION, parted by a tab.

    For each, prints the natural logarithm of the translation's probability; with a model that generates, of its
    probability to follow TEXT. A line that fails is told on stderr with its number, leaves an empty line in its place
    (with --json, null), and makes the exit code 1.
    """

    def ask(client: Client, pair: tuple[str, str]) -> Score:
        return client.score(*pair, target=target, source=source, model=model, priority=priority)

    def render(result: Score) -> str:
        return json.dumps(asdict(result), ensure_ascii=False) if as_json else f"{result.score:.4f}"

    run_filter(
        "score",
        _pairs() if text is None else [(text, translation) if translation is not None else _no_pair()],
        ask,
        render,
        connect,
        label="line" if text is None else "",
        failed_line="null" if as_json else "",
        own_fields=("line", "text", "target"),
    )


def _pairs() -> Iterator[tuple[str, str] | DragomanError]:
    for line in read_lines(standard_input()):
        if isinstance(line, DragomanError):
            yield line
        else:
            text, tab, translation = line.partition("\t")
            yield (text, translation) if tab else _no_pair()


def _no_pair() -> InvalidArgument:
    return InvalidArgument([Violation("line", "one text", "a text and its translation, parted by a tab")])
