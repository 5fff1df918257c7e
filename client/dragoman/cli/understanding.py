"""``dragoman classify``, ``tag``, ``fill-mask`` and ``embed``: filters, one text in, one line out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Any, TypeVar, cast

import typer

from dragoman.cli.common import Json, Model, Priority
from dragoman.cli.connecting import Connect, connecting
from dragoman.cli.filtering import run_filter
from dragoman.cli.lines import read_lines
from dragoman.cli.translate import standard_input
from dragoman.client import Client
from dragoman.errors import DragomanError, InvalidArgument, Violation
from dragoman.understanding import PoolingName
from dragoman.understanding_values import Classification, Embeddings, FilledMasks, Tagging

T = TypeVar("T")
R = TypeVar("R", Classification, Tagging, FilledMasks, Embeddings)

Texts = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="None: stdin by lines.", show_default=False)]
TopK = Annotated[int | None, typer.Option("--top-k", metavar="N", help="The N likeliest.", show_default=False)]


@connecting
def classify(
    texts: Texts = None,
    *,
    pairs: Annotated[bool, typer.Option("--pairs", help="Each text is two, parted by a tab.")] = False,
    model: Model = None,
    top_k: TopK = None,
    min_probability: Annotated[
        float | None, typer.Option("--min-probability", metavar="P", help="Only labels as probable.")
    ] = None,
    priority: Priority = None,
    as_json: Json = False,
    connect: Connect,
) -> None:
    """Label texts, or stdin line by line: the likeliest label and its probability, parted by a tab.

    With --top-k, so many labels, likeliest first, each before its probability. The line of a text that seems to belong
    to no label begins with a minus sign and a tab. A line that fails is told on stderr with its number, leaves an empty
    line in its place (with --json, null), and makes the exit code 1.
    """

    def ask(client: Client, given: tuple[str, str | None]) -> Classification:
        return client.classify(
            given[0],
            text_pair=given[1],
            model=model,
            top_k=top_k or (None if as_json else 1),
            min_probability=min_probability,
            priority=priority,
        )

    def render(result: Classification) -> str:
        cells = ["-"] if result.out_of_scope else []
        return "\t".join(
            cells + [cell for label in result.labels for cell in (label.label, f"{label.probability:.4f}")]
        )

    def item(text: str) -> tuple[str, str | None] | DragomanError:
        first, tab, second = text.partition("\t") if pairs else (text, "", "")
        if pairs and not tab:
            return InvalidArgument([Violation("text", "one text", "two texts, parted by a tab")])
        return first, second if pairs else None

    _run("classify", texts, item, ask, render, connect, as_json)


@connecting
def tag(
    texts: Texts = None,
    *,
    model: Model = None,
    priority: Priority = None,
    as_json: Json = False,
    connect: Connect,
) -> None:
    """Label the words of texts, or of stdin line by line: each with its tag after a slash, between tabs.

    A line that fails is told on stderr with its number, leaves an empty line in its place (with --json, null), and
    makes the exit code 1.
    """

    def ask(client: Client, text: str) -> Tagging:
        return client.tag(text, model=model, priority=priority)

    def render(result: Tagging) -> str:
        return "\t".join(f"{span.text}/{span.tag}" for span in result.spans)

    _run("tag", texts, _same, ask, render, connect, as_json)


@connecting
def fill_mask(
    texts: Texts = None,
    *,
    model: Model = None,
    top_k: TopK = None,
    priority: Priority = None,
    as_json: Json = False,
    connect: Connect,
) -> None:
    """Say what may stand where texts, or the lines of stdin, have [MASK].

    For each mask, the likeliest entry of the vocabulary and its probability, parted by a tab; with --top-k, so many. A
    line that fails is told on stderr with its number, leaves an empty line in its place (with --json, null), and makes
    the exit code 1.
    """

    def ask(client: Client, text: str) -> FilledMasks:
        return client.fill_mask(text, model=model, top_k=top_k or (None if as_json else 1), priority=priority)

    def render(result: FilledMasks) -> str:
        found = [candidate for mask in result.masks for candidate in mask.candidates]
        return "\t".join(cell for c in found for cell in (c.text.strip(), f"{c.probability:.4f}"))

    _run("fill-mask", texts, _same, ask, render, connect, as_json)


@connecting
def embed(
    texts: Texts = None,
    *,
    model: Model = None,
    pooling: Annotated[
        str | None,
        typer.Option("--pooling", metavar="mean|cls", help="Mean over the tokens, or [CLS].", show_default=False),
    ] = None,
    normalise: Annotated[bool, typer.Option(help="Vectors of length 1.")] = True,
    priority: Priority = None,
    as_json: Json = False,
    connect: Connect,
) -> None:
    """Turn texts, or stdin line by line, into vectors: their numbers between tabs.

    A line that fails is told on stderr with its number, leaves an empty line in its place (with --json, null), and
    makes the exit code 1.
    """

    def ask(client: Client, text: str) -> Embeddings:
        chosen = cast(PoolingName | None, pooling)
        return client.embed([text], model=model, pooling=chosen, normalise=normalise, priority=priority)

    def render(result: Embeddings) -> str:
        return "\t".join(f"{value:.7g}" for value in result.vectors[0])

    _run("embed", texts, _same, ask, render, connect, as_json, own_fields=("text", "texts"))


def _same(text: str) -> str:
    return text


def _run(  # noqa: PLR0917  (what a filter consists of)
    name: str,
    texts: list[str] | None,
    item: Callable[[str], T | DragomanError],
    ask: Callable[[Client, T], R],
    render: Callable[[R], str],
    connect: Connect,
    as_json: bool,
    *,
    own_fields: tuple[str, ...] = ("text", "text_pair"),
) -> None:
    def printed(result: R) -> str:
        fields: dict[str, Any] = asdict(result)
        return json.dumps(fields, ensure_ascii=False) if as_json else render(result)

    def items(given: Iterable[str | DragomanError]) -> Iterator[T | DragomanError]:
        return (text if isinstance(text, DragomanError) else item(text) for text in given)

    run_filter(
        name,
        items(texts if texts else read_lines(standard_input())),
        ask,
        printed,
        connect,
        label="line" if not texts else "text" if len(texts) > 1 else "",
        failed_line="null" if as_json else "",
        own_fields=own_fields,
    )
