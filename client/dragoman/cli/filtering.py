"""A command that is a filter: one text in, one line out, many under way at once."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import typer

from dragoman.cli.common import error_lines
from dragoman.cli.connecting import Connect
from dragoman.cli.lines import answers
from dragoman.cli.translate import concerns_all
from dragoman.client import Client
from dragoman.errors import DragomanError

T = TypeVar("T")
R = TypeVar("R")

WINDOW = 32
"""Texts under way at once."""


def run_filter(
    name: str,
    items: Iterable[T | DragomanError],
    ask: Callable[[Client, T], R],
    render: Callable[[R], str],
    connect: Connect,
    *,
    label: str = "line",
    failed_line: str = "",
    own_fields: Collection[str] = ("text",),
) -> None:
    """Print a line for each item, in order. One that fails is told on stderr with its number, leaves ``failed_line`` in
    its place, and makes the exit code 1; an error that all others would meet too ends the command.

    ``own_fields`` are those whose faults concern one item alone; ``label`` is what an item is called, empty for the
    only one.
    """
    failed = False
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect())

        def outcome(item: T | DragomanError) -> R | DragomanError:
            try:
                return item if isinstance(item, DragomanError) else ask(client, item)
            except DragomanError as error:
                return error

        outcomes = stack.enter_context(contextlib.closing(answers(outcome, items, WINDOW)))
        for number, result in enumerate(outcomes, start=1):
            if isinstance(result, DragomanError):
                failed = True
                for line in error_lines(result):
                    typer.echo(f"dragoman {name}: {f'{label} {number}: ' if label else ''}{line}", err=True)
                if concerns_all(result, own_fields):
                    break
                sys.stdout.write(failed_line + "\n")
            else:
                sys.stdout.write(render(result) + "\n")
            sys.stdout.flush()
    if failed:
        raise typer.Exit(1)
