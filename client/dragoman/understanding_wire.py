"""Between Python values and the messages of Classify, Tag, FillMask and Embed: pure functions, for both clients."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman import wire
from dragoman.errors import InvalidArgument, Violation
from dragoman.faults import choice_faults, number_faults, priority_faults, shown, string_faults, whole_faults
from dragoman.understanding_values import (
    Classification,
    Embeddings,
    FilledMask,
    FilledMasks,
    Label,
    MaskCandidate,
    Span,
    Tagging,
)
from dragoman_protos.v1 import inference_pb2

POOLINGS = {"mean": inference_pb2.POOLING_MEAN, "cls": inference_pb2.POOLING_CLS}


def classify_request(
    text: str,
    *,
    text_pair: str | None,
    model: str | None,
    top_k: int | None,
    min_probability: float | None,
    priority: int | None,
) -> inference_pb2.ClassifyRequest:
    """The message for one text or pair; raises InvalidArgument for values that do not fit the fields' types."""
    strings = {"text": text, "text_pair": text_pair or "", "model": model or ""}
    faults = [
        *_strings(strings),
        *whole_faults("top_k", top_k),
        *number_faults("min_probability", min_probability),
        *priority_faults(priority),
    ]
    if faults:
        raise InvalidArgument(faults)
    return inference_pb2.ClassifyRequest(
        **strings, top_k=top_k or 0, min_probability=min_probability or 0.0, priority=priority or 0
    )


def tag_request(text: str, *, model: str | None, priority: int | None) -> inference_pb2.TagRequest:
    """The message for one text; raises InvalidArgument."""
    strings = {"text": text, "model": model or ""}
    if faults := [*_strings(strings), *priority_faults(priority)]:
        raise InvalidArgument(faults)
    return inference_pb2.TagRequest(**strings, priority=priority or 0)


def fill_mask_request(
    text: str, *, model: str | None, top_k: int | None, priority: int | None
) -> inference_pb2.FillMaskRequest:
    """The message for one text; raises InvalidArgument."""
    strings = {"text": text, "model": model or ""}
    if faults := [*_strings(strings), *whole_faults("top_k", top_k), *priority_faults(priority)]:
        raise InvalidArgument(faults)
    return inference_pb2.FillMaskRequest(**strings, top_k=top_k or 0, priority=priority or 0)


def embed_request(
    texts: Sequence[str], *, model: str | None, pooling: str | None, normalise: bool | None, priority: int | None
) -> inference_pb2.EmbedRequest:
    """The message for several texts; raises InvalidArgument."""
    faults = [
        *_strings({"model": model or ""}),
        *choice_faults("pooling", pooling, POOLINGS),
        *_list_faults("texts", texts),
        *_truth_faults("normalise", normalise),
        *priority_faults(priority),
    ]
    if faults:
        raise InvalidArgument(faults)
    return inference_pb2.EmbedRequest(
        texts=texts, model=model or "", pooling=POOLINGS[pooling or "mean"], normalise=normalise, priority=priority or 0
    )


def classification(response: inference_pb2.ClassifyResponse, trailing: wire.Metadata) -> Classification:
    """What a Classify call returned."""
    return Classification(
        labels=tuple(Label(label.label, label.probability) for label in response.labels),
        out_of_scope=response.out_of_scope if response.HasField("out_of_scope") else None,
        usage=wire.usage(response.usage),
        receipt=wire.receipt(trailing),
        model=response.model,
        model_version=response.model_version,
    )


def tagging(response: inference_pb2.TagResponse, trailing: wire.Metadata) -> Tagging:
    """What a Tag call returned."""
    return Tagging(
        spans=tuple(Span(s.tag, s.begin, s.end, s.text, s.probability) for s in response.spans),
        usage=wire.usage(response.usage),
        receipt=wire.receipt(trailing),
        model=response.model,
        model_version=response.model_version,
    )


def filled_masks(response: inference_pb2.FillMaskResponse, trailing: wire.Metadata) -> FilledMasks:
    """What a FillMask call returned."""
    return FilledMasks(
        masks=tuple(
            FilledMask(
                mask.begin, mask.end, tuple(MaskCandidate(c.token, c.text, c.probability) for c in mask.candidates)
            )
            for mask in response.masks
        ),
        usage=wire.usage(response.usage),
        receipt=wire.receipt(trailing),
        model=response.model,
        model_version=response.model_version,
    )


def embeddings(response: inference_pb2.EmbedResponse, trailing: wire.Metadata) -> Embeddings:
    """What an Embed call returned."""
    return Embeddings(
        vectors=tuple(tuple(embedding.values) for embedding in response.embeddings),
        note=response.note,
        usage=wire.usage(response.usage),
        receipt=wire.receipt(trailing),
        model=response.model,
        model_version=response.model_version,
    )


def _truth_faults(field: str, value: object) -> list[Violation]:
    return [] if value is None or isinstance(value, bool) else [Violation(field, shown(value), "True or False")]


def _list_faults(field: str, values: object) -> list[Violation]:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        return [Violation(field, shown(values), "a list of strings")]
    return _strings({f"{field}[{i}]": value for i, value in enumerate(values)})


def _strings(values: dict[str, str]) -> list[Violation]:
    return [fault for name, value in values.items() for fault in string_faults(name, value)]
