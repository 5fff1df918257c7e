from __future__ import annotations

import math

import pytest

from dragoman_export.certificate import CertificateError, find_misses, issue, judge, quality_of
from dragoman_protos.v1 import bundle_pb2
from dragoman_protos.v1.bundle_pb2 import Measurement, Quality


def measurement(
    precision: str = "fp32", loss: float = 0.0, difference: float = 2e-5, identical: float = 1.0
) -> Measurement:
    return Measurement(
        precision=precision,
        max_logit_difference=difference,
        parity_sentences=500,
        identical_greedy=identical,
        quality=[
            Quality(direction="en-de", decoding="greedy", bleu_pytorch=30.0, bleu=30.0 - loss),
            Quality(direction="de-en", decoding="greedy", bleu_pytorch=40.0, bleu=40.4),
        ],
    )


def test_good_measurements_pass() -> None:
    judge([measurement(), measurement("int8", loss=0.29, difference=0.5, identical=0.9)])


@pytest.mark.parametrize("difference", [1e-3, 0.5, math.inf, math.nan])
def test_float_logits_too_far_off_miss(difference: float) -> None:
    (miss,) = find_misses([measurement(difference=difference)])
    assert "largest logit difference" in miss
    assert "0.001" in miss


def test_float16_has_limits_of_its_own() -> None:
    judge([measurement("fp16", difference=0.19, identical=0.97)])
    first, second = find_misses([measurement("fp16", difference=0.21, identical=0.96)])
    assert "fp16: largest logit difference from PyTorch 0.21, must be below 0.2" in first
    assert "fp16: 96.00% of 500 greedy outputs are PyTorch's, must be at least 97.0%" in second


def test_all_misses_are_named_with_their_numbers() -> None:
    with pytest.raises(CertificateError) as caught:
        judge([measurement(difference=0.02, identical=0.98), measurement("int8", loss=0.31)])
    assert len(caught.value.misses) == 3
    text = str(caught.value)
    for part in ("0.02", "98.00% of 500", "99.5%", "int8: en-de greedy BLEU 29.69", "30.00", "0.3"):
        assert part in text


def test_a_score_that_is_no_number_misses() -> None:
    assert list(find_misses([measurement("int8", loss=math.nan)]))


def test_a_certificate_says_when_where_and_with_what() -> None:
    certificate = issue(bundle_pb2.TestSet(name="own", sha256="0" * 64, sentences=10), [measurement("int8")])
    assert certificate.measured_at.endswith("Z")
    assert certificate.machine
    assert {"python", "torch", "onnx", "onnxruntime", "tokenizers", "dragoman"} == set(certificate.versions)
    assert quality_of(certificate, "int8")["de-en", "greedy"].bleu == 40.4
    assert quality_of(certificate, "fp16") == {}
