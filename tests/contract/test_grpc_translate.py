from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2, models_pb2
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.request import Completion, Request

if TYPE_CHECKING:
    from tests.contract.conftest import Harness


def request(**fields: object) -> inference_pb2.TranslateRequest:
    given = {"text": "hello", "target_language": "de"} | fields
    return inference_pb2.TranslateRequest(**given)  # type: ignore[arg-type]


async def cancelled(submitted: Request) -> None:
    async with asyncio.timeout(10):
        while not submitted.cancelled:
            await asyncio.sleep(0.005)


async def test_an_answer_carries_the_text_its_tokens_and_usage(serving: Harness) -> None:
    response = await serving.inference.Translate(request())
    (hypothesis,) = response.hypotheses
    assert hypothesis.text == "HELLO"
    assert list(hypothesis.tokens) == list("HELLO")
    assert list(hypothesis.token_log_probs) == [-0.25] * 6
    assert hypothesis.score == -1.5
    assert hypothesis.rank_score == -0.25
    assert hypothesis.finish_reason == inference_pb2.FINISH_REASON_STOP
    assert (response.usage.source_tokens, response.usage.target_tokens) == (7, 6)
    assert (response.model, response.model_version) == ("deu-eng", "7")


async def test_the_engine_gets_tag_text_and_end_of_sentence(serving: Harness) -> None:
    await serving.inference.Translate(request(text="ab", target_language="EN", source_language="de"))
    submitted = serving.engine.submitted.get_nowait()
    assert list(submitted.source_ids) == [5, ord("a"), ord("b"), 3]
    assert submitted.options == DecodingOptions(max_length=30)
    assert submitted.deadline is None


async def test_options_reach_the_engine(serving: Harness) -> None:
    await serving.inference.Translate(request(options=inference_pb2.DecodingOptions(max_length=50)))
    assert serving.engine.submitted.get_nowait().options.max_length == 50


async def test_a_cut_answer_says_so_and_counts_no_end_of_sentence(serving: Harness) -> None:
    def cut(submitted: Request) -> None:
        submitted.finish(Completion([Answer([65], [-1.0], FinishReason.LENGTH, -1.0)], submitted.receipt()))

    serving.engine.behave = cut
    response = await serving.inference.Translate(request())
    assert response.hypotheses[0].finish_reason == inference_pb2.FINISH_REASON_LENGTH
    assert response.usage.target_tokens == 1


async def test_several_hypotheses_come_with_their_ranks_and_all_their_tokens_are_counted(serving: Harness) -> None:
    answers = [
        Answer([72, 105], [-0.5, -0.25, -0.25], FinishReason.STOP, -0.5),
        Answer([72, 111, 33], [-0.5, -1.0, -1.0], FinishReason.STOP_SEQUENCE, -0.75, text="H"),
    ]

    def behave(submitted: Request) -> None:
        submitted.finish(Completion(answers, submitted.receipt()))

    serving.engine.behave = behave
    options = inference_pb2.DecodingOptions(beam_size=3, num_hypotheses=2, stop=["o"])
    response = await serving.inference.Translate(request(options=options))
    best, second = response.hypotheses
    assert (best.text, best.score, best.rank_score) == ("Hi", -1.0, -0.5)
    assert (second.text, second.score, second.rank_score) == ("H", -2.5, -0.75)
    assert second.finish_reason == inference_pb2.FINISH_REASON_STOP_SEQUENCE
    assert list(second.tokens) == list("Ho!")
    assert response.usage.target_tokens == 6
    submitted = serving.engine.submitted.get_nowait()
    assert (submitted.options.beam_size, submitted.options.num_hypotheses, submitted.width) == (3, 2, 3)


async def test_the_receipt_travels_in_trailing_metadata(serving: Harness) -> None:
    call = serving.inference.Translate(request())
    await call
    trailing = dict(iter(await call.trailing_metadata()))
    assert re.fullmatch("[0-9a-f]{32}", str(trailing.pop("dragoman-request-id")))
    assert trailing == {
        "dragoman-queue-ms": "1.500",
        "dragoman-encode-ms": "2.250",
        "dragoman-steps": "4",
        "dragoman-batch-mean": "3.50",
        "dragoman-precision": "int8",
        "dragoman-model": "deu-eng",
        "dragoman-model-version": "7",
        "dragoman-lane": "1",
    }


async def test_many_calls_at_once_each_get_their_own_answer(serving: Harness) -> None:
    texts = [f"text {number}" for number in range(200)]
    responses = await asyncio.gather(*(serving.inference.Translate(request(text=text)) for text in texts))
    assert [response.hypotheses[0].text for response in responses] == [text.upper() for text in texts]


async def test_cancelling_a_call_cancels_the_request(serving: Harness) -> None:
    serving.engine.behave = lambda submitted: None
    call = serving.inference.Translate(request())
    waiting = asyncio.ensure_future(call.code())
    submitted = await asyncio.wait_for(serving.engine.submitted.get(), 10)
    assert not submitted.cancelled
    call.cancel()
    assert await waiting is grpc.StatusCode.CANCELLED
    await cancelled(submitted)


async def test_a_vanished_client_cancels_the_request(serving: Harness) -> None:
    serving.engine.behave = lambda submitted: None
    async with grpc.aio.insecure_channel(serving.address) as channel:
        call = channel.unary_unary(
            "/dragoman.v1.InferenceService/Translate",
            request_serializer=inference_pb2.TranslateRequest.SerializeToString,
            response_deserializer=inference_pb2.TranslateResponse.FromString,
        )(request())
        submitted = await asyncio.wait_for(serving.engine.submitted.get(), 10)
    assert await call.code() is grpc.StatusCode.CANCELLED
    await cancelled(submitted)


async def test_the_deadline_reaches_the_engine_and_ends_the_call(serving: Harness) -> None:
    serving.engine.behave = lambda submitted: None
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await serving.inference.Translate(request(), timeout=0.3)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    submitted = serving.engine.submitted.get_nowait()
    assert submitted.deadline is not None
    assert 0 < submitted.deadline - submitted.arrived <= 0.302  # rounded up to milliseconds, there and here
    await cancelled(submitted)


async def test_models_are_listed_and_shown_with_their_bundle(serving: Harness) -> None:
    (model,) = (await serving.models.ListModels(models_pb2.ListModelsRequest())).models
    assert (model.name, model.version, model.default) == ("deu-eng", "7", True)
    assert list(model.languages) == ["de", "en"]
    assert (model.precision, model.provider, model.lanes, model.max_rows) == ("int8", "CPUExecutionProvider", 2, 16)
    for name in ("", "deu-eng"):
        shown = await serving.models.GetModel(models_pb2.GetModelRequest(name=name))
        assert shown.model == model
        assert shown.bundle.limits.source_tokens == 42
