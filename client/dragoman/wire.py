"""Between Python values and protobuf messages: pure functions, shared by both clients.

Only what a field's type needs is checked here (all faults at once); ranges are the server's to judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from dragoman.decoding import Decoding
from dragoman.errors import DragomanError, InternalError, InvalidArgument, Violation, item_error
from dragoman.faults import (
    NORMALISATIONS,
    SEGMENTATIONS,
    choice_faults,
    option_faults,
    priority_faults,
    shown,
    string_faults,
)
from dragoman.values import Chunk, FinishReason, Hypothesis, Receipt, Score, Segment, Translation, Usage
from dragoman_protos.v1 import inference_pb2

Segmentation = Literal["auto", "sentences", "none"]
"""How a text is split: "auto" and "sentences" into sentences, which are translated together, their white space kept;
"auto" leaves a single one, and any text with target_prefix or alternatives, as it is; "none" never splits."""
Metadata = Iterable[tuple[str, str | bytes]]
Number = TypeVar("Number", int, float)
MOST_CONCURRENCY = 65_536
"""Texts of one translate_many that are read ahead: each is held until its answer is taken."""

_FINISH_REASONS = {
    inference_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    inference_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    inference_pb2.FINISH_REASON_STOP_SEQUENCE: FinishReason.STOP_SEQUENCE,
}


def translate_request(
    text: str,
    *,
    target: str,
    source: str | None,
    model: str | None,
    decoding: Decoding,
    segmentation: str | None = None,
    priority: int | None = None,
) -> inference_pb2.TranslateRequest:
    """The message for one text.

    Raises TypeError for a keyword that is no option of decoding, and InvalidArgument for values that do not fit the
    fields' types.
    """
    options = given_options(decoding, Decoding)
    faults = [
        *string_faults("text", text),
        *string_faults("target_language", target),
        *string_faults("source_language", source or ""),
        *string_faults("model", model or ""),
        *choice_faults("segmentation", segmentation, SEGMENTATIONS),
        *priority_faults(priority),
        *(fault for name, value in options.items() for fault in option_faults(name, value)),
    ]
    if faults:
        raise InvalidArgument(faults)
    return inference_pb2.TranslateRequest(
        text=text,
        target_language=target,
        source_language=source or "",
        model=model or "",
        options=options_message(options),
        segmentation=SEGMENTATIONS[segmentation or "auto"],
        priority=priority or 0,
    )


def given_options(decoding: Mapping[str, Any], allowed: type) -> dict[str, Any]:
    """The options that are not None; raises TypeError for a keyword that is none of the ``allowed`` TypedDict's."""
    if unknown := sorted(decoding.keys() - allowed.__annotations__.keys()):
        raise TypeError(f"no such option of decoding: {', '.join(unknown)}")
    return {name: value for name, value in decoding.items() if value is not None}


def options_message(values: dict[str, Any]) -> inference_pb2.DecodingOptions | None:
    """The message for options that were looked at; None where there are none."""
    if not values:
        return None
    if "length_normalisation" in values:
        values = {**values, "length_normalisation": NORMALISATIONS[values["length_normalisation"]]}
    return inference_pb2.DecodingOptions(**values)


def with_text(template: inference_pb2.TranslateRequest, text: object) -> inference_pb2.TranslateRequest:
    """The same request for another text; raises InvalidArgument for what is no text."""
    if faults := string_faults("text", text):
        raise InvalidArgument(faults)
    request = inference_pb2.TranslateRequest()
    request.CopyFrom(template)
    request.text = text  # type: ignore[assignment]  # a string, as was just seen
    return request


def score_request(
    text: str,
    target: str,
    *,
    target_language: str | None,
    source_language: str | None,
    model: str | None,
    priority: int | None,
) -> inference_pb2.ScoreRequest:
    """The message that asks for the score of one translation; raises InvalidArgument."""
    strings = {
        "text": text,
        "target": target,
        "target_language": target_language or "",
        "source_language": source_language or "",
        "model": model or "",
    }
    faults = [fault for name, value in strings.items() for fault in string_faults(name, value)]
    if faults := [*faults, *priority_faults(priority)]:
        raise InvalidArgument(faults)
    return inference_pb2.ScoreRequest(**strings, priority=priority or 0)


def timeout_seconds(timeout: float | None, default: float) -> float:
    """The call's timeout; every call has one, so that none can hang."""
    if timeout is None:
        return default
    if not (isinstance(timeout, int | float) and math.isfinite(timeout) and timeout > 0):
        raise InvalidArgument([Violation("timeout", shown(timeout), "a finite number of seconds, more than 0")])
    return float(timeout)


def window_size(concurrency: int) -> int:
    """The most texts that translate_many keeps under way at once."""
    whole = isinstance(concurrency, int) and not isinstance(concurrency, bool)
    if not (whole and 1 <= concurrency <= MOST_CONCURRENCY):
        raise InvalidArgument(
            [Violation("concurrency", shown(concurrency), f"a whole number, 1 to {MOST_CONCURRENCY}")]
        )
    return concurrency


def translation(response: inference_pb2.TranslateResponse, trailing: Metadata) -> Translation:
    """What a Translate call returned; raises InternalError when it breaks the protocol."""
    return _translation(response, receipt(trailing))


def outcome(message: inference_pb2.TranslateOutcome) -> Translation | DragomanError:
    """What an item of a TranslateMany call was answered with."""
    if message.HasField("error"):
        return item_error(message.error)
    told = message.receipt
    try:
        return _translation(
            message.response,
            Receipt(told.queue_ms, told.encode_ms, told.steps, told.batch_mean, told.precision or None, told.lane),
        )
    except InternalError as error:
        return error


def _translation(response: inference_pb2.TranslateResponse, told: Receipt) -> Translation:
    if not response.hypotheses:
        raise InternalError("the server answered without a hypothesis")
    return Translation(
        hypotheses=tuple(hypothesis(h) for h in response.hypotheses),
        usage=usage(response.usage),
        receipt=told,
        model=response.model,
        model_version=response.model_version,
        segments=tuple(
            Segment(s.source_begin, s.source_end, s.target_begin, s.target_end, s.score, s.copied)
            for s in response.segments
        ),
    )


class ChunkReader:
    """A StreamTranslate call's messages made into chunks; the last is complete when the call has ended."""

    def __init__(self) -> None:
        self.begun = False
        """Whether a chunk has come."""
        self._text = ""
        self._response: inference_pb2.TranslateResponse | None = None

    def read(self, message: inference_pb2.TranslateChunk) -> Chunk | None:
        """The chunk, or None for the last, which waits for ``last``."""
        self.begun = True
        self._text += message.final_text_delta
        if message.HasField("response"):
            self._response = message.response
            return None
        return Chunk(self._text, message.provisional_text)

    def last(self, trailing: Metadata) -> Chunk:
        """The last chunk; raises InternalError where the stream has ended without."""
        if self._response is None:
            raise InternalError("the stream ended without an answer")
        answer = translation(self._response, trailing)
        return Chunk(answer.text, "", answer)


def score(response: inference_pb2.ScoreResponse, trailing: Metadata) -> Score:
    """What a Score call returned."""
    return Score(
        score=response.score,
        tokens=tuple(response.tokens),
        token_log_probs=tuple(response.token_log_probs),
        usage=usage(response.usage),
        receipt=receipt(trailing),
        model=response.model,
        model_version=response.model_version,
    )


def usage(message: inference_pb2.Usage) -> Usage:
    """Tokens read and produced."""
    return Usage(message.source_tokens, message.target_tokens)


def receipt(trailing: Metadata) -> Receipt:
    """The receipt in the trailing metadata; a missing or unreadable entry is None, since an answer stands without."""
    entries = {key: value for key, value in trailing if isinstance(value, str)}
    return Receipt(
        queue_ms=_number(float, entries.get("dragoman-queue-ms")),
        encode_ms=_number(float, entries.get("dragoman-encode-ms")),
        steps=_number(int, entries.get("dragoman-steps")),
        batch_mean=_number(float, entries.get("dragoman-batch-mean")),
        precision=entries.get("dragoman-precision"),
        lane=_number(int, entries.get("dragoman-lane")),
    )


def hypothesis(message: inference_pb2.Hypothesis) -> Hypothesis:
    """One candidate answer."""
    return Hypothesis(
        text=message.text,
        tokens=tuple(message.tokens),
        score=message.score,
        token_log_probs=tuple(message.token_log_probs),
        finish_reason=_FINISH_REASONS.get(message.finish_reason, FinishReason.UNSPECIFIED),
        rank_score=message.rank_score,
    )


def _number(convert: type[Number], text: str | None) -> Number | None:
    try:
        return None if text is None else convert(text)
    except ValueError:
        return None
