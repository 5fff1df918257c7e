"""The part of the fake server that generates and understands, by rules simple enough to follow in the head."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc

USAGE = inference_pb2.Usage(source_tokens=3, target_tokens=2)
SERVED = {"usage": USAGE, "model": "small", "model_version": "4"}
RECEIPT = (("dragoman-queue-ms", "1.5"), ("dragoman-lane", "1"))


class FakeFamilies(inference_pb2_grpc.InferenceServiceServicer):
    """Keeps what it was sent in ``asked``; ``refuse_families`` may abort a call."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.refuse_families: Callable[[Any, Any], None] = lambda request, context: None

    def _take(self, request: Any, context: Any) -> None:
        self.asked.append(request)
        context.set_trailing_metadata(RECEIPT)
        self.refuse_families(request, context)

    def Generate(self, request: inference_pb2.GenerateRequest, context: Any) -> Iterator[inference_pb2.GenerateChunk]:  # noqa: N802
        """The prompt's letters once more; samples of which each is a letter shorter."""
        self._take(request, context)
        for i, letter in enumerate(request.prompt):
            yield inference_pb2.GenerateChunk(final_text_delta=letter, provisional_text=request.prompt[i + 1 :])
        texts = [request.prompt[: len(request.prompt) - i] for i in range(max(1, request.options.num_hypotheses))]
        hypotheses = [
            inference_pb2.Hypothesis(
                text=text,
                tokens=list(text),
                finish_reason=inference_pb2.FINISH_REASON_LENGTH,
                rank_score=-0.5 * (i + 1),
            )
            for i, text in enumerate(texts)
        ]
        yield inference_pb2.GenerateChunk(
            response=inference_pb2.GenerateResponse(hypotheses=hypotheses, discarded_tokens=2, **SERVED)  # type: ignore[arg-type]
        )

    def Classify(self, request: inference_pb2.ClassifyRequest, context: Any) -> inference_pb2.ClassifyResponse:  # noqa: N802
        """Long or short; neither where the text asks."""
        self._take(request, context)
        if request.text == "bad":
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        labels = [("short", 0.75), ("long", 0.25)] if len(request.text) < 5 else [("long", 0.5), ("short", 0.5)]
        return inference_pb2.ClassifyResponse(
            labels=[inference_pb2.Label(label=name, probability=p) for name, p in labels[: request.top_k or 5]],
            out_of_scope=request.text.endswith("?"),
            **SERVED,  # type: ignore[arg-type]
        )

    def Tag(self, request: inference_pb2.TagRequest, context: Any) -> inference_pb2.TagResponse:  # noqa: N802
        """A word is a word."""
        self._take(request, context)
        spans = [
            inference_pb2.Span(tag="WORD", begin=m.start(), end=m.end(), text=m.group(), probability=0.5)
            for m in re.finditer(r"\w+", request.text)
        ]
        return inference_pb2.TagResponse(spans=spans, **SERVED)  # type: ignore[arg-type]

    def FillMask(self, request: inference_pb2.FillMaskRequest, context: Any) -> inference_pb2.FillMaskResponse:  # noqa: N802
        """The first letters of the alphabet, whatever the mask."""
        self._take(request, context)
        masks = [
            inference_pb2.FilledMask(
                begin=m.start(),
                end=m.end(),
                candidates=[
                    inference_pb2.MaskCandidate(token=f"Ġ{letter}", text=f" {letter}", probability=0.5)
                    for letter in "abcdefgh"[: request.top_k or 5]
                ],
            )
            for m in re.finditer(re.escape("[MASK]"), request.text)
        ]
        return inference_pb2.FillMaskResponse(masks=masks, **SERVED)  # type: ignore[arg-type]

    def Explain(self, request: inference_pb2.ExplainRequest, context: Any) -> inference_pb2.ExplainResponse:  # noqa: N802
        """Two words; of the text "self" no translation, of "short" and "flat" what breaks the protocol."""
        self._take(request, context)
        if request.text == "bad":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such layer")
        tokens = [
            inference_pb2.ExplainedToken(token=entry, begin=begin, end=end, special=begin == end)
            for entry, begin, end in (("<2en>", 0, 0), ("\u0120ja", 0, 2), ("\u0120du", 3, 5), ("</s>", 0, 0))
        ]
        causal = inference_pb2.AttentionMaps(
            layers=[0], heads=[0], shape=[1, 1, 3, 3], weights=struct.pack("<9f", 1, 0, 0, 0.5, 0.5, 0, 0.25, 0.25, 0.5)
        )
        if request.text in {"short", "flat"}:
            shape = [1, 1, 4, 4] if request.text == "short" else [9]
            causal.ClearField("shape")
            causal.shape.extend(shape)
        if request.text == "self":
            return inference_pb2.ExplainResponse(target_tokens=tokens[:3], decoder_self=causal, **SERVED)  # type: ignore[arg-type]
        row = (0.0, 0.0, 0.25, 0.75)
        return inference_pb2.ExplainResponse(
            source_tokens=tokens,
            target_tokens=tokens[:3],
            decoder_self=causal,
            cross=inference_pb2.AttentionMaps(shape=[1, 2, 3, 4], heads=[0, 1], weights=struct.pack("<24f", *row * 6)),
            alignment=[
                inference_pb2.AlignmentLink(source_begin=0, source_end=2, target_begin=0, target_end=3, weight=0.75),
                inference_pb2.AlignmentLink(source_begin=3, source_end=5, target_begin=4, target_end=7, weight=0.5),
            ],
            target_text=request.target or "yes you",
            **SERVED,  # type: ignore[arg-type]
        )

    def Embed(self, request: inference_pb2.EmbedRequest, context: Any) -> inference_pb2.EmbedResponse:  # noqa: N802
        """A text's length and its number of words."""
        self._take(request, context)
        vectors = [inference_pb2.Embedding(values=[len(text), len(text.split())]) for text in request.texts]
        return inference_pb2.EmbedResponse(embeddings=vectors, note="for counting", **SERVED)  # type: ignore[arg-type]
