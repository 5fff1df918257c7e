"""The Open Inference Protocol on a real port, over engines that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from dragoman_protos.open_inference import open_inference_pb2, open_inference_pb2_grpc
from dragoman_protos.open_inference.open_inference_pb2 import InferParameter, ModelInferRequest
from dragoman_server.errors import Overloaded
from dragoman_server.request import Progress, Request
from tests.contract.conftest import Harness, answer, echo


def asking(*texts: str, model: str = "deu-eng", request_id: str = "", **parameters: str | int) -> ModelInferRequest:
    request = ModelInferRequest(model_name=model, id=request_id)
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    for name, value in {"target_language": "de", **parameters}.items():
        parameter = InferParameter(string_param=value) if isinstance(value, str) else InferParameter(int64_param=value)
        request.parameters[name].CopyFrom(parameter)
    return request


def stub(harness: Harness) -> open_inference_pb2_grpc.GRPCInferenceServiceAsyncStub:
    return open_inference_pb2_grpc.GRPCInferenceServiceStub(harness.channel)


async def endless(requests: asyncio.Queue[ModelInferRequest]) -> AsyncIterator[ModelInferRequest]:
    while True:
        yield await requests.get()


def texts_of(response: open_inference_pb2.ModelInferResponse) -> list[str]:
    return [text.decode() for text in response.outputs[0].contents.bytes_contents]


async def test_a_server_is_live_before_it_is_ready(starting: Harness) -> None:
    service = stub(starting)
    assert (await service.ServerLive(open_inference_pb2.ServerLiveRequest())).live
    assert not (await service.ServerReady(open_inference_pb2.ServerReadyRequest())).ready
    assert not (await service.ModelReady(open_inference_pb2.ModelReadyRequest(name="deu-eng"))).ready
    await starting.open()
    assert (await service.ServerReady(open_inference_pb2.ServerReadyRequest())).ready
    for name, version, ready in [
        ("deu-eng", "", True),
        ("deu-eng", "7", True),
        ("deu-eng", "8", False),
        ("x", "", False),
    ]:
        request = open_inference_pb2.ModelReadyRequest(name=name, version=version)
        assert (await service.ModelReady(request)).ready is ready


async def test_metadata_names_the_tensors(serving: Harness) -> None:
    metadata = await stub(serving).ModelMetadata(open_inference_pb2.ModelMetadataRequest(name="deu-eng"))
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [("text", "BYTES", [-1])]
    assert [one.name for one in metadata.outputs] == [
        "text",
        "score",
        "finish_reason",
        "source_tokens",
        "target_tokens",
    ]
    assert metadata.versions == ["7"]


async def test_each_text_is_answered_in_its_place(serving: Harness) -> None:
    call = stub(serving).ModelInfer(asking("ab", "c", "def", request_id="one"))
    response = await call
    assert (response.id, response.model_name, response.model_version) == ("one", "deu-eng", "7")
    assert texts_of(response) == ["AB", "C", "DEF"]
    assert list(response.outputs[3].contents.uint_contents) == [4, 3, 5]
    assert dict(await call.trailing_metadata())["dragoman-model"] == "deu-eng"


async def test_raw_texts_are_answered_raw(serving: Harness) -> None:
    request = asking("ab")
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(b"\x02\0\0\0ab")
    response = await stub(serving).ModelInfer(request)
    assert response.raw_output_contents[0] == b"\x02\0\0\0AB"
    assert not response.outputs[0].HasField("contents")


async def test_only_the_outputs_asked_for_are_sent(serving: Harness) -> None:
    request = asking("ab")
    request.outputs.add(name="score")
    assert [output.name for output in (await stub(serving).ModelInfer(request)).outputs] == ["score"]


async def test_a_column_of_texts_is_answered_by_a_column(serving: Harness) -> None:
    request = asking("ab", "c")
    request.inputs[0].shape[:] = [2, 1]
    response = await stub(serving).ModelInfer(request)
    assert [list(output.shape) for output in response.outputs] == [[2, 1]] * 5


async def test_all_faults_of_all_texts_at_once(serving: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(serving).ModelInfer(asking("ok", " ", "a\0", target_language="xx", beam_size=99, foo=1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = str(caught.value.details())
    for field in (
        "parameters = 'foo'",
        "inputs.text[1]",
        "inputs.text[2]",
        "parameters.target_language",
        "parameters.beam_size",
    ):
        assert details.count(field) == 1
    assert serving.engine.submitted.empty()


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (asking("a", model="nope"), grpc.StatusCode.NOT_FOUND, "nope"),
        (asking("a", model="../x"), grpc.StatusCode.INVALID_ARGUMENT, "model_name"),
        (asking(), grpc.StatusCode.INVALID_ARGUMENT, "1 to 256"),
        (asking(*["a"] * 257), grpc.StatusCode.INVALID_ARGUMENT, "1 to 256"),
        (asking("a", timeout=0), grpc.StatusCode.INVALID_ARGUMENT, "parameters.timeout"),
        (ModelInferRequest(model_name="deu-eng"), grpc.StatusCode.INVALID_ARGUMENT, "no text"),
    ],
)
async def test_what_cannot_be_asked(
    serving: Harness, request_: ModelInferRequest, code: grpc.StatusCode, said: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(serving).ModelInfer(request_)
    assert caught.value.code() is code
    assert said in str(caught.value.details())


async def test_unknown_outputs_are_refused(serving: Harness) -> None:
    request = asking("a")
    request.outputs.add(name="embedding")
    with pytest.raises(grpc.aio.AioRpcError, match="outputs"):
        await stub(serving).ModelInfer(request)


async def test_where_one_text_fails_the_others_are_cancelled(serving: Harness) -> None:
    held: list[Request] = []

    def behave(request: Request) -> None:
        if len(held) < 2:
            held.append(request)
        else:
            answer(lambda _: Overloaded("full", 1.0))(request)

    serving.engine.behave = behave
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(serving).ModelInfer(asking("a", "b", "c"))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert all(request.cancelled for request in held)


async def test_the_timeout_of_a_request_reaches_the_engine(serving: Harness) -> None:
    await stub(serving).ModelInfer(asking("a", timeout=30_000_000), timeout=3600)
    request = serving.engine.submitted.get_nowait()
    assert request.deadline is not None
    assert request.deadline - asyncio.get_running_loop().time() <= 30.0


async def test_a_stream_answers_as_text_is_decoded_and_ends_each_request_once(serving: Harness) -> None:
    def behave(request: Request) -> None:
        def outcome(request: Request) -> object:
            ids = [ord(letter) for letter in "XYZ"]
            assert request.progress is not None
            request.progress(Progress(ids[:2], ids))
            return echo(request)

        answer(outcome)(request)  # type: ignore[arg-type]

    serving.engine.behave = behave
    call = stub(serving).ModelStreamInfer(iter([asking("xyz", request_id="a"), asking(" ", request_id="b")]))
    texts: dict[str, str] = {"a": "", "b": ""}
    finals: list[str] = []
    errors: dict[str, str] = {}
    async for response in call:
        answered = response.infer_response
        if response.error_message:
            errors[answered.id] = response.error_message
        else:
            texts[answered.id] += texts_of(answered)[0]
        if answered.parameters["triton_final_response"].bool_param:
            finals.append(answered.id)
    assert texts == {"a": "XYZ", "b": ""}
    assert sorted(finals) == ["a", "b"]
    assert errors["b"].startswith("INVALID_ARGUMENT: inputs.text[0]")
    assert errors.keys() == {"b"}


async def test_a_stream_that_ends_early_cancels_what_it_began(serving: Harness) -> None:
    serving.engine.behave = lambda _: None
    requests: asyncio.Queue[ModelInferRequest] = asyncio.Queue()
    call = stub(serving).ModelStreamInfer(endless(requests))
    requests.put_nowait(asking("abc"))
    request = await serving.engine.submitted.get()
    call.cancel()
    async with asyncio.timeout(20):
        while not request.cancelled:
            await asyncio.sleep(0.01)


async def test_a_draining_server_ends_streams_after_what_is_under_way(serving: Harness) -> None:
    held: asyncio.Queue[Request] = serving.engine.submitted
    serving.engine.behave = lambda _: None
    requests: asyncio.Queue[ModelInferRequest] = asyncio.Queue()
    call = stub(serving).ModelStreamInfer(endless(requests))
    requests.put_nowait(asking("abc", request_id="a"))
    request = await held.get()
    draining = asyncio.create_task(serving.server.drain(20))
    await asyncio.sleep(0)
    request.finish(echo(request))
    answers = aiter(call)
    assert texts_of((await anext(answers)).infer_response) == ["ABC"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(answers)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await draining
