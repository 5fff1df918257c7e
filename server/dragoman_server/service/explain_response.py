"""What a request to explain is answered: the tokens that were read, the attention asked for, and the alignment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dragoman_protos.v1 import inference_pb2
from dragoman_server.explaining.alignment import align, producing
from dragoman_server.explaining.graph import Attention
from dragoman_server.explaining.selection import Selected
from dragoman_server.explaining.tokens import Codec, ReadToken
from dragoman_server.service.explain_validation import Subject


def explain_response(subject: Subject, attention: Attention, codec: Codec) -> inference_pb2.ExplainResponse:
    """The whole answer. Takes some milliseconds: not for the event loop's thread."""
    host = subject.host
    selected = subject.selection.of(attention, host.bundle.dimensions)
    return inference_pb2.ExplainResponse(
        source_tokens=_tokens(subject.source, codec),
        target_tokens=_tokens(subject.target, codec),
        **{kind: _maps(each) for kind, each in selected.items()},
        alignment=_alignment(subject, attention),
        target_text=subject.target_text,
        model=host.name,
        model_version=host.version,
        usage=inference_pb2.Usage(source_tokens=subject.tokens_given, target_tokens=subject.tokens_produced),
    )


def _tokens(read: Sequence[ReadToken], codec: Codec) -> Iterator[inference_pb2.ExplainedToken]:
    entries = codec.tokens([token.token_id for token in read])
    for token, entry in zip(read, entries, strict=True):
        yield inference_pb2.ExplainedToken(token=entry, begin=token.begin, end=token.end, special=token.special)


def _maps(selected: Selected) -> inference_pb2.AttentionMaps:
    return inference_pb2.AttentionMaps(
        layers=selected.layers,
        heads=selected.heads,
        shape=selected.weights.shape,
        weights=np.ascontiguousarray(selected.weights, dtype="<f4").tobytes(),
    )


def _alignment(subject: Subject, attention: Attention) -> Iterator[inference_pb2.AlignmentLink]:
    if attention.cross is None:
        return
    source, target = (
        (text, [(0, 0) if token.special else (token.begin, token.end) for token in read])
        for text, read in ((subject.text, subject.source), (subject.target_text, subject.target))
    )
    for link in align(producing(attention.cross), source, target):
        yield inference_pb2.AlignmentLink(
            source_begin=link.source[0],
            source_end=link.source[1],
            target_begin=link.target[0],
            target_end=link.target[1],
            weight=link.weight,
        )
