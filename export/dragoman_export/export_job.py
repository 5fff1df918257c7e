"""One export: what was asked for, and what all families need to do it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from dragoman_export.bundle_writer import refuse_existing
from dragoman_export.loading import load_served
from dragoman_export.shared_embedding import TABLE, SharedEmbedding, shared_embedding
from dragoman_model.checkpoint import CheckpointError, ModelT, TrainedModel
from dragoman_model.families import ServedModel
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.machine import usable_cores
from dragoman_server.progress import Stages

PRECISIONS = ("fp32", "int8", "fp16")


class ExportError(Exception):
    """The request does not fit the checkpoint."""


@dataclass(frozen=True)
class ExportOptions:
    """What to export, where to, and what to measure it on. None: what the checkpoint's recipe says."""

    checkpoint: Path
    output: Path
    data: Sequence[Path]
    calibration: Sequence[Path]
    columns: tuple[str, str] | None = None
    name: str | None = None
    precisions: Sequence[str] = ("int8",)
    source_tokens: int | None = None
    target_tokens: int | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ExportResult:
    """The bundle that was written, and how its int8 graphs came about, in words."""

    manifest: Bundle
    quantization: str


@dataclass(frozen=True)
class ExportJob:
    """An export under way."""

    options: ExportOptions
    stages: Stages
    trained: TrainedModel[ServedModel]
    folder: Path
    """For what is made on the way; gone afterwards."""
    threads: int
    """For sessions that measure."""
    shared: SharedEmbedding | None
    """The embedding's table that the int8 graphs and explain.onnx read; None: each holds its own."""

    @property
    def shared_files(self) -> dict[str, Path]:
        """What the shared table adds to a bundle's files."""
        return {} if self.shared is None else {TABLE: self.shared.path}

    @property
    def name(self) -> str:
        """Of the bundle."""
        return self.options.name or self.trained.provenance.name


def trained_as(trained: TrainedModel[ServedModel], kind: type[ModelT]) -> TrainedModel[ModelT]:
    """The same, known to be a model of that kind; CheckpointError where it is of another."""
    model = trained.model
    if not isinstance(model, kind):
        raise CheckpointError(f"the checkpoint holds a {type(model).__name__}, and a {kind.__name__} is needed")
    return TrainedModel(model, trained.tokenizer, trained.provenance, trained.sha256)


@contextmanager
def open_job(options: ExportOptions, stages: Stages) -> Iterator[ExportJob]:
    """Check what can be checked before anything is computed, and load the checkpoint.

    Raises ExportError, BundleExistsError, and the checkpoint's errors.
    """
    unknown = sorted(set(options.precisions) - set(PRECISIONS))
    if unknown or not options.precisions:
        raise ExportError(f"precision = {','.join(options.precisions)}: one or more of {', '.join(PRECISIONS)}")
    refuse_existing(options.output, overwrite=options.overwrite)
    trained = load_served(options.checkpoint)
    threads = min(usable_cores(), torch.get_num_threads())
    with tempfile.TemporaryDirectory(prefix="dragoman-export-") as folder:
        shared = shared_embedding(trained.model, options.precisions, Path(folder))
        yield ExportJob(options, stages, trained, Path(folder), threads, shared)
