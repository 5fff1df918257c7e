"""Between Python values and protobuf messages: pure functions, shared by both clients.

Only what a field's type needs is checked here (all faults at once); ranges are the server's to judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor

from dragoman.decoding import Decoding
from dragoman.errors import InternalError, InvalidArgument, Violation
from dragoman.values import FinishReason, Hypothesis, Model, ModelDetails, Receipt, Translation, Usage
from dragoman_protos.v1 import bundle_pb2, inference_pb2, models_pb2

Metadata = Iterable[tuple[str, str | bytes]]
Number = TypeVar("Number", int, float)

_SHOWN = 60
_FINISH_REASONS = {
    inference_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    inference_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    inference_pb2.FINISH_REASON_STOP_SEQUENCE: FinishReason.STOP_SEQUENCE,
}
_NORMALISATIONS = {
    "plain": inference_pb2.LENGTH_NORMALISATION_PLAIN,
    "wu": inference_pb2.LENGTH_NORMALISATION_WU,
}
_OPTIONS = inference_pb2.DecodingOptions.DESCRIPTOR.fields_by_name


def translate_request(
    text: str, *, target: str, source: str | None, model: str | None, decoding: Decoding
) -> inference_pb2.TranslateRequest:
    """The message for one text.

    Raises TypeError for a keyword that is no option of decoding, and InvalidArgument for values that do not fit the
    fields' types.
    """
    if unknown := sorted(decoding.keys() - Decoding.__annotations__.keys()):
        raise TypeError(f"no such option of decoding: {', '.join(unknown)}")
    options = {name: value for name, value in decoding.items() if value is not None}
    faults = [
        *_string_faults("text", text),
        *_string_faults("target_language", target),
        *_string_faults("source_language", source or ""),
        *_string_faults("model", model or ""),
        *(fault for name, value in options.items() for fault in _option_faults(name, value)),
    ]
    if faults:
        raise InvalidArgument(faults)
    return inference_pb2.TranslateRequest(
        text=text,
        target_language=target,
        source_language=source or "",
        model=model or "",
        options=_options(options) if options else None,
    )


def get_model_request(name: str | None) -> models_pb2.GetModelRequest:
    """The message that asks for one model, or for the default one."""
    if faults := _string_faults("name", name or ""):
        raise InvalidArgument(faults)
    return models_pb2.GetModelRequest(name=name or "")


def timeout_seconds(timeout: float | None, default: float) -> float:
    """The call's timeout; every call has one, so that none can hang."""
    if timeout is None:
        return default
    if not (isinstance(timeout, int | float) and math.isfinite(timeout) and timeout > 0):
        raise InvalidArgument([Violation("timeout", _shown(timeout), "a finite number of seconds, more than 0")])
    return float(timeout)


def window_size(concurrency: int) -> int:
    """The most calls that translate_many keeps under way at once."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidArgument([Violation("concurrency", _shown(concurrency), "a whole number, at least 1")])
    return concurrency


def translation(response: inference_pb2.TranslateResponse, trailing: Metadata) -> Translation:
    """What a Translate call returned; raises InternalError when it breaks the protocol."""
    if not response.hypotheses:
        raise InternalError("the server answered without a hypothesis")
    return Translation(
        hypotheses=tuple(_hypothesis(h) for h in response.hypotheses),
        usage=Usage(response.usage.source_tokens, response.usage.target_tokens),
        receipt=receipt(trailing),
        model=response.model,
        model_version=response.model_version,
    )


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


def models(response: models_pb2.ListModelsResponse, _: Metadata) -> tuple[Model, ...]:
    """What a ListModels call returned."""
    return tuple(
        Model(
            name=m.name,
            version=m.version,
            family=_word(bundle_pb2.Bundle.Family.Name, m.family, "FAMILY_"),
            tasks=tuple(_word(bundle_pb2.Bundle.Task.Name, task, "TASK_") for task in m.tasks),
            languages=tuple(m.languages),
            precision=m.precision,
            provider=m.provider,
            lanes=m.lanes,
            max_rows=m.max_rows,
            default=m.default,
        )
        for m in response.models
    )


def model_details(response: models_pb2.GetModelResponse, trailing: Metadata) -> ModelDetails:
    """What a GetModel call returned."""
    (model,) = models(models_pb2.ListModelsResponse(models=[response.model]), trailing)
    return ModelDetails(**{name: getattr(model, name) for name in Model.__slots__}, bundle=response.bundle)


def _hypothesis(message: inference_pb2.Hypothesis) -> Hypothesis:
    return Hypothesis(
        text=message.text,
        tokens=tuple(message.tokens),
        score=message.score,
        token_log_probs=tuple(message.token_log_probs),
        finish_reason=_FINISH_REASONS.get(message.finish_reason, FinishReason.UNSPECIFIED),
        rank_score=message.rank_score,
    )


def _options(values: dict[str, Any]) -> inference_pb2.DecodingOptions:
    if "length_normalisation" in values:
        values = {**values, "length_normalisation": _NORMALISATIONS[values["length_normalisation"]]}
    return inference_pb2.DecodingOptions(**values)


def _word(name_of: Callable[[Any], str], value: int, prefix: str) -> str:
    """An enum value in lower case with hyphens; "unspecified" for one that a newer server may send."""
    try:
        return name_of(value).removeprefix(prefix).lower().replace("_", "-")
    except ValueError:
        return "unspecified"


def _number(convert: type[Number], text: str | None) -> Number | None:
    try:
        return None if text is None else convert(text)
    except ValueError:
        return None


def _string_faults(field: str, value: object) -> list[Violation]:
    if not isinstance(value, str):
        return [Violation(field, _shown(value), "a string")]
    try:
        value.encode()
    except UnicodeEncodeError:
        return [Violation(field, _shown(value), "text without lone surrogates")]
    return []


def _option_faults(name: str, value: object) -> list[Violation]:
    field, path = _OPTIONS[name], f"options.{name}"
    if field.default_value == []:
        if isinstance(value, str | bytes) or not isinstance(value, Collection):
            return [Violation(path, _shown(value), "a list of strings")]
        return [fault for i, item in enumerate(value) for fault in _string_faults(f"{path}[{i}]", item)]
    if field.type == FieldDescriptor.TYPE_STRING:
        return _string_faults(path, value)
    fits, limit = _SCALARS[field.type]
    return [] if fits(value) else [Violation(path, _shown(value), limit)]


def _is_whole(value: object, bits: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << bits


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


_SCALARS: dict[int, tuple[Callable[[object], bool], str]] = {
    FieldDescriptor.TYPE_UINT32: (lambda value: _is_whole(value, 32), "a whole number from 0 to 2^32 - 1"),
    FieldDescriptor.TYPE_UINT64: (lambda value: _is_whole(value, 64), "a whole number from 0 to 2^64 - 1"),
    FieldDescriptor.TYPE_FLOAT: (_is_number, "a finite number"),
    FieldDescriptor.TYPE_BOOL: (lambda value: isinstance(value, bool), "True or False"),
    FieldDescriptor.TYPE_ENUM: (lambda value: isinstance(value, str) and value in _NORMALISATIONS, "'plain' or 'wu'"),
}


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
