"""What an encoder said of texts, as messages."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman_protos.v1 import inference_pb2
from dragoman_server import readings
from dragoman_server.encoder_codec import Masked, Words
from dragoman_server.pass_runtime import EncoderOutput
from dragoman_server.service.reading_jobs import Reading

_USUAL_COUNT = 5


def classify_response(
    request: inference_pb2.ClassifyRequest, reading: Reading[None], output: EncoderOutput
) -> inference_pb2.ClassifyResponse:
    """The likeliest labels."""
    host = reading.host
    classifier = host.bundle.classifier
    scored = readings.labels(output, classifier)
    return inference_pb2.ClassifyResponse(
        labels=[
            inference_pb2.Label(label=classifier.labels[number], probability=probability)
            for number, probability in scored[: request.top_k or _USUAL_COUNT]
            if probability >= request.min_probability
        ],
        out_of_scope=readings.out_of_scope(scored[0], classifier),
        usage=_usage(reading),
        model=host.name,
        model_version=host.version,
    )


def tag_response(
    request: inference_pb2.TagRequest, reading: Reading[Words], output: EncoderOutput
) -> inference_pb2.TagResponse:
    """The spans, where they stand in the text."""
    host = reading.host
    return inference_pb2.TagResponse(
        spans=[
            inference_pb2.Span(tag=tag, begin=begin, end=end, text=request.text[begin:end], probability=probability)
            for tag, begin, end, probability in readings.spans(output, reading.text, host.bundle.tagger)
        ],
        usage=_usage(reading),
        model=host.name,
        model_version=host.version,
    )


def fill_mask_response(
    request: inference_pb2.FillMaskRequest, reading: Reading[Masked], output: EncoderOutput
) -> inference_pb2.FillMaskResponse:
    """The likeliest candidates for each mask."""
    host, masked = reading.host, reading.text
    codec = host.codec
    top_k = request.top_k or _USUAL_COUNT
    return inference_pb2.FillMaskResponse(
        masks=[
            inference_pb2.FilledMask(
                begin=begin,
                end=end,
                candidates=[
                    inference_pb2.MaskCandidate(
                        token=codec.token(token_id),
                        text=codec.reads_in_place(token_id, masked, mask),
                        probability=probability,
                    )
                    for token_id, probability in readings.candidates(output, mask, top_k, codec.special)
                ],
            )
            for mask, (begin, end) in enumerate(masked.spans)
        ],
        usage=_usage(reading),
        model=host.name,
        model_version=host.version,
    )


def embed_response(
    request: inference_pb2.EmbedRequest, reading: Reading[None], outputs: Sequence[EncoderOutput]
) -> inference_pb2.EmbedResponse:
    """A vector for each text."""
    host = reading.host
    of_cls = request.pooling == inference_pb2.POOLING_CLS
    normalise = request.normalise if request.HasField("normalise") else True
    return inference_pb2.EmbedResponse(
        embeddings=[
            inference_pb2.Embedding(values=readings.embedding(output, of_cls=of_cls, normalise=normalise))
            for output in outputs
        ],
        note=host.bundle.embedding_note,
        usage=_usage(reading),
        model=host.name,
        model_version=host.version,
    )


def _usage(reading: Reading[Words | Masked | None]) -> inference_pb2.Usage:
    return inference_pb2.Usage(source_tokens=reading.tokens)
