"""Values to messages and back."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dragoman import FinishReason, InternalError, InvalidArgument, Receipt, wire
from dragoman_protos.v1 import inference_pb2


def request(**changes: Any) -> inference_pb2.TranslateRequest:
    named = {name: changes.pop(name, None) for name in ("source", "model")}
    text, target = changes.pop("text", "hello"), changes.pop("target", "de")
    return wire.translate_request(text, target=target, decoding=changes, **named)  # type: ignore[arg-type]


def test_what_is_not_asked_for_is_not_sent() -> None:
    assert request() == inference_pb2.TranslateRequest(text="hello", target_language="de")
    assert not request().HasField("options")


def test_every_argument_reaches_its_field() -> None:
    assert request(source="en", model="deu-eng", max_length=7) == inference_pb2.TranslateRequest(
        text="hello",
        target_language="de",
        source_language="en",
        model="deu-eng",
        options=inference_pb2.DecodingOptions(max_length=7),
    )


def test_ranges_are_left_to_the_server() -> None:
    assert request(text="", target="", max_length=0).options.max_length == 0


def test_all_misfits_are_told_at_once() -> None:
    with pytest.raises(InvalidArgument) as caught:
        request(text=None, target=3, source=b"en", model="\ud800", max_length=-1)
    fields = [v.field for v in caught.value.violations]
    assert fields == ["text", "target_language", "source_language", "model", "options.max_length"]


@pytest.mark.parametrize("max_length", [-1, 2**32, 1.5, "7", True])
def test_max_length_must_fit_its_type(max_length: object) -> None:
    with pytest.raises(InvalidArgument, match=r"options\.max_length"):
        request(max_length=max_length)


def test_long_values_are_shortened_in_the_violation() -> None:
    with pytest.raises(InvalidArgument) as caught:
        request(text=["x" * 1000])
    assert len(caught.value.violations[0].value) == 60


@pytest.mark.parametrize("timeout", [0, -1.0, math.inf, math.nan, "5"])
def test_timeouts_that_cannot_work(timeout: Any) -> None:
    with pytest.raises(InvalidArgument, match="timeout"):
        wire.timeout_seconds(timeout, 30.0)


def test_a_timeout_outranks_the_default() -> None:
    assert wire.timeout_seconds(None, 30.0) == 30.0
    assert wire.timeout_seconds(2, 30.0) == 2.0


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True])
def test_windows_that_cannot_work(concurrency: Any) -> None:
    with pytest.raises(InvalidArgument, match="concurrency"):
        wire.window_size(concurrency)


def test_a_translation_is_its_best_hypothesis() -> None:
    response = inference_pb2.TranslateResponse(
        hypotheses=[
            inference_pb2.Hypothesis(
                text="Hallo",
                tokens=["Hal", "lo"],
                score=-1.5,
                token_log_probs=[-0.5, -0.5, -0.5],
                finish_reason=inference_pb2.FINISH_REASON_STOP,
                rank_score=-0.5,
            ),
            inference_pb2.Hypothesis(
                text="Hall", tokens=["Hall"], score=-2.0, finish_reason=inference_pb2.FINISH_REASON_LENGTH
            ),
        ],
        usage=inference_pb2.Usage(source_tokens=4, target_tokens=5),
        model="deu-eng",
        model_version="1",
    )
    t = wire.translation(response, [("dragoman-queue-ms", "0.25"), ("dragoman-precision", "int8"), ("x-bin", b"\0")])
    assert (t.text, t.tokens, t.score, t.finish_reason) == ("Hallo", ("Hal", "lo"), -1.5, FinishReason.STOP)
    assert str(t) == "Hallo"
    assert t.hypotheses[0].rank_score == -0.5
    assert t.hypotheses[1].finish_reason is FinishReason.LENGTH
    assert (t.usage.source_tokens, t.usage.target_tokens, t.model, t.model_version) == (4, 5, "deu-eng", "1")
    assert t.receipt == Receipt(queue_ms=0.25, precision="int8")


def test_an_unknown_finish_reason_is_unspecified() -> None:
    hypothesis = inference_pb2.Hypothesis.FromString(b"\x28\x63")  # finish_reason = 99
    response = inference_pb2.TranslateResponse(hypotheses=[hypothesis])
    assert wire.translation(response, ()).finish_reason is FinishReason.UNSPECIFIED


def test_an_answer_without_hypotheses_breaks_the_protocol() -> None:
    with pytest.raises(InternalError, match="hypothesis"):
        wire.translation(inference_pb2.TranslateResponse(), ())


def test_a_whole_receipt() -> None:
    assert wire.receipt(
        [
            ("dragoman-queue-ms", "1.5"),
            ("dragoman-encode-ms", "2.5"),
            ("dragoman-steps", "12"),
            ("dragoman-batch-mean", "3.25"),
            ("dragoman-precision", "int8"),
            ("dragoman-lane", "1"),
        ]
    ) == Receipt(1.5, 2.5, 12, 3.25, "int8", 1)


def test_a_torn_receipt_does_not_spoil_the_answer() -> None:
    assert wire.receipt([("dragoman-queue-ms", "soon"), ("dragoman-steps", "1.5")]) == Receipt()
