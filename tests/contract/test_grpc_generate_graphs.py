"""Generate and Score over the graphs of a tiny decoder-only bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc, models_pb2, models_pb2_grpc
from dragoman_server.announcement import announcement
from dragoman_server.loading import Loaded, LoadingError, load
from dragoman_server.settings import Settings
from tests.contract.running import Running, serving
from tests.unit.server import tiny, tiny_decoder

SLIDE = inference_pb2.CONTEXT_OVERFLOW_SLIDE
PROMPT = "An old clock"


def settings(root: str) -> Settings:
    return Settings(models=root, precision="fp32", lanes=2, max_rows=12, port=0)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("models")
    tiny_decoder.write_bundle(root / "tiny-decoder" / "1")
    return str(root)


@pytest.fixture(scope="module")
def running(repository: str) -> Iterator[Running]:
    with serving(settings(repository)) as server:
        yield server


@pytest.fixture
def stub(running: Running) -> Iterator[inference_pb2_grpc.InferenceServiceStub]:
    with grpc.insecure_channel(running.address) as channel:
        yield inference_pb2_grpc.InferenceServiceStub(channel)


def options(**fields: object) -> inference_pb2.DecodingOptions:
    return inference_pb2.DecodingOptions(**fields)  # type: ignore[arg-type]


def request(prompt: str = PROMPT, **fields: object) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(prompt=prompt, **fields)  # type: ignore[arg-type]


def answer(
    stub: inference_pb2_grpc.InferenceServiceStub, asked: inference_pb2.GenerateRequest
) -> inference_pb2.GenerateResponse:
    """The whole answer, whose text is what the chunks have said."""
    chunks = list(stub.Generate(asked))
    response = chunks[-1].response
    assert "".join(chunk.final_text_delta for chunk in chunks) == response.hypotheses[0].text
    return response


def test_a_continuation_is_scored_as_a_forced_beginning_is(stub: inference_pb2_grpc.InferenceServiceStub) -> None:
    target = " ticks above the kitchen"
    for prompt in ("", PROMPT):
        score = stub.Score(inference_pb2.ScoreRequest(text=prompt, target=target))
        count = len(score.tokens)
        (hypothesis,) = answer(
            stub, request(prompt, options=options(max_length=count + 1, target_prefix=target))
        ).hypotheses
        assert list(hypothesis.tokens[:count]) == list(score.tokens)
        assert list(score.token_log_probs) == pytest.approx(list(hypothesis.token_log_probs[:count]), abs=1e-5)
        assert score.score == pytest.approx(sum(score.token_log_probs), abs=1e-4)


def test_the_same_alone_and_among_32_others(stub: inference_pb2_grpc.InferenceServiceStub) -> None:
    kinds = [options(max_length=12), options(max_length=12, beam_size=4), options(max_length=50, temperature=1.2)]
    asked = []
    for number in range(33):
        given = options(seed=number)
        given.MergeFrom(kinds[number % 3])
        overflow = SLIDE if number % 3 == 2 else 0
        asked.append(request(PROMPT[: number % 12], options=given, context_overflow=overflow))
    alone = [answer(stub, one) for one in asked]
    with ThreadPoolExecutor(33) as pool:
        together = list(pool.map(lambda one: answer(stub, one), asked))
    for one, other in zip(alone, together, strict=True):
        assert [h.text for h in one.hypotheses] == [h.text for h in other.hypotheses]
        for a, b in zip(one.hypotheses, other.hypotheses, strict=True):
            assert list(a.token_log_probs) == pytest.approx(list(b.token_log_probs), abs=1e-4)
    assert len({response.hypotheses[0].text for response in alone}) > 15


def test_a_text_goes_on_for_many_windows(stub: inference_pb2_grpc.InferenceServiceStub) -> None:
    length = 6 * tiny_decoder.WINDOW
    given = options(max_length=length, min_length=length - 1, temperature=1, seed=3, repetition_penalty=1.2)
    first, second = (answer(stub, request(options=given, context_overflow=SLIDE)) for _ in range(2))
    assert first.usage.target_tokens == length
    assert first.hypotheses[0].text == second.hypotheses[0].text


def test_leaving_frees_the_row(stub: inference_pb2_grpc.InferenceServiceStub, running: Running) -> None:
    given = options(max_length=60_000, min_length=59_999)
    call = stub.Generate(request(options=given, context_overflow=SLIDE))
    next(iter(call))

    def until(rows: int) -> None:
        deadline = time.monotonic() + 20
        while running.rows_used != rows and time.monotonic() < deadline:
            time.sleep(0.001)
        assert running.rows_used == rows

    until(1)  # between two windows it has none
    call.cancel()  # type: ignore[no-untyped-call]
    until(0)


def test_the_model_says_what_it_is(running: Running) -> None:
    with grpc.insecure_channel(running.address) as channel:
        (model,) = models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest()).models
    assert (model.name, list(model.languages), model.default) == ("tiny-decoder", [], True)


def test_the_server_s_first_words(repository: str) -> None:
    loaded: Loaded = load(settings(repository))
    for host in loaded.catalogue:
        host.engine.stop(0)
    (first,) = loaded.first_answers["tiny-decoder", "1"]
    assert first.label == "generates"
    shown = announcement("127.0.0.1:1", loaded, 1.0)
    assert "tiny-decoder version 1 (default): generate; fp32 on CPUExecutionProvider" in shown
    assert f"generates {first.question}" in " ".join(shown.split())


def test_default_options_that_need_a_source_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("models")
    bundle = tiny_decoder.write_bundle(root / "tiny-decoder" / "1")
    (bundle / "generation.json").write_text('{"maxLengthRatio": 2}')
    manifest = tiny.read_manifest(bundle)
    tiny.write_manifest(bundle, {key: value for key, value in manifest.items() if key != "files"})
    with pytest.raises(LoadingError, match=r"options\.max_length_ratio = 2: not for generation"):
        load(settings(str(root)))
