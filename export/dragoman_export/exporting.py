"""``dragoman export``: from a checkpoint to a bundle whose certificate was measured, or to the reasons why not."""

from __future__ import annotations

from dragoman_export.export_job import ExportOptions, ExportResult, open_job, trained_as
from dragoman_export.exporting_encoder import export_encoder
from dragoman_export.exporting_generation import export_generation
from dragoman_export.exporting_translation import export_translation
from dragoman_model.language_model import LanguageModel
from dragoman_model.text_encoder import TextEncoder
from dragoman_server.progress import Stages


def export_bundle(options: ExportOptions, stages: Stages) -> ExportResult:
    """Export, quantise, measure, judge, write: each family in its own way.

    Raises CertificateError (nothing is written), BundleExistsError, ExportError, and the errors of checkpoint and data.
    """
    with open_job(options, stages) as job:
        model = job.trained.model
        if isinstance(model, TextEncoder):
            return export_encoder(job, trained_as(job.trained, TextEncoder))
        if isinstance(model, LanguageModel):
            return export_generation(job, trained_as(job.trained, LanguageModel))
        return export_translation(job)
