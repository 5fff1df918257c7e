"""The step of every export that writes explain.onnx, and the checks of every verification that look at it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dragoman_export.certificate import CertificateError
from dragoman_export.checks import Check, Subject
from dragoman_export.explain_graph import export_explain
from dragoman_export.explain_parity import ATTENTION_INPUTS, attention_misses, measure_attention
from dragoman_export.export_job import ExportJob
from dragoman_export.sentences import spread
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.explaining.graph import ExplainInput
from dragoman_server.explaining.signature import EXPLAIN


def add_explain(job: ExportJob, manifest: Bundle, inputs: Sequence[ExplainInput]) -> dict[str, Path]:
    """Export, measure on some of ``inputs`` and judge; returns what ``write_bundle`` takes as files.

    ``manifest``, whose certificate has been issued, is told of it. Raises CertificateError where a limit is missed.
    """
    model = job.trained.model
    chosen = [inputs[number] for number in spread(len(inputs), ATTENTION_INPUTS)]
    with job.stages.stage("attention", total=len(chosen)) as advance:
        path = export_explain(model, job.folder / EXPLAIN, shared=job.shared)
        measured = measure_attention(model, path, chosen, advance=advance)
    if misses := list(attention_misses(measured)):
        raise CertificateError(misses)
    manifest.explain = EXPLAIN
    manifest.certificate.attention.CopyFrom(measured)
    return {EXPLAIN: path}


def attention_checks(subject: Subject, inputs: Sequence[ExplainInput]) -> Iterator[Check]:
    """Nothing where the bundle has no such graph. PyTorch's side is looked at where there is a checkpoint."""
    manifest = subject.manifest
    if not manifest.explain:
        return
    known = manifest.certificate.attention
    misses = "; ".join(attention_misses(known))
    yield Check("attention: certificate's limits", "met", misses or "met", good=not misses)
    model = None if subject.trained is None else subject.trained.model
    with subject.stages.stage("attention", total=len(inputs)) as advance:
        found = measure_attention(model, subject.path / manifest.explain, inputs, advance=advance)
    same = found.graph_sha256 == known.graph_sha256
    yield Check("attention: graph that was measured", "the same", "the same" if same else "another", good=same)
    compared = "" if model is None else f", largest difference from PyTorch {found.max_weight_difference:.2g}"
    misses = "; ".join(attention_misses(found))
    yield Check(
        f"attention: weights of {len(inputs)} probes",
        "limits met",
        misses or f"sums within {found.max_sum_error:.2g} of 1{compared}",
        good=not misses,
    )
