"""What the service says of texts, as tensors."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import json_format
from google.protobuf.message import Message

from dragoman_protos.v1 import inference_pb2
from dragoman_server.open_inference.offers import labels_of
from dragoman_server.open_inference.questions import Question
from dragoman_server.open_inference.tensors import Datatype, Output

Decoded = inference_pb2.TranslateResponse | inference_pb2.GenerateResponse
_REASON = "FINISH_REASON_"


def decoded(question: Question, responses: Sequence[Decoded], texts: Sequence[str] | None = None) -> list[Output]:
    """Translations or continuations; ``texts`` in place of theirs where they are given."""
    shape, best = question.shape, [response.hypotheses[0] for response in responses]
    texts = [one.text for one in best] if texts is None else texts
    reasons = [inference_pb2.FinishReason.Name(one.finish_reason).removeprefix(_REASON) for one in best]
    return [
        Output("text", Datatype.BYTES, shape, [text.encode() for text in texts]),
        Output("score", Datatype.FP32, shape, [one.score for one in best]),
        Output("finish_reason", Datatype.BYTES, shape, [reason.encode() for reason in reasons]),
        Output("source_tokens", Datatype.UINT32, shape, [response.usage.source_tokens for response in responses]),
        Output("target_tokens", Datatype.UINT32, shape, [response.usage.target_tokens for response in responses]),
    ]


def delta(text: str) -> list[Output]:
    """What a text grows by."""
    return [Output("text", Datatype.BYTES, (1,), [text.encode()])]


def classified(question: Question, responses: Sequence[inference_pb2.ClassifyResponse], top_k: int) -> list[Output]:
    """As many labels for each text."""
    shape = len(responses), labels_of(question.host, top_k)
    labels = [label for response in responses for label in response.labels]
    return [
        Output("label", Datatype.BYTES, shape, [one.label.encode() for one in labels]),
        Output("probability", Datatype.FP32, shape, [one.probability for one in labels]),
        Output("out_of_scope", Datatype.BOOL, question.shape, [one.out_of_scope for one in responses]),
    ]


def tagged(question: Question, responses: Sequence[inference_pb2.TagResponse]) -> list[Output]:
    """For each text a JSON list of its spans."""
    return [Output("spans", Datatype.BYTES, question.shape, [_json(one.spans) for one in responses])]


def filled(question: Question, responses: Sequence[inference_pb2.FillMaskResponse]) -> list[Output]:
    """For each text a JSON list of its masks."""
    return [Output("masks", Datatype.BYTES, question.shape, [_json(one.masks) for one in responses])]


def embedded(question: Question, response: inference_pb2.EmbedResponse) -> list[Output]:
    """A vector for each text."""
    values = [value for embedding in response.embeddings for value in embedding.values]
    shape = len(question.texts), question.host.bundle.dimensions.d_model
    return [Output("embedding", Datatype.FP32, shape, values)]


def _json(messages: Sequence[Message]) -> bytes:
    written = (
        json_format.MessageToJson(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            indent=None,
            ensure_ascii=False,
        )
        for message in messages
    )
    return f"[{','.join(written)}]".encode()
