"""What a model is measured with: texts as its engine takes them, and as its callers send them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from dragoman_protos.v1 import inference_pb2
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.generation_host import GenerationHost
from dragoman_server.model_host import ModelHost
from dragoman_server.pass_request import PassRequest
from dragoman_server.planning.profile import Family
from dragoman_server.request import Request
from dragoman_server.submission import Submission
from dragoman_server.translation_host import TranslationHost
from dragoman_server.understanding_host import UnderstandingHost

NEW_TOKENS = 32
"""Of a text that is generated: how far it goes on is the caller's choice."""

AnySubmission = Submission[Any, Any]
Reply = Callable[[object], None]


@dataclass(frozen=True)
class Call:
    """One call, as its caller sends it."""

    method: str
    """As gRPC names it: /package.Service/Method."""
    message: bytes
    streams: bool
    """Whether there are several answers to it."""


@dataclass(frozen=True)
class Subject:
    """``texts`` are not empty, and each fits the model."""

    family: Family
    join_tokens: int
    sources: Sequence[Sequence[int]]
    submission: Callable[[Sequence[int], Reply], AnySubmission]
    """From a source and who hears of its end."""
    calls: Sequence[Call]


def subject_of(host: ModelHost, texts: Sequence[str]) -> Subject:
    """Raises InvalidArgument where the model takes none of the texts."""
    if isinstance(host, TranslationHost):
        return _translation(host, texts)
    if isinstance(host, GenerationHost):
        return _generation(host, texts)
    assert isinstance(host, UnderstandingHost), "there are three families"
    return _understanding(host, texts)


def _translation(host: TranslationHost, texts: Sequence[str]) -> Subject:
    from dragoman_server.runtime import ENCODE_TOKENS  # noqa: PLC0415  (numpy)

    # The last one: models list English first, and the texts are English.
    target = host.bundle.languages[-1]
    sources = [host.source_ids(host.codec.encode(text), target) for text in texts]
    kept = _fitting(texts, sources, host.bundle.limits.source_tokens)
    options = DecodingOptions(max_length=host.default_max_length)

    def message(text: str) -> Message:
        return inference_pb2.TranslateRequest(
            text=text,
            target_language=target.code,
            model=host.name,
            segmentation=inference_pb2.SEGMENTATION_NONE,
        )

    return Subject(
        "translation",
        ENCODE_TOKENS,
        [source for _, source in kept],
        lambda source, reply: Request(source, options, reply),
        [_call("Translate", message(text)) for text, _ in kept],
    )


def _generation(host: GenerationHost, texts: Sequence[str]) -> Subject:
    from dragoman_server.prompt_runtime import PREFILL_CHUNK  # noqa: PLC0415  (onnxruntime)

    new_tokens = min(NEW_TOKENS, max(1, host.window // 2))
    sources = [host.prompt_ids(host.codec.encode(text)) for text in texts]
    kept = _fitting(texts, sources, host.window - new_tokens)
    options = DecodingOptions(max_length=new_tokens)

    def message(text: str) -> Message:
        chosen = inference_pb2.DecodingOptions(max_length=new_tokens)
        return inference_pb2.GenerateRequest(prompt=text, model=host.name, options=chosen)

    return Subject(
        "generation",
        PREFILL_CHUNK,
        [source for _, source in kept],
        lambda source, reply: Request(source, options, reply),
        [_call("Generate", message(text), streams=True) for text, _ in kept],
    )


def _understanding(host: UnderstandingHost, texts: Sequence[str]) -> Subject:
    from dragoman_server.pass_engine import PASS_TOKENS  # noqa: PLC0415  (numpy)

    sources = [host.codec.single(ids).ids for ids in host.codec.encode_batch(list(texts))]
    kept = _fitting(texts, sources, host.bundle.limits.source_tokens)

    def call(text: str) -> Call:
        if host.does(Bundle.TASK_CLASSIFY) and not host.pairs:
            return _call("Classify", inference_pb2.ClassifyRequest(text=text, model=host.name))
        if host.does(Bundle.TASK_TAG):
            return _call("Tag", inference_pb2.TagRequest(text=text, model=host.name))
        return _call("Embed", inference_pb2.EmbedRequest(texts=[text], model=host.name))

    return Subject(
        "understanding",
        PASS_TOKENS,
        [source for _, source in kept],
        lambda source, reply: PassRequest.of(host.codec.single(source[1:-1]), reply),
        [call(text) for text, _ in kept],
    )


def _fitting(texts: Sequence[str], sources: Sequence[Sequence[int]], most: int) -> list[tuple[str, Sequence[int]]]:
    kept = [(text, ids) for text, ids in zip(texts, sources, strict=True) if len(ids) <= most]
    if not kept:
        shortest = min(map(len, sources), default=0)
        raise InvalidArgument([Violation("lengths", f"{shortest} tokens at the least", f"at most {most} of one text")])
    return kept


def _call(method: str, message: Message, *, streams: bool = False) -> Call:
    return Call(f"/dragoman.v1.InferenceService/{method}", message.SerializeToString(), streams)
