"""What a load test asks: requests made once, as bytes, so that sending one costs the generator next to nothing."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from dragoman import understanding_wire, wire
from dragoman.decoding import Decoding, GenerationOptions
from dragoman.generation import generate_request
from dragoman_protos.v1 import inference_pb2

_SERVICE = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name


@dataclass(frozen=True, slots=True)
class Call:
    """One of the server's calls."""

    path: str
    """gRPC's name of it."""
    answer: type[Message]
    """What answers it; of a stream, the field ``response`` of the last chunk."""
    chunk: type[inference_pb2.TranslateChunk | inference_pb2.GenerateChunk] | None = None
    """What it streams. None: one answer."""


TRANSLATE = Call(f"/{_SERVICE}/Translate", inference_pb2.TranslateResponse)
STREAM = Call(f"/{_SERVICE}/StreamTranslate", inference_pb2.TranslateResponse, inference_pb2.TranslateChunk)
GENERATE = Call(f"/{_SERVICE}/Generate", inference_pb2.GenerateResponse, inference_pb2.GenerateChunk)
CLASSIFY = Call(f"/{_SERVICE}/Classify", inference_pb2.ClassifyResponse)
TASKS = {TRANSLATE: "translate", STREAM: "translate", GENERATE: "generate", CLASSIFY: "classify"}
"""What a model must be able to do to answer."""


@dataclass(frozen=True, slots=True)
class Query:
    """One request. Equal queries have the same answer, whatever else the server does."""

    kind: str
    """What it counts as, such as "short"."""
    call: Call
    message: bytes
    """As it travels."""


def translation(kind: str, text: str, target: str, *, stream: bool = False) -> Query:
    """A text to be translated greedily, in one answer or as a stream."""
    message = wire.translate_request(text, target=target, source=None, model=None, decoding=Decoding())
    return Query(kind, STREAM if stream else TRANSLATE, message.SerializeToString())


def continuation(kind: str, prompt: str, new_tokens: int, seed: int | None) -> Query:
    """A prompt to be continued by so many tokens at most: greedily, or sampled with a seed."""
    sampling = GenerationOptions() if seed is None else GenerationOptions(temperature=0.8, seed=seed)
    message = generate_request(prompt, None, new_tokens, None, None, sampling)
    return Query(kind, GENERATE, message.SerializeToString())


def classification(kind: str, text: str) -> Query:
    """A text to be labelled."""
    message = understanding_wire.classify_request(
        text, text_pair=None, model=None, top_k=None, min_probability=None, priority=None
    )
    return Query(kind, CLASSIFY, message.SerializeToString())
