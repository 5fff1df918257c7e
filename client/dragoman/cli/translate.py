"""``dragoman translate``: texts from the command line, or a filter from stdin to stdout."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Annotated, Any, BinaryIO, Unpack, cast

import typer

from dragoman.cli.common import Json, Model, Priority, error_lines
from dragoman.cli.connecting import Connect, connecting
from dragoman.cli.decoding import decoding_options, several
from dragoman.cli.lines import count_lines, not_utf8, read_lines
from dragoman.cli.progress import progress_bar
from dragoman.client import Client
from dragoman.decoding import Decoding
from dragoman.errors import (
    DragomanError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Violation,
)
from dragoman.values import Translation
from dragoman.wire import Segmentation

MAX_DOCUMENT_BYTES = 1 << 20
"""What --stream reads at most: beyond any text that a server takes."""


BLANK = InvalidArgument([Violation("text", "blank", "at least one character that is not white space")])
"""Stands for a line without anything to translate."""

_OF_A_TEXT = ("text", "options.target_prefix")
"""Fields whose faults concern one text alone: what a prefix may have depends on the text, with a ratio of lengths."""


@decoding_options
@connecting
def translate(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="None: translate stdin.", show_default=False),
    ] = None,
    *,
    target: Annotated[str, typer.Option("--target", metavar="LANGUAGE", help="Translate into this, such as de.")],
    source: Annotated[str | None, typer.Option("--source", metavar="LANGUAGE", help="The texts' own.")] = None,
    model: Model = None,
    segmentation: Annotated[
        str | None,
        typer.Option("--segmentation", metavar="auto|sentences|none", help="How a text is split.", show_default=False),
    ] = None,
    priority: Priority = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print as it is decoded; all of stdin is one text.")] = False,
    as_json: Json = False,
    connect: Connect,
    **decoding: Unpack[Decoding],
) -> None:
    """Translate texts, or stdin line by line.

    One line in, one line out; empty lines stay empty. A line that fails is told on stderr with its number, leaves an
    empty line in its place (with --json, null stands for both), and makes the exit code 1.

    Where several hypotheses are asked for, each has a line of its own: the number of its text, its rank score and
    itself, between tabs; empty and failed lines have none. With --json they are in the one line.

    With --stream, a text keeps its line breaks, and what is final of it is printed at once: of one hypothesis alone,
    but with --json.
    """
    if stream and several(decoding) and not as_json:
        raise InvalidArgument([_widening(decoding)])
    stdin = None if texts else standard_input()
    asked: dict[str, Any] = {
        "target": target,
        "source": source,
        "model": model,
        "segmentation": cast(Segmentation | None, segmentation),
        "priority": priority,
        **decoding,
    }
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect())
        if stream:
            if not print_streamed(client, texts or [document(stdin or sys.stdin.buffer)], asked, as_json):
                raise typer.Exit(1)
            return
        lines = iter(texts or ()) if stdin is None else read_lines(stdin)
        total = len(texts or ()) if stdin is None else count_lines(stdin)
        advance = stack.enter_context(progress_bar("translating", total))
        results = client.translate_many(map(worth_sending, lines), return_errors=True, **asked)
        outcomes = stack.enter_context(contextlib.closing(results))
        label = "" if total == 1 and stdin is None else "text " if stdin is None else "line "
        each_its_line = several(decoding) and not as_json
        failed = False
        for number, result in enumerate(outcomes, start=1):
            if isinstance(result, DragomanError) and result is not BLANK:
                failed = True
                report(result, f"{label}{number}: " if label else "")
                if concerns_all(result, _OF_A_TEXT):
                    break
            sys.stdout.write(numbered(result, number) if each_its_line else rendered(result, as_json) + "\n")
            sys.stdout.flush()
            advance()
    if failed:
        raise typer.Exit(1)


def worth_sending(line: str | InvalidArgument) -> str | DragomanError:
    """The line, or what stands for one that needs no server."""
    return BLANK if isinstance(line, str) and not line.strip() else line


def document(stream: BinaryIO) -> str:
    """All of the stream as one text; raises InvalidArgument for one that is none."""
    raw = stream.read(MAX_DOCUMENT_BYTES + 1)
    if len(raw) > MAX_DOCUMENT_BYTES:
        fault = Violation("text", f"more than {MAX_DOCUMENT_BYTES} bytes", f"at most {MAX_DOCUMENT_BYTES} bytes")
        raise InvalidArgument([fault])
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument([not_utf8(raw, error)]) from None


def _widening(decoding: Decoding) -> Violation:
    """The fault of what asks for several hypotheses where there is room for one."""
    alternatives, limit = decoding.get("alternatives"), "1 hypothesis with --stream, or --json with it"
    if alternatives is None:
        return Violation("options.num_hypotheses", str(decoding.get("num_hypotheses")), limit)
    return Violation("options.alternatives", str(alternatives), limit)


def print_streamed(client: Client, texts: Sequence[str], asked: dict[str, Any], as_json: bool) -> bool:
    """Print each text's final part as it grows; with JSON, a line for each chunk. Returns whether none has failed."""
    failed = False
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            sys.stdout.write(rendered(BLANK, as_json) + "\n")
            continue
        printed = ""
        try:
            for chunk in client.stream_translate(text, **asked):
                if as_json:
                    sys.stdout.write(json.dumps(asdict(chunk), ensure_ascii=False) + "\n")
                else:
                    sys.stdout.write(chunk.final_text[len(printed) :])
                printed = chunk.final_text
                sys.stdout.flush()
        except DragomanError as error:
            failed, printed = True, ""
            report(error, f"text {number}: " if len(texts) > 1 else "")
            if concerns_all(error, _OF_A_TEXT):
                break
            sys.stdout.write("null" if as_json else "")
        if not (as_json and printed) and not printed.endswith("\n"):
            sys.stdout.write("\n")
    return not failed


def rendered(result: Translation | DragomanError, as_json: bool) -> str:
    """The one line that stands for a text's translation."""
    if not isinstance(result, Translation):
        return "null" if as_json else ""
    if as_json:
        return json.dumps({"text": result.text, **asdict(result)}, ensure_ascii=False)
    return one_line(result.text)


def numbered(result: Translation | DragomanError, number: int) -> str:
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


def concerns_all(error: DragomanError, own_fields: Collection[str]) -> bool:
    """Whether the texts to come would fail in the same way: not where faults are in a text's own fields."""
    if isinstance(error, InvalidArgument):
        return any(violation.field.partition("[")[0] not in own_fields for violation in error.violations)
    return isinstance(error, NotFound | PermissionDenied | Unauthenticated | Unavailable)


def standard_input() -> BinaryIO:
    """Stdin as bytes. Where it is a file, under a buffer of our own: the thread that reads it may outlive the command,
    and Python's own buffer, locked by it, would stop the interpreter from exiting.
    """
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:
        return sys.stdin.buffer
