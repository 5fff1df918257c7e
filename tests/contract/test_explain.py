"""Explain, from client to graph and back, for a model of each family."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from dragoman import (
    AsyncClient,
    AttentionMaps,
    Client,
    DeadlineExceeded,
    ExplainedToken,
    InvalidArgument,
    NotFound,
    Overloaded,
)
from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.bundle import load_bundle
from dragoman_server.explaining.graph import Array, ExplainGraph, ExplainInput
from dragoman_server.explaining.rollout import rollout
from dragoman_server.settings import Settings
from tests.contract.running import serving
from tests.unit.server import tiny, tiny_decoder, tiny_encoder
from tests.unit.server.tiny_explain import add_explain

MOST_BYTES = 64 << 10
TEXT, TRANSLATION = "My sister grows beans.", "Meine Schwester zieht Bohnen."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    add_explain(tiny.write_bundle(root / "tiny" / "1"))
    add_explain(tiny_decoder.write_bundle(root / "tiny-decoder" / "1"))
    add_explain(tiny_encoder.write_bundle(root / "tiny-encoder" / "1"))
    tiny_encoder.write_bundle(root / "unexplained" / "1", name="unexplained")
    return root


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    settings = Settings(
        port=0, models=models, precision="fp32", lanes=1, max_rows=8, default_model="tiny", max_message_bytes=MOST_BYTES
    )
    with serving(settings) as running:
        yield running.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as found:
        yield found


def array(maps: AttentionMaps | None) -> Array:
    assert maps is not None
    return np.asarray(maps.weights, np.float32).reshape(maps.shape)


def read(text: str, tokens: Sequence[ExplainedToken]) -> str:
    """What stands at the tokens' places, without blanks."""
    return "".join("".join(text[t.begin : t.end] for t in tokens).split())


def test_a_given_translation(client: Client, models: Path) -> None:
    found = client.explain(TEXT, translation=TRANSLATION, target="de")
    manifest = load_bundle(models / "tiny" / "1", "fp32").manifest
    assert found.target_text == TRANSLATION
    assert (found.usage.target_tokens, found.usage.source_tokens) == (0, len(found.source_tokens))
    assert (found.source_tokens[0].token, found.source_tokens[-1].token) == ("<2de>", "</s>")
    assert [t.special for t in found.source_tokens] == [True, *[False] * (len(found.source_tokens) - 2), True]
    assert found.target_tokens[0].token == "<s>"
    assert read(TEXT, found.source_tokens) == "".join(TEXT.split())
    assert read(TRANSLATION, found.target_tokens) == "".join(TRANSLATION.split())
    source, target = len(found.source_tokens), len(found.target_tokens)
    heads, layers = manifest.dimensions.num_heads, manifest.dimensions.decoder_layers
    assert array(found.encoder_self).shape == (manifest.dimensions.encoder_layers, heads, source, source)
    assert array(found.decoder_self).shape == (layers, heads, target, target)
    assert array(found.cross).shape == (layers, heads, target, source)
    for maps in found.maps.values():
        assert np.allclose(array(maps).sum(axis=-1), 1.0, atol=1e-5)
    assert not np.triu(array(found.decoder_self), 1).any()
    assert {target for _, target, _ in found.aligned_words()} == {"Meine", "Schwester", "zieht", "Bohnen", "."}
    assert found.receipt.steps == 0
    assert (found.model, found.model_version) == ("tiny", "1")


def test_the_weights_are_the_graphs(client: Client, models: Path) -> None:
    found = client.explain(TEXT, translation=TRANSLATION, target="de")
    loaded = load_bundle(models / "tiny" / "1", "fp32")
    vocabulary = loaded.tokenizer.get_vocab()
    assert loaded.explain is not None
    source, target = ([vocabulary[t.token] for t in tokens] for tokens in (found.source_tokens, found.target_tokens))
    (expected,) = ExplainGraph(loaded.explain).run([ExplainInput(source, target)])
    assert expected.cross is not None
    assert np.array_equal(array(found.cross), expected.cross)


def test_without_a_translation_the_model_makes_its_own(client: Client) -> None:
    translated = client.translate(TEXT, target="de", segmentation="none")
    found = client.explain(TEXT, target="de")
    assert found.target_text == translated.text
    assert found.usage == translated.usage
    assert tuple(t.token for t in found.target_tokens[1:]) == translated.tokens
    assert found.receipt.steps == translated.receipt.steps


def test_a_prompt_and_its_continuation(client: Client) -> None:
    prompt = "It was"
    *_, last = client.generate(prompt, model="tiny-decoder", max_new_tokens=5)
    assert last.answer is not None
    found = client.explain(prompt, model="tiny-decoder", max_new_tokens=5)
    assert found.target_text == last.answer.text
    assert found.source_tokens == ()
    assert list(found.maps) == ["decoder_self"]
    time = len(found.target_tokens)
    assert array(found.decoder_self).shape[2:] == (time, time)
    assert found.alignment == ()
    given = client.explain(prompt, model="tiny-decoder", translation=" once")
    whole = prompt + " once"
    assert read(whole, given.target_tokens) == "Itwasonce"


def test_a_text_and_a_pair(client: Client) -> None:
    alone = client.explain(TEXT, model="tiny-encoder")
    assert list(alone.maps) == ["encoder_self"]
    pair = client.explain("Who sang?", text_pair="They sang.", model="tiny-encoder")
    assert [t.special for t in pair.source_tokens].count(True) == 3
    both = "Who sang?They sang."
    assert read(both, pair.source_tokens) == "".join(both.split())
    assert np.allclose(array(pair.encoder_self).sum(axis=-1), 1.0, atol=1e-5)


def test_aggregations_are_made_of_all_weights(client: Client) -> None:
    every = client.explain(TEXT, translation=TRANSLATION, target="de")
    heads = client.explain(TEXT, translation=TRANSLATION, target="de", aggregation="mean-heads", layers=[0])
    assert heads.cross is not None
    assert (heads.cross.layers, heads.cross.heads) == ((0,), ())
    assert array(heads.cross) == pytest.approx(array(every.cross)[:1].mean(axis=1, keepdims=True), abs=1e-6)
    mean = client.explain(TEXT, translation=TRANSLATION, target="de", aggregation="mean")
    assert array(mean.decoder_self) == pytest.approx(
        array(every.decoder_self).mean(axis=(0, 1), keepdims=True), abs=1e-6
    )
    rolled = client.explain(TEXT, translation=TRANSLATION, target="de", aggregation="rollout")
    assert array(rolled.encoder_self)[0, 0] == pytest.approx(rollout(array(every.encoder_self)), abs=1e-6)
    some = client.explain(TEXT, translation=TRANSLATION, target="de", layers=[1], heads=[1, 0])
    assert array(some.cross) == pytest.approx(array(every.cross)[[1]][:, [1, 0]])
    assert every.alignment == mean.alignment == rolled.alignment == some.alignment


async def test_many_at_once_and_both_clients_get_the_same(address: str, client: Client) -> None:
    texts = ["They sang.", "Is the bridge closed?", TEXT]
    alone = [client.explain(text, target="de") for text in texts]
    async with AsyncClient(address) as twin:
        together = await asyncio.gather(*(twin.explain(text, target="de") for text in texts * 4))
    for number, found in enumerate(together):
        expected = alone[number % len(texts)]
        assert found.maps == expected.maps
        assert (found.target_text, found.alignment) == (expected.target_text, expected.alignment)


def violations(error: pytest.ExceptionInfo[InvalidArgument]) -> dict[str, str]:
    return {v.field: v.limit for v in error.value.violations}


def test_all_faults_are_told_at_once(client: Client) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.explain(
            " ",
            text_pair="x",
            translation="a" * 10_000,
            target="xx",
            max_new_tokens=3,
            layers=[0, 0],
            heads=[7],
            aggregation="rollout",
            priority=12,
        )
    expected = {"text", "text_pair", "target", "target_language", "max_new_tokens", "layers", "heads", "priority"}
    assert set(violations(caught)) == expected


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"model": "tiny-decoder", "target": "de", "text_pair": "x"}, {"target_language", "text_pair"}),
        ({"model": "tiny-decoder", "max_new_tokens": 1000}, {"max_new_tokens"}),
        ({"model": "tiny-decoder", "max_new_tokens": 2, "translation": " a"}, {"max_new_tokens"}),
        ({"model": "tiny-encoder", "translation": "x", "max_new_tokens": 1}, {"target", "max_new_tokens"}),
        ({"model": "unexplained"}, {"model"}),
        ({"model": "No model!"}, {"model"}),
        ({"target": "de", "layers": [0, 1], "aggregation": "mean"}, {"layers"}),
        ({"model": "tiny-encoder", "heads": [2]}, {"heads"}),
    ],
)
def test_what_a_family_has_no_use_for_is_refused(client: Client, given: dict[str, object], fields: set[str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.explain("They sang.", **given)  # type: ignore[arg-type]
    assert set(violations(caught)) == fields


def test_an_unknown_model(client: Client) -> None:
    with pytest.raises(NotFound):
        client.explain("x", model="nowhere")


def test_an_unknown_aggregation(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        request = inference_pb2.ExplainRequest(text="x", target_language="de", aggregation=9)  # type: ignore[arg-type]
        with pytest.raises(grpc.RpcError, match="aggregation"):
            stub.Explain(request)


def test_a_deadline_that_has_passed(client: Client) -> None:
    # Whoever looks first: the client's clock, or the engine, which refuses what cannot be in time.
    with pytest.raises((DeadlineExceeded, Overloaded)):
        client.explain(TEXT, target="de", timeout=1e-6)


def test_an_answer_too_large_for_a_message_is_refused_before_it_is_made(models: Path) -> None:
    settings = Settings(port=0, models=models, precision="fp32", lanes=1, max_rows=4, max_message_bytes=12 << 10)
    with serving(settings) as running, Client(running.address) as client:
        with pytest.raises(InvalidArgument) as caught:
            client.explain(TEXT, translation=TRANSLATION, target="de", model="tiny")
        (violation,) = caught.value.violations
        assert violation.field == "layers"
        assert "bytes of weights" in violation.value
        assert "aggregation" in violation.limit
        assert client.explain(TEXT, translation=TRANSLATION, target="de", model="tiny", aggregation="mean").maps
        with pytest.raises(InvalidArgument, match="bytes of weights"):  # known only after decoding
            client.explain(TEXT, target="de", model="tiny")
