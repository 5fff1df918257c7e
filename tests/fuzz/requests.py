"""Every method of the server, with sound requests to begin from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from dragoman_protos.open_inference import open_inference_pb2
from dragoman_protos.v1 import inference_pb2, models_pb2
from tests.fuzz.messages import built, disturbed
from tests.fuzz.wire_mutations import mutated

TRANSLATOR, GENERATOR, READER, SPARE = "tiny", "tiny-decoder", "tiny-encoder", "spare"
_TEXT = "The harbour lies below the old town."


@dataclass(frozen=True)
class Method:
    """A method: its full name, sound requests, and how often it is called."""

    path: str
    sound: Sequence[Message]
    weight: float = 1.0
    streams: bool = False
    """Whether it takes a stream of requests."""
    endless: bool = False
    """Whether its answers go on until the caller leaves."""

    @property
    def name(self) -> str:
        """Without the service."""
        return self.path.rpartition("/")[2]


def _options(**fields: object) -> inference_pb2.DecodingOptions:
    return inference_pb2.DecodingOptions(**fields)  # type: ignore[arg-type]


_DECODINGS = (
    _options(),
    _options(max_length=8, beam_size=3, num_hypotheses=2),
    _options(max_length=8, temperature=0.8, top_p=0.9, seed=5, num_hypotheses=2),
    _options(max_length=8, repetition_penalty=1.2, no_repeat_ngram_size=2, banned_words=["old"], stop=["e"]),
    _options(max_length=8, target_prefix="Der", alternatives=2),
)
_TRANSLATIONS = [
    inference_pb2.TranslateRequest(text=_TEXT, target_language="de", source_language="en", options=given, priority=1)
    for given in _DECODINGS
]


def _tensors(*texts: str, model: str, raw: bool = False, output: str = "") -> open_inference_pb2.ModelInferRequest:
    request = open_inference_pb2.ModelInferRequest(model_name=model, id="7")
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    encoded = [text.encode() for text in texts]
    if raw:
        request.raw_input_contents.append(b"".join(len(one).to_bytes(4, "little") + one for one in encoded))
    else:
        tensor.contents.bytes_contents.extend(encoded)
    if output:
        request.outputs.add(name=output)
    if model == TRANSLATOR:
        request.parameters["target_language"].string_param = "de"
        request.parameters["beam_size"].int64_param = 2
        request.parameters["max_length"].int64_param = 8
    return request


_TENSORS = [
    _tensors(_TEXT, model=TRANSLATOR),
    _tensors(_TEXT, "Ships.", model=TRANSLATOR, raw=True, output="score"),
    _tensors("The heron", model=READER, output="embedding"),
    _tensors("The [MASK] heron", model=READER, raw=True, output="masks"),
    _tensors("The ferry", model=GENERATOR, raw=True),
]
_OPEN = "/inference.GRPCInferenceService/"
_INFERENCE = "/dragoman.v1.InferenceService/"
_MODELS = "/dragoman.v1.ModelService/"
METHODS: Sequence[Method] = (
    Method(f"{_INFERENCE}Translate", _TRANSLATIONS, 3),
    Method(f"{_INFERENCE}StreamTranslate", _TRANSLATIONS, 2),
    Method(
        f"{_INFERENCE}TranslateMany",
        [
            inference_pb2.TranslateManyRequest(
                items=[
                    inference_pb2.TranslateItem(id=number, request=request)
                    for number, request in enumerate(_TRANSLATIONS[:count])
                ]
            )
            for count in (1, 3)
        ],
        2,
        streams=True,
    ),
    Method(
        f"{_INFERENCE}Score",
        [
            inference_pb2.ScoreRequest(text=_TEXT, target="Der Hafen", target_language="de"),
            inference_pb2.ScoreRequest(text="The ferry", target=" leaves", model=GENERATOR),
        ],
    ),
    Method(
        f"{_INFERENCE}Generate",
        [
            *(inference_pb2.GenerateRequest(prompt="The ferry", options=given) for given in _DECODINGS[1:4]),
            inference_pb2.GenerateRequest(
                prompt="The", options=_options(max_length=50), context_overflow=inference_pb2.CONTEXT_OVERFLOW_SLIDE
            ),
        ],
        2,
    ),
    Method(
        f"{_INFERENCE}Classify",
        [inference_pb2.ClassifyRequest(text=_TEXT, text_pair="And so on.", top_k=2, min_probability=0.1)],
    ),
    Method(f"{_INFERENCE}Tag", [inference_pb2.TagRequest(text=_TEXT)]),
    Method(f"{_INFERENCE}FillMask", [inference_pb2.FillMaskRequest(text="The [MASK] heron", top_k=3)]),
    Method(
        f"{_INFERENCE}Embed",
        [inference_pb2.EmbedRequest(texts=[_TEXT, "x"], pooling=inference_pb2.POOLING_CLS, normalise=False)],
    ),
    Method(
        f"{_INFERENCE}Explain",
        [
            inference_pb2.ExplainRequest(text=_TEXT, target_language="de"),
            inference_pb2.ExplainRequest(text="The ferry", model=GENERATOR, max_new_tokens=2, layers=[0], heads=[1]),
            inference_pb2.ExplainRequest(text="The heron", model=READER, aggregation=inference_pb2.AGGREGATION_ROLLOUT),
        ],
    ),
    Method(f"{_MODELS}ListModels", [models_pb2.ListModelsRequest()], 0.5),
    Method(f"{_MODELS}GetModel", [models_pb2.GetModelRequest(name="tiny@1")], 0.5),
    # What the others need is never unloaded: mutations of this name are no other model's.
    Method(f"{_MODELS}LoadModel", [models_pb2.LoadModelRequest(name=SPARE, version="1")], 0.1),
    Method(f"{_MODELS}UnloadModel", [models_pb2.UnloadModelRequest(name=SPARE, version="1")], 0.1),
    Method(f"{_OPEN}ModelInfer", _TENSORS, 2),
    Method(f"{_OPEN}ModelStreamInfer", _TENSORS, streams=True),
    Method(f"{_OPEN}ModelMetadata", [open_inference_pb2.ModelMetadataRequest(name=TRANSLATOR, version="1")], 0.3),
    Method(f"{_OPEN}ModelReady", [open_inference_pb2.ModelReadyRequest(name=TRANSLATOR, version="1")], 0.3),
    Method(f"{_OPEN}ServerMetadata", [open_inference_pb2.ServerMetadataRequest()], 0.1),
    Method(f"{_OPEN}ServerLive", [open_inference_pb2.ServerLiveRequest()], 0.1),
    Method(f"{_OPEN}ServerReady", [open_inference_pb2.ServerReadyRequest()], 0.1),
    Method(
        "/grpc.health.v1.Health/Check", [health_pb2.HealthCheckRequest(service="dragoman.v1.InferenceService")], 0.5
    ),
    Method("/grpc.health.v1.Health/Watch", [health_pb2.HealthCheckRequest(service="")], 0.1, endless=True),
    Method(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        [
            reflection_pb2.ServerReflectionRequest(list_services="*"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="dragoman.v1.Bundle"),
            reflection_pb2.ServerReflectionRequest(file_by_filename="dragoman_protos/v1/bundle.proto"),
        ],
        0.3,
        streams=True,
    ),
)
_BUILT_ONLY = {"LoadModel", "UnloadModel"}
"""Of these, no text of the dictionary is taken: it has the names of models that the others need."""


@dataclass(frozen=True)
class Attempt:
    """One call: its method, its messages as bytes, and how they were made."""

    method: Method
    bodies: Sequence[bytes]
    how: str


def attempts(seed: int) -> Iterator[Attempt]:
    """Without end, always the same for one seed."""
    chance = random.Random(seed)
    weights = [method.weight for method in METHODS]
    while True:
        (method,) = chance.choices(METHODS, weights)
        count = chance.choice([1, 1, 2, 3]) if method.streams else 1
        how = chance.choice(["bytes", "bytes", "values", "types"])
        if method.name in _BUILT_ONLY:
            how = "bytes"
        yield Attempt(method, [_body(chance, method, how) for _ in range(count)], how)


def _body(chance: random.Random, method: Method, how: str) -> bytes:
    sound = chance.choice(method.sound)
    if how == "types":
        return built(chance, sound.DESCRIPTOR).SerializeToString()
    if how == "values":
        return disturbed(chance, sound).SerializeToString()
    base = disturbed(chance, sound) if method.name not in _BUILT_ONLY and chance.random() < 0.3 else sound
    return mutated(chance, base.SerializeToString())
