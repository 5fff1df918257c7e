"""``dragoman verify``: is the bundle what it says, and does it still do what its certificate says?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dragoman_export.checks import Check, Subject, Verification, certificate_checks, open_subject
from dragoman_export.verification_encoder import encoder_checks
from dragoman_export.verification_generation import generation_checks
from dragoman_export.verification_translation import translation_checks
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.bundle import BundleError
from dragoman_server.inspection import checked_manifest
from dragoman_server.progress import Stages

_CHECKS: dict[Bundle.Family.ValueType, Callable[[Subject], Iterator[Check]]] = {
    Bundle.FAMILY_ENCODER_DECODER: translation_checks,
    Bundle.FAMILY_DECODER: generation_checks,
    Bundle.FAMILY_ENCODER: encoder_checks,
}


def verify(bundle: Path, data: Sequence[Path] = (), checkpoint: Path | None = None, *, stages: Stages) -> Verification:
    """Check integrity, then the probes; with ``data`` the certificate's figures, with ``checkpoint`` PyTorch's too.

    ProbesError where parity.json cannot be read, and the errors of checkpoint and data.
    """
    try:
        manifest = checked_manifest(bundle)
    except BundleError as error:
        return Verification(error.faults, [])
    subject = open_subject(bundle, manifest, data, checkpoint, stages)
    of_family = _CHECKS[manifest.family]
    return Verification([], [*certificate_checks(subject), *of_family(subject)])
