"""What a bundle must reach to be written, and the certificate that it carries."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dragoman_protos.v1.bundle_pb2 import Certificate, Measurement, Quality, TestSet

MAX_LOGIT_DIFFERENCE = 1e-3
MIN_IDENTICAL = 0.995
LIMITS = {"fp32": (MAX_LOGIT_DIFFERENCE, MIN_IDENTICAL), "fp16": (0.2, 0.97)}
"""Precisions that must be near to PyTorch token by token: below which difference of logits, and which share of
identical greedy outputs at least. float16 has 11 bits: a logit of 16 is known to 0.008 after a single rounding."""
MAX_BLEU_LOSS = 0.3
GREEDY = "greedy"
BEAM_SIZE = 4
BEAM = f"beam {BEAM_SIZE}"
PYTORCH = "pytorch"
"""The precision under which PyTorch's own figures stand, beam search included."""


class CertificateError(Exception):
    """The measured graphs miss their limits; ``misses`` lists all, with numbers."""

    def __init__(self, misses: list[str]) -> None:
        self.misses = misses
        super().__init__("the certificate's limits are missed:\n" + "\n".join(f"  {miss}" for miss in misses))


def find_misses(measurements: Iterable[Measurement]) -> Iterator[str]:
    """Every limit that is missed.

    fp32 and fp16: logits and greedy outputs. Every precision: BLEU no more than 0.3 below PyTorch's. A NaN misses.
    """
    for measured in measurements:
        if measured.precision in LIMITS:
            most, least = LIMITS[measured.precision]
            if not measured.max_logit_difference < most:
                yield (
                    f"{measured.precision}: largest logit difference from PyTorch "
                    f"{measured.max_logit_difference:.3g}, must be below {most:g}"
                )
            if not measured.identical_greedy >= least:
                yield (
                    f"{measured.precision}: {measured.identical_greedy:.2%} of {measured.parity_sentences} greedy "
                    f"outputs are PyTorch's, must be at least {least:.1%}"
                )
        yield from bleu_misses(measured)


def bleu_misses(measured: Measurement) -> Iterator[str]:
    """Directions whose BLEU is too far below PyTorch's."""
    for quality in measured.quality:
        loss = quality.bleu_pytorch - quality.bleu
        if math.isnan(loss) or loss > MAX_BLEU_LOSS:
            yield (
                f"{measured.precision}: {quality.direction} {quality.decoding} BLEU {quality.bleu:.2f}, "
                f"PyTorch's is {quality.bleu_pytorch:.2f}, must be at most {MAX_BLEU_LOSS} below"
            )


def judge(measurements: Iterable[Measurement]) -> None:
    """Raise CertificateError where a limit is missed."""
    misses = list(find_misses(measurements))
    if misses:
        raise CertificateError(misses)


def issue(test_set: TestSet, measurements: Iterable[Measurement]) -> Certificate:
    """The certificate, dated now, with this machine's name and the versions that measured."""
    return Certificate(
        measured_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        versions=_versions(),
        machine=_processor(),
        test_set=test_set,
        measurements=measurements,
    )


def quality_of(certificate: Certificate, precision: str) -> dict[tuple[str, str], Quality]:
    """What was certified of one precision, by direction and decoding."""
    return {
        (quality.direction, quality.decoding): quality
        for measured in certificate.measurements
        if measured.precision == precision
        for quality in measured.quality
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("torch", "onnx", "onnxruntime", "tokenizers", "dragoman"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
