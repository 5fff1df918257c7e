"""What ``dragoman verify`` says of a bundle, and the checks that every family makes alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dragoman_export.certificate import MAX_LOGIT_DIFFERENCE, find_misses
from dragoman_export.loading import load_served
from dragoman_export.shared_embedding import with_weights
from dragoman_model.checkpoint import TrainedModel
from dragoman_model.families import ServedModel
from dragoman_protos.v1.bundle_pb2 import Bundle, Measurement
from dragoman_server.bundle import LoadedBundle, load_bundle
from dragoman_server.machine import usable_cores
from dragoman_server.progress import Stages

# Another processor or version rounds the float32 parts differently, and a near tie may fall the other way.
SCORE_TOLERANCE = 0.1
SHARE_TOLERANCE = 0.01
PROBES_TOLERANCE = 2
_INT8_LOGIT_FACTOR, _INT8_LOGIT_MARGIN = 1.2, 0.05


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was to be found, what was, and whether that is near enough."""

    name: str
    expected: str
    found: str
    good: bool


@dataclass(frozen=True)
class Verification:
    """All faults of the folder and all checks; checks are made only where there are no faults."""

    faults: list[str]
    checks: list[Check]

    @property
    def good(self) -> bool:
        """Whether everything agrees."""
        return not self.faults and all(check.good for check in self.checks)


@dataclass(frozen=True)
class Subject:
    """A sound bundle that is verified, and what it is held against."""

    path: Path
    manifest: Bundle
    loaded: Mapping[str, LoadedBundle]
    """By precision."""
    data: Sequence[Path]
    """The certificate's test set; none: its figures are not measured again."""
    trained: TrainedModel[ServedModel] | None
    """The model that was exported; None: PyTorch's side is not measured again."""
    stages: Stages
    threads: int

    def measurement(self, precision: str) -> Measurement | None:
        """What was certified of the precision."""
        return next((m for m in self.manifest.certificate.measurements if m.precision == precision), None)


def open_subject(
    path: Path, manifest: Bundle, data: Sequence[Path], checkpoint: Path | None, stages: Stages
) -> Subject:
    """Load the bundle in all its precisions, and the checkpoint; CheckpointError where that is none."""
    loaded = {precision: load_bundle(path, precision) for precision in sorted(manifest.precisions)}
    trained = None if checkpoint is None else load_served(checkpoint)
    threads = min(usable_cores(), torch.get_num_threads())
    return Subject(path, manifest, loaded, data, trained, stages, threads)


def certificate_checks(subject: Subject) -> Iterator[Check]:
    """The files, the certificate's limits, and whether the graphs are those that were measured."""
    manifest = subject.manifest
    yield Check("integrity", "as listed", f"{len(manifest.files)} files", good=True)
    misses = list(find_misses(manifest.certificate.measurements))
    yield Check("certificate's limits", "met", "; ".join(misses) or "met", good=not misses)
    hashes = {file.path: file.sha256 for file in manifest.files}
    for precision, loaded in subject.loaded.items():
        measured = subject.measurement(precision)
        paths = [path.relative_to(subject.path).as_posix() for path in with_weights(loaded.graphs.values())]
        same = measured is not None and all(measured.graph_sha256.get(path) == hashes[path] for path in paths)
        found = "the same" if same else "others, or none"
        yield Check(f"{precision}: graphs that were measured", "the same", found, good=same)


def checkpoint_check(manifest: Bundle, trained: TrainedModel[ServedModel]) -> Check:
    """Whether the checkpoint is the one that was exported."""
    wanted = manifest.provenance.checkpoint_sha256
    return Check("checkpoint", wanted[:16], trained.sha256[:16], good=wanted == trained.sha256)


def data_check(manifest: Bundle, sha256: str) -> Check:
    """Whether the data are those that the certificate was measured on."""
    wanted = manifest.certificate.test_set.sha256
    return Check("test set", wanted[:16], sha256[:16], good=wanted == sha256)


def logit_limit(precision: str, known: float) -> float:
    """What the largest logit difference must stay below, where ``known`` was measured before."""
    return MAX_LOGIT_DIFFERENCE if precision == "fp32" else _INT8_LOGIT_FACTOR * known + _INT8_LOGIT_MARGIN
