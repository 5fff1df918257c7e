"""Classify, Tag, FillMask and Embed over a real server with a real engine, whose encoder has random weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc, models_pb2, models_pb2_grpc
from dragoman_server.settings import Settings
from tests.contract.running import serving
from tests.unit.server import tiny, tiny_encoder

TEXTS = [
    "The old harbour.",
    "Will it snow?",
    "Müde 😀\n\n gern",
    "x",
    "two eggs, a cup",
]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """Models that read single texts, pairs, or nothing but tags, beside one that translates, which is the default."""
    root = tmp_path_factory.mktemp("models")
    tiny.write_bundle(root / "tiny" / "1")
    tiny_encoder.write_bundle(root / "pairs" / "1", "pairs")
    single = {"labels": tiny_encoder.LABELS, "outOfScopeThreshold": 0.3}
    tiny_encoder.write_bundle(root / "single" / "2", "single", classifier=single)
    settings = Settings(port=0, models=root, precision="fp32", lanes=2, max_rows=8, default_model="tiny")
    with serving(settings) as found, grpc.insecure_channel(found.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> inference_pb2_grpc.InferenceServiceStub:
    return inference_pb2_grpc.InferenceServiceStub(channel)


Stub = inference_pb2_grpc.InferenceServiceStub


def classify(stub: Stub, text: str = TEXTS[0], **fields: Any) -> inference_pb2.ClassifyResponse:
    return stub.Classify(inference_pb2.ClassifyRequest(**({"text": text, "model": "single"} | fields)))


def tag(stub: Stub, text: str) -> inference_pb2.TagResponse:
    return stub.Tag(inference_pb2.TagRequest(text=text))


def fill(stub: Stub, text: str, **fields: Any) -> inference_pb2.FillMaskResponse:
    return stub.FillMask(inference_pb2.FillMaskRequest(text=text, **fields))


def embed(stub: Stub, *texts: str, **fields: Any) -> inference_pb2.EmbedResponse:
    return stub.Embed(inference_pb2.EmbedRequest(texts=texts, **fields))


def test_a_text_has_labels_likeliest_first(stub: Stub) -> None:
    response = classify(stub, top_k=100)
    assert sorted(label.label for label in response.labels) == sorted(tiny_encoder.LABELS)
    probabilities = [label.probability for label in response.labels]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    assert response.out_of_scope == (probabilities[0] < 0.3)
    assert (response.model, response.model_version) == ("single", "2")
    assert response.usage.source_tokens > 2
    assert response.usage.target_tokens == 0
    assert classify(stub, top_k=2).labels == response.labels[:2]
    likely = classify(stub, min_probability=probabilities[1]).labels
    assert likely == response.labels[:2]


def test_a_pair_is_two_segments(stub: Stub) -> None:
    one = classify(stub, text_pair=TEXTS[1], model="pairs")
    other = classify(stub, TEXTS[1], text_pair=TEXTS[0], model="pairs")
    assert one.usage == other.usage
    assert [label.probability for label in one.labels] != [label.probability for label in other.labels]


def test_an_empty_name_means_a_model_that_has_the_task(stub: Stub) -> None:
    assert tag(stub, TEXTS[0]).model == "pairs"  # the default translates: the first by name
    translated = stub.Translate(inference_pb2.TranslateRequest(text="the old", target_language="de"))
    assert translated.model == "tiny"


@pytest.mark.parametrize("text", TEXTS)
def test_spans_are_parts_of_the_text(stub: Stub, text: str) -> None:
    spans = tag(stub, text).spans
    end = 0
    for span in spans:
        assert end <= span.begin < span.end <= len(text)
        assert span.text == text[span.begin : span.end]
        assert span.tag in {"PLACE", "ANIMAL"}
        assert 0 < span.probability <= 1
        end = span.end


def test_masks_have_candidates(stub: Stub) -> None:
    text = "Müde [MASK] schlafen[MASK]"
    response = fill(stub, text, top_k=7)
    assert [text[mask.begin : mask.end] for mask in response.masks] == ["[MASK]", "[MASK]"]
    for mask in response.masks:
        assert len(mask.candidates) == 7
        probabilities = [candidate.probability for candidate in mask.candidates]
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(candidate.token not in tiny_encoder.SPECIALS for candidate in mask.candidates)
    everything = fill(stub, text, top_k=1000).masks[0].candidates
    assert sum(candidate.probability for candidate in everything) == pytest.approx(1, abs=1e-4)
    assert [len(mask.candidates) for mask in fill(stub, text).masks] == [5, 5]


def test_vectors_are_of_length_one_unless_asked_otherwise(stub: Stub) -> None:
    response = embed(stub, *TEXTS)
    assert response.note == tiny_encoder.NOTE
    plain = embed(stub, *TEXTS, normalise=False)
    for unit, vector in zip(response.embeddings, plain.embeddings, strict=True):
        assert len(unit.values) == tiny.D_MODEL
        assert math.hypot(*unit.values) == pytest.approx(1, abs=1e-5)
        length = math.hypot(*vector.values)
        assert [value / length for value in vector.values] == pytest.approx(list(unit.values), abs=1e-5)
    of_cls = embed(stub, *TEXTS, pooling=inference_pb2.POOLING_CLS)
    assert of_cls.embeddings[0] != response.embeddings[0]
    assert embed(stub, *TEXTS, pooling=inference_pb2.POOLING_MEAN).usage == response.usage


def numbers(message: Any) -> tuple[list[str], list[float]]:
    """Every word and every probability of an answer."""
    if isinstance(message, inference_pb2.ClassifyResponse):
        return [label.label for label in message.labels], [label.probability for label in message.labels]
    if isinstance(message, inference_pb2.TagResponse):
        return [f"{s.tag} {s.begin} {s.end}" for s in message.spans], [s.probability for s in message.spans]
    if isinstance(message, inference_pb2.FillMaskResponse):
        found = [candidate for mask in message.masks for candidate in mask.candidates]
        return [candidate.token for candidate in found], [candidate.probability for candidate in found]
    assert isinstance(message, inference_pb2.EmbedResponse)
    return [], [value for embedding in message.embeddings for value in embedding.values]


def test_among_many_a_text_is_answered_as_alone(stub: Stub) -> None:
    asked: list[Callable[[], Any]] = [
        call
        for text in TEXTS
        for call in (
            lambda text=text: classify(stub, text),
            lambda text=text: classify(stub, text, text_pair=TEXTS[1], model="pairs"),
            lambda text=text: tag(stub, text),
            lambda text=text: fill(stub, f"{text} [MASK]"),
            lambda text=text: embed(stub, text, *TEXTS),
        )
    ]
    alone = [call() for call in asked]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda call: call(), asked * 4))
    for one, other in zip(alone * 4, together, strict=True):
        assert one.usage == other.usage
        words, values = numbers(one)
        assert numbers(other)[0] == words
        assert numbers(other)[1] == pytest.approx(values, abs=1e-4)


def test_a_receipt_comes_with_the_answer(stub: Stub) -> None:
    _, call = stub.Embed.with_call(inference_pb2.EmbedRequest(texts=TEXTS))
    receipt = dict(call.trailing_metadata())
    assert receipt["dragoman-model"] == "pairs"
    assert receipt["dragoman-precision"] == "fp32"
    assert float(receipt["dragoman-encode-ms"]) > 0
    assert float(receipt["dragoman-batch-mean"]) >= 1
    assert 1 <= int(receipt["dragoman-steps"]) <= len(TEXTS)


def violations(call: Callable[[], Any]) -> dict[str, tuple[str, str]]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error = cast(grpc.Call, raised.value)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailers = dict(cast("list[tuple[str, Any]]", error.trailing_metadata()))
    details = inference_pb2.ErrorDetails.FromString(trailers["dragoman-error-bin"])
    assert "Geheim" not in str(details)
    return {violation.field: (violation.value, violation.limit) for violation in details.violations}


def test_all_faults_of_a_text_to_classify_come_at_once(stub: Stub) -> None:
    found = violations(lambda: classify(stub, " \t", text_pair="Geheim", top_k=1001, min_probability=2, priority=10))
    assert found == {
        "text": ("2 blank characters", "at least one character that is not white space"),
        "text_pair": ("6 characters", "empty: single was trained on single texts"),
        "top_k": ("1001", "0 to 1000"),
        "min_probability": ("2", "0 to 1"),
        "priority": ("10", "0 to 9"),
    }
    assert list(violations(lambda: classify(stub, model="pairs"))) == ["text_pair"]
    assert list(violations(lambda: classify(stub, min_probability=float("nan")))) == ["min_probability"]


def test_faults_of_masks(stub: Stub) -> None:
    assert violations(lambda: fill(stub, "Geheim")) == {"text": ("0 times [MASK]", "[MASK] 1 to 16 times")}
    assert violations(lambda: fill(stub, "[MASK]" * 17, top_k=2000)) == {
        "text": ("17 times [MASK]", "[MASK] 1 to 16 times"),
        "top_k": ("2000", "0 to 1000"),
    }


def test_faults_of_texts_to_embed_name_each(stub: Stub) -> None:
    assert violations(lambda: embed(stub)) == {"texts": ("0 texts", "1 to 256")}
    assert list(violations(lambda: embed(stub, *["x"] * 257))) == ["texts"]
    found = violations(lambda: embed(stub, "a", "", "b", "a\0b", pooling=7))
    assert list(found) == ["texts[1]", "texts[3]", "pooling"]


def test_long_texts_name_the_limit(stub: Stub) -> None:
    text = "Geheim! " * 12
    limit = f"at most {tiny_encoder.SOURCE_TOKENS} tokens (limits.source_tokens)"
    for call in (
        lambda: classify(stub, text),
        lambda: tag(stub, text),
        lambda: fill(stub, f"{text}[MASK]"),
    ):
        found = violations(call)
        assert list(found) == ["text"]
        assert found["text"][1].startswith(limit)
    (field,) = violations(lambda: embed(stub, "a", text))
    assert field == "texts[1]"
    pair = violations(lambda: classify(stub, text, text_pair="b", model="pairs"))
    assert pair["text"][1] == f"{limit}, text_pair and 3 special ones included"
    endless = violations(lambda: tag(stub, "a " * 100_000))
    assert endless["text"][0] == "200000 characters"


def test_a_model_without_the_task_says_what_it_does(stub: Stub) -> None:
    found = violations(lambda: stub.Tag(inference_pb2.TagRequest(text="", model="tiny", priority=11)))
    assert list(found) == ["text", "model", "priority"]
    value, limit = found["model"]
    assert value == "tiny"
    assert limit == "one that tags: pairs, single (tiny translates)"
    asked = inference_pb2.TranslateRequest(text="x", target_language="de", model="pairs")
    assert violations(lambda: stub.Translate(asked))["model"] == (
        "pairs",
        "one that translates: tiny (pairs classifies, tags, fills masks, embeds)",
    )
    assert list(violations(lambda: tag_with(stub, "Not A Name"))) == ["model"]


def tag_with(stub: Stub, model: str) -> inference_pb2.TagResponse:
    return stub.Tag(inference_pb2.TagRequest(text="x", model=model))


def test_no_such_model_is_not_found(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        tag_with(stub, "absent")
    assert cast(grpc.Call, raised.value).code() is grpc.StatusCode.NOT_FOUND


def test_the_models_are_listed_with_their_tasks(channel: grpc.Channel) -> None:
    listed = models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest())
    assert [(model.name, len(model.tasks)) for model in listed.models] == [("tiny", 1), ("pairs", 4), ("single", 4)]
