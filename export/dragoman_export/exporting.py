"""``dragoman export``: from a checkpoint to a bundle whose certificate was measured, or to the reasons why not."""

from __future__ import annotations

from dragoman_export.export_job import ExportOptions, ExportResult, open_job
from dragoman_export.exporting_encoder import export_encoder
from dragoman_export.exporting_translation import export_translation
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.text_encoder import TextEncoder
from dragoman_server.progress import Stages


def export_bundle(options: ExportOptions, stages: Stages) -> ExportResult:
    """Export, quantise, measure, judge, write: each family in its own way.

    Raises CertificateError (nothing is written), BundleExistsError, ExportError, and the errors of checkpoint and data.
    """
    with open_job(options, stages) as job:
        trained, model = job.trained, job.trained.model
        if isinstance(model, TextEncoder):
            return export_encoder(job, TrainedModel(model, trained.tokenizer, trained.provenance, trained.sha256))
        return export_translation(job)
