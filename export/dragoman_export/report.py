"""Tables for people: what an export measured, what a verification found, how an evaluation went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dragoman_export.checks import Verification
from dragoman_export.evaluation import Evaluation
from dragoman_export.export_job import ExportResult
from dragoman_server.inspection import rendered


def result_tables(output: Path, result: ExportResult) -> RenderableType:
    """The bundle's facts, its certificate, and the sentences on which precisions and PyTorch part."""
    parts: list[RenderableType] = [rendered(result.manifest), Text(f"int8: {result.quantization}")]
    for measured in result.manifest.certificate.measurements:
        if measured.precision == "fp32" and measured.ties:
            table = Table("line", "direction", "gap of the logits", title="fp32: where it parts from PyTorch")
            for tie in measured.ties:
                table.add_row(str(tie.line), tie.direction, f"{tie.logit_gap:.2g}")
            parts.append(table)
    parts.append(Text(f"written: {output}"))
    return Group(*parts)


def verification_table(verification: Verification) -> RenderableType:
    """One line for each check."""
    table = Table("check", "expected", "found", "", box=None)
    for check in verification.checks:
        table.add_row(check.name, check.expected, check.found, "ok" if check.good else "FAIL")
    return table


def evaluation_table(results: Sequence[Evaluation]) -> RenderableType:
    """One line for each direction, and the signatures that the scores were taken with."""
    table = Table("direction", "BLEU", "chrF", "WER", "sentences", "sentences/s", "tokens/s", box=None)
    for result in results:
        scores = result.scores
        table.add_row(
            str(result.direction),
            *(f"{score:.2f}" for score in (scores.bleu, scores.chrf, scores.wer)),
            f"{result.sentences:,}",
            f"{result.sentences_per_second:,.0f}",
            f"{result.tokens_per_second:,.0f}",
        )
    lines = {f"BLEU {r.scores.bleu_signature}; chrF {r.scores.chrf_signature}" for r in results}
    shortened = sum(result.shortened for result in results)
    if shortened:
        lines.add(f"{shortened} sentences were cut to the longest source that the model takes")
    return Group(table, *(Text(line) for line in sorted(lines)))
