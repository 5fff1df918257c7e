"""Between Python values and the messages of Explain: pure functions, for both clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dragoman import wire
from dragoman.errors import InternalError, InvalidArgument, Violation
from dragoman.explaining_values import AlignmentLink, AttentionMaps, ExplainedToken, Explanation
from dragoman.faults import choice_faults, priority_faults, shown, string_faults, whole_faults
from dragoman_protos.v1 import inference_pb2

AGGREGATIONS = {
    "none": inference_pb2.AGGREGATION_NONE,
    "mean-heads": inference_pb2.AGGREGATION_MEAN_HEADS,
    "mean": inference_pb2.AGGREGATION_MEAN,
    "rollout": inference_pb2.AGGREGATION_ROLLOUT,
}


def explain_request(
    text: str,
    *,
    translation: str | None,
    text_pair: str | None,
    target: str | None,
    source: str | None,
    model: str | None,
    max_new_tokens: int | None,
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    aggregation: str | None,
    priority: int | None,
) -> inference_pb2.ExplainRequest:
    """The message for one text; raises InvalidArgument for values that do not fit the fields' types."""
    strings = {
        "text": text,
        "text_pair": text_pair or "",
        "target": translation or "",
        "target_language": target or "",
        "source_language": source or "",
        "model": model or "",
    }
    faults = [
        *(fault for name, value in strings.items() for fault in string_faults(name, value)),
        *whole_faults("max_new_tokens", max_new_tokens),
        *_numbers_faults("layers", layers),
        *_numbers_faults("heads", heads),
        *choice_faults("aggregation", aggregation, AGGREGATIONS),
        *priority_faults(priority),
    ]
    if faults:
        raise InvalidArgument(faults)
    return inference_pb2.ExplainRequest(
        **strings,
        max_new_tokens=max_new_tokens or 0,
        layers=layers or (),
        heads=heads or (),
        aggregation=AGGREGATIONS[aggregation or "none"],
        priority=priority or 0,
    )


def explanation(
    request: inference_pb2.ExplainRequest,
) -> Callable[[inference_pb2.ExplainResponse, wire.Metadata], Explanation]:
    """What reads the answer to ``request``; raises InternalError where it breaks the protocol."""

    def read(response: inference_pb2.ExplainResponse, trailing: wire.Metadata) -> Explanation:
        encoder_self, decoder_self, cross = (
            _maps(getattr(response, kind)) if response.HasField(kind) else None
            for kind in ("encoder_self", "decoder_self", "cross")
        )
        return Explanation(
            text=request.text,
            text_pair=request.text_pair,
            target_text=response.target_text,
            source_tokens=_tokens(response.source_tokens),
            target_tokens=_tokens(response.target_tokens),
            encoder_self=encoder_self,
            decoder_self=decoder_self,
            cross=cross,
            alignment=tuple(
                AlignmentLink(link.source_begin, link.source_end, link.target_begin, link.target_end, link.weight)
                for link in response.alignment
            ),
            usage=wire.usage(response.usage),
            receipt=wire.receipt(trailing),
            model=response.model,
            model_version=response.model_version,
        )

    return read


def _tokens(messages: Iterable[inference_pb2.ExplainedToken]) -> tuple[ExplainedToken, ...]:
    return tuple(ExplainedToken(m.token, m.begin, m.end, m.special) for m in messages)


def _maps(message: inference_pb2.AttentionMaps) -> AttentionMaps:
    if len(message.shape) != 4:
        raise InternalError(f"the server sent attention of {len(message.shape)} dimensions, not four")
    layers, heads, queries, keys = message.shape
    try:
        return AttentionMaps(
            tuple(message.layers), tuple(message.heads), (layers, heads, queries, keys), message.weights
        )
    except ValueError as error:
        raise InternalError(f"the server sent {error}") from None


def _numbers_faults(field: str, values: object) -> list[Violation]:
    if values is None:
        return []
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        return [Violation(field, shown(values), "a list of whole numbers")]
    return [fault for i, value in enumerate(values) for fault in whole_faults(f"{field}[{i}]", value)]
