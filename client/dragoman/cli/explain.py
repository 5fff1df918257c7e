"""``dragoman explain``: the attention behind one answer, in the terminal, as a page, as a picture or as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from dragoman.cli.attention_page import page
from dragoman.cli.attention_picture import write_picture
from dragoman.cli.attention_text import rendered
from dragoman.cli.common import DEFAULT_SERVER, DEFAULT_TIMEOUT, Json, Model, Priority, Server, Timeout, connect
from dragoman.errors import InvalidArgument, Violation
from dragoman.explaining import AggregationName
from dragoman.explaining_values import Explanation

_SUFFIXES = (".html", ".htm", ".png")


def explain(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the model reads.")],
    translation: Annotated[
        str | None,
        typer.Argument(metavar="[TRANSLATION]", help="What TEXT becomes. None: what the model makes of it."),
    ] = None,
    *,
    pair: Annotated[str | None, typer.Option("--pair", metavar="TEXT", help="Second text, for an encoder.")] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="LANGUAGE", help="Translate into this, such as de.")
    ] = None,
    source: Annotated[str | None, typer.Option("--source", metavar="LANGUAGE", help="The text's own.")] = None,
    model: Model = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", metavar="N", help="Of a model that generates: 16 by default.")
    ] = None,
    layers: Annotated[str | None, typer.Option("--layers", metavar="N,...", help="Only these, from 0.")] = None,
    heads: Annotated[str | None, typer.Option("--heads", metavar="N,...", help="Only these, from 0.")] = None,
    aggregation: Annotated[
        str | None,
        typer.Option("--aggregation", metavar="none|mean-heads|mean|rollout", help="Make fewer maps of all."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="An .html page or a .png picture; -: the page to stdout."),
    ] = None,
    priority: Priority = None,
    as_json: Json = False,
    server: Server = DEFAULT_SERVER,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Show what a model attends to when it answers.

    Without --output, the words of a translation that stand for each other, or what each token looks at most. With it, a
    page to look at every layer and head in (one file that needs no network), or a picture (which needs the extra
    dragoman[plot]). --json prints tokens, alignment and all weights.
    """
    if output not in {None, "-"} and Path(str(output)).suffix.lower() not in _SUFFIXES:
        raise InvalidArgument([Violation("--output", repr(output), "a name that ends in .html or .png, or -")])
    in_short = output is None and not as_json
    with connect(server, timeout) as client:
        found = client.explain(
            text,
            translation=translation,
            text_pair=pair,
            target=target,
            source=source,
            model=model,
            max_new_tokens=max_new_tokens,
            layers=_numbers("--layers", layers),
            heads=_numbers("--heads", heads),
            # The terminal shows the alignment, or the mean: the rest need not travel.
            aggregation=cast(
                AggregationName | None,
                "mean" if in_short and not (layers or heads or aggregation) else aggregation,
            ),
            priority=priority,
        )
    if output is not None:
        _write(found, output)
    if as_json:
        sys.stdout.write(json.dumps(record(found), ensure_ascii=False) + "\n")
    elif output is None:
        Console(markup=False, highlight=False, emoji=False).print(rendered(found))


def record(found: Explanation) -> dict[str, Any]:
    """An explanation for JSON."""
    values = {name: getattr(found, name) for name in ("text", "text_pair", "target_text", "model", "model_version")}
    for name in ("source_tokens", "target_tokens", "alignment"):
        values[name] = [asdict(each) for each in getattr(found, name)]
    for kind in ("encoder_self", "decoder_self", "cross"):
        maps = getattr(found, kind)
        values[kind] = (
            None
            if maps is None
            else {
                "layers": maps.layers,
                "heads": maps.heads,
                "shape": maps.shape,
                "weights": maps.tolist(),
            }
        )
    return {**values, "usage": asdict(found.usage), "receipt": asdict(found.receipt)}


def _write(found: Explanation, output: str) -> None:
    if output == "-":
        sys.stdout.write(page(found))
        return
    path = Path(output)
    try:
        if path.suffix.lower() == ".png":
            write_picture(found, path)
        else:
            path.write_text(page(found), encoding="utf-8")
    except ModuleNotFoundError as error:
        typer.echo(
            f"dragoman explain: {error.name} is not installed; this brings it: pip install 'dragoman[plot]'", err=True
        )
        raise typer.Exit(2) from None
    except OSError as error:
        raise InvalidArgument(
            [Violation("--output", repr(output), f"a file that can be written ({error.strerror})")]
        ) from None
    except ValueError as error:
        limit = "fewer of them: --layers, --heads or --aggregation"
        raise InvalidArgument([Violation("--output", str(error), limit)]) from None
    typer.echo(str(path), err=True)


def _numbers(name: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidArgument([Violation(name, repr(text), "whole numbers between commas, such as 0,2")]) from None
