"""``dragoman models``: what a server serves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict

from dragoman.cli.common import Json
from dragoman.cli.connecting import Connect, connecting
from dragoman.values import Model, ModelDetails


@connecting
def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Show this model alone, in full; NAME@VERSION for a certain version."),
    ] = None,
    *,
    as_json: Json = False,
    connect: Connect,
) -> None:
    """List the models that a server serves, or show one."""
    with connect() as client:
        if name is None:
            served = client.models()
            lines = [json.dumps([record(m) for m in served], ensure_ascii=False)] if as_json else table(served)
        else:
            details = client.model(name)
            lines = [json.dumps(record(details), ensure_ascii=False)] if as_json else description(details)
    for line in lines:
        typer.echo(line)


def record(model: Model) -> dict[str, Any]:
    """A model for JSON; with its bundle, in the form of bundle.json, where there is one."""
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    if isinstance(model, ModelDetails):
        values["bundle"] = MessageToDict(model.bundle)
    return values


def table(served: Sequence[Model]) -> list[str]:
    """Aligned columns, a line for each model; the default one is starred."""
    rows = [("NAME", "VERSION", "FAMILY", "TASKS", "LANGUAGES", "PRECISION", "PROVIDER", "LANES", "ROWS", "STATE")]
    for model in served:
        tasks, languages = ",".join(model.tasks), ",".join(model.languages)
        name = model.name + ("*" if model.default else "")
        kind = (name, model.version, model.family, tasks, languages)
        sizes = (str(model.lanes), str(model.max_rows)) if model.lanes else ("", "")
        rows.append((*kind, model.precision, model.provider, *sizes, model.state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return lines + [line for model in served for line in model.failure.splitlines()]


def description(model: ModelDetails) -> list[str]:
    """One model, a line for each thing to know."""
    bundle = model.bundle
    facts = {
        "name": model.name + (" (default)" if model.default else ""),
        "version": model.version,
        "description": bundle.description,
        "family": model.family,
        "tasks": ", ".join(model.tasks),
        "languages": ", ".join(f"{lang.code} ({lang.name})" for lang in bundle.languages),
        "parameters": f"{bundle.dimensions.parameters:,}",
        "limits": f"{bundle.limits.source_tokens} source tokens, {bundle.limits.target_tokens} target tokens",
        "precision": model.precision,
        "provider": model.provider,
        "lanes": f"{model.lanes}, {model.max_rows} rows each",
        "licence": bundle.provenance.licence,
        "attribution": bundle.provenance.attribution,
    }
    for measurement in bundle.certificate.measurements:
        for quality in measurement.quality:
            facts[f"{measurement.precision} {quality.direction} {quality.decoding}"] = (
                f"BLEU {quality.bleu:.1f}, chrF {quality.chrf:.1f}"
            )
    width = max(map(len, facts))
    return [f"{key.ljust(width)}  {value}" for key, value in facts.items() if value]
