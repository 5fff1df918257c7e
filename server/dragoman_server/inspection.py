"""A bundle's facts, checked and then laid out for reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from google.protobuf import json_format
from rich.console import Group, RenderableType
from rich.table import Table

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.bundle import MANIFEST, BundleError, load_bundle

_NAMES_SHOWN = 12


def checked_manifest(path: Path) -> Bundle:
    """The manifest of the bundle in folder ``path``, after checking it in every precision that it offers.

    Raises BundleError with every fault.
    """
    faults: list[str] = []
    manifest = Bundle()
    for precision in _offered(path):
        try:
            manifest = load_bundle(path, precision).manifest
        except BundleError as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise BundleError(path, faults)
    return manifest


def rendered(manifest: Bundle) -> RenderableType:
    """Tables of the facts and of what the certificate measured."""
    dimensions, limits, provenance = manifest.dimensions, manifest.limits, manifest.provenance
    facts = Table.grid(padding=(0, 2))
    megabytes = sum(file.bytes for file in manifest.files) / 1e6
    for label, value in (
        ("name", manifest.name),
        ("description", manifest.description),
        ("format version", str(manifest.format_version)),
        ("family", _enum_name(Bundle.Family.Name(manifest.family), "FAMILY_")),
        ("tasks", ", ".join(_enum_name(Bundle.Task.Name(task), "TASK_") for task in manifest.tasks)),
        ("languages", ", ".join(f"{language.name} ({language.code})" for language in manifest.languages)),
        ("precisions", ", ".join(sorted(manifest.precisions))),
        ("parameters", f"{dimensions.parameters:,}"),
        ("layers", _layers(manifest)),
        ("width", f"{dimensions.d_model}, {dimensions.num_heads} heads of {dimensions.head_dim}, ff {dimensions.d_ff}"),
        ("vocabulary", f"{dimensions.vocabulary:,} tokens"),
        ("longest source", f"{limits.source_tokens} tokens" if limits.source_tokens else ""),
        (_target_name(manifest), f"{limits.target_tokens} tokens" if limits.target_tokens else ""),
        *_heads(manifest),
        ("explained by", _explained(manifest)),
        ("size", f"{megabytes:.1f} MB in {len(manifest.files)} files"),
        ("licence", provenance.licence),
        ("attribution", provenance.attribution),
        ("trained on", provenance.training_data),
        ("recipe", f"{provenance.recipe}, {provenance.updates:,} updates" if provenance.recipe else ""),
    ):
        if value:
            facts.add_row(label, value)
    return Group(facts, *_measured(manifest)) if manifest.HasField("certificate") else facts


def _explained(manifest: Bundle) -> str:
    """The graph that gives the attention, and how far it is from PyTorch."""
    measured = manifest.certificate.attention
    if not manifest.explain or not measured.sentences:
        return manifest.explain
    return f"{manifest.explain}, weights within {measured.max_weight_difference:.1g} of PyTorch's"


def _target_name(manifest: Bundle) -> str:
    return "window" if manifest.family == Bundle.FAMILY_DECODER else "longest target"


def _layers(manifest: Bundle) -> str:
    counts = {"encoder": manifest.dimensions.encoder_layers, "decoder": manifest.dimensions.decoder_layers}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _heads(manifest: Bundle) -> Iterator[tuple[str, str]]:
    """What an encoder-only model says of texts; empty where it does not."""
    classifier, tags = manifest.classifier, manifest.tagger.tags
    shown = ", ".join(classifier.labels[:_NAMES_SHOWN]) + (", ..." if len(classifier.labels) > _NAMES_SHOWN else "")
    several = ", several at a time" if classifier.multi_label else ""
    pairs = ", of pairs of texts" if classifier.pairs else ""
    yield "labels", f"{len(classifier.labels)} labels{several}{pairs}: {shown}" if classifier.labels else ""
    threshold = classifier.out_of_scope_threshold
    refuses = classifier.HasField("out_of_scope_threshold")
    yield "out of scope", f"likeliest label below {threshold:.2g}" if refuses else ""
    yield "tags", f"{len(tags)} tags: {', '.join(tags)}" if tags else ""
    yield "embeddings", manifest.embedding_note


def _measured(manifest: Bundle) -> list[RenderableType]:
    certificate, test_set = manifest.certificate, manifest.certificate.test_set
    parts = "lines" if manifest.family == Bundle.FAMILY_DECODER else "texts"
    parity = Table(title=f"Compared with PyTorch, {certificate.measured_at}", title_justify="left")
    for column in ("precision", "provider", "largest logit difference", "same greedy output", "sentences"):
        parity.add_column(column)
    quality = Table(title=f"Quality on {test_set.name} ({test_set.sentences:,} sentences)", title_justify="left")
    for column in ("precision", "direction", "decoding", "BLEU", "PyTorch's", "chrF", "PyTorch's"):
        quality.add_column(column)
    metrics = Table(title=f"Measured on {test_set.name} ({test_set.sentences:,} {parts})", title_justify="left")
    for column in ("precision", "figure", "value", "PyTorch's"):
        metrics.add_column(column)
    for measured in certificate.measurements:
        parity.add_row(
            measured.precision,
            measured.provider,
            f"{measured.max_logit_difference:.2g}",
            f"{measured.identical_greedy:.1%}",
            str(measured.parity_sentences),
        )
        for score in measured.quality:
            figures = (score.bleu, score.bleu_pytorch, score.chrf, score.chrf_pytorch)
            quality.add_row(measured.precision, score.direction, score.decoding, *(f"{x:.1f}" for x in figures))
        for metric in measured.metrics:
            metrics.add_row(measured.precision, metric.name, f"{metric.value:.4f}", f"{metric.pytorch:.4f}")
    return [table for table in (parity, quality, metrics) if table.rows]


def _offered(path: Path) -> list[str]:
    """The precisions that the manifest names; where it cannot be read, one whose check will say why."""
    manifest = Bundle()
    try:
        text = (path / MANIFEST).read_text(encoding="utf-8")
        json_format.Parse(text, manifest, ignore_unknown_fields=True, max_recursion_depth=20)
    except (OSError, UnicodeDecodeError, json_format.ParseError):
        pass
    return sorted(manifest.precisions) or ["int8"]


def _enum_name(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", "-")
