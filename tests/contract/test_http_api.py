"""The JSON API: the same calls as over gRPC, their answers, their errors, and what is counted of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import grpc
import openai
import pytest
from google.protobuf import json_format

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.errors import Overloaded, Unavailable
from dragoman_server.request import Progress, Request
from tests.contract.conftest import FakeEngine, answer, echo
from tests.contract.web import SECONDS, error_of, events_of, until, web

ASKED = {"text": "guten tag", "target_language": "en"}
RECEIPT = {"queue_ms": 1.5, "encode_ms": 2.25, "steps": 4, "batch_mean": 3.5, "precision": "int8", "lane": 1}


async def test_an_answer_is_that_of_grpc_and_its_receipt() -> None:
    async with web() as here, grpc.aio.insecure_channel(here.address) as channel:
        stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)
        wire = await stub.Translate(inference_pb2.TranslateRequest(text="guten tag", target_language="en"))
        response = await here.post("/v1/translate", ASKED)
        assert response.status_code == 200
        body = response.json()
        assert body.pop("receipt") == RECEIPT
        assert json_format.ParseDict(body, inference_pb2.TranslateResponse()) == wire
        assert body["segments"][0]["copied"] is False  # what is false or 0 is there too
        assert body["hypotheses"][0]["finish_reason"] == "FINISH_REASON_STOP"


async def test_a_stream_ends_with_the_answer_and_the_receipt() -> None:
    async with web() as here:
        translated = await here.events("/v1/translate/stream", ASKED)
        assert translated[-1]["response"]["hypotheses"][0]["text"] == "GUTEN TAG"
        assert translated[-1]["receipt"] == RECEIPT
        asked = {"prompt": "hello", "model": "toy", "options": {"min_length": 12}}
        chunks = await here.events("/v1/generate", asked)
        assert not any("response" in chunk or "receipt" in chunk for chunk in chunks[:-1])
        whole = (await here.post("/v1/generate", asked | {"stream": False})).json()
        assert whole.pop("receipt").keys() == chunks[-1].pop("receipt").keys()
        assert chunks[-1]["response"] == whole
        text = whole["hypotheses"][0]["text"]
        assert "".join(chunk["final_text_delta"] for chunk in chunks) == text


async def test_all_faults_of_a_body_are_told_by_their_paths() -> None:
    async with web() as here:
        options = {"beam_size": "many", "colour": 1, "stop": ["a", 2]}
        response = await here.post("/v1/translate", {"text": 1, "sauce": True, "options": options})
        assert response.status_code == 400
        error = error_of(response)
        assert error["code"] == "INVALID_ARGUMENT"
        assert [(fault["field"], fault["value"]) for fault in error["violations"]] == [
            ("text", "1"),
            ("sauce", "unknown"),
            ("options.beam_size", "'many'"),
            ("options.colour", "unknown"),
            ("options.stop[1]", "2"),
        ]
        # What the message's own rules say comes from the service, as over gRPC.
        error = error_of(await here.post("/v1/translate", {"text": " ", "target_language": "qq"}))
        assert {fault["field"] for fault in error["violations"]} == {"text", "target_language"}
        error = error_of(await here.post("/v1/generate", {"prompt": "e", "model": "toy", "stream": "no"}))
        assert [fault["field"] for fault in error["violations"]] == ["stream"]


async def test_every_kind_of_error_has_its_status() -> None:
    async with web() as here:

        def failing(error: Exception) -> None:
            def behave(_: Request) -> None:
                raise error

            here.engine.behave = behave

        assert error_of(await here.post("/v1/translate", ASKED | {"model": "none"}))["code"] == "NOT_FOUND"
        failing(Overloaded("the queue is full", 1.2, "queue_full"))
        for path in ("/v1/translate", "/v1/translate/stream"):
            full = await here.post(path, ASKED)
            assert (full.status_code, full.headers["retry-after"]) == (429, "2")
            assert error_of(full) == {"code": "RESOURCE_EXHAUSTED", "message": "the queue is full", "retry_after": 1.2}
        failing(ValueError("a secret of ours"))
        broken = await here.post("/v1/translate", ASKED)
        assert broken.status_code == 500
        error = error_of(broken)
        assert error["code"] == "INTERNAL"
        assert len(error["incident"]) == 32
        assert "secret" not in broken.text
        here.engine.behave = lambda _: None
        late = await here.post("/v1/translate", ASKED, x_timeout_ms="20")
        assert (late.status_code, error_of(late)["code"]) == (504, "DEADLINE_EXCEEDED")
        for wrong in ("0", "3600001", "1.5", "soon", "-1", ""):
            refused = await here.post("/v1/translate", ASKED, x_timeout_ms=wrong)
            assert refused.status_code == 400, wrong
            assert error_of(refused)["violations"][0]["field"] == "x-timeout-ms"
        nothing = await here.client.post("/v1/nothing", json={})
        assert (nothing.status_code, error_of(nothing)["code"]) == (404, "UNIMPLEMENTED")
        by_get = await here.client.get("/v1/translate")
        assert (by_get.status_code, by_get.headers["allow"]) == (405, "POST")
        assert error_of(by_get)["code"] == "UNIMPLEMENTED"
        counted = await here.counted()
        assert 'dragoman_rpcs_refused_total{reason="queue_full"} 2.0' in counted


async def test_a_deadline_reaches_the_engine() -> None:
    async with web() as here:
        await here.post("/v1/translate", ASKED, x_timeout_ms="50000")
        submitted = here.engine.submitted.get_nowait()
        assert submitted.deadline is not None
        assert 0 < submitted.deadline - submitted.arrived <= 50
        await here.post("/v1/translate", ASKED)
        assert here.engine.submitted.get_nowait().deadline is None


def failing_once(read: threading.Event) -> Callable[[Request], None]:
    """A behaviour: a first letter, and when that was read no more."""

    def behave(request: Request) -> None:
        def run() -> None:
            assert request.progress is not None
            request.progress(Progress([ord("x")], []))
            assert read.wait(SECONDS)
            request.finish(Unavailable("the lane is gone"))

        threading.Thread(target=run).start()

    return behave


async def test_openai_is_told_of_a_stream_that_fails() -> None:
    read, toy = threading.Event(), FakeEngine()
    toy.behave = failing_once(read)
    async with web(toy=toy) as here, openai.AsyncOpenAI(base_url=f"http://{here.http}/v1", api_key="x") as client:
        stream = await client.completions.create(model="toy", prompt="a", stream=True, echo=True)
        assert (await anext(stream)).choices[0].text == "ax"
        read.set()
        with pytest.raises(openai.APIError, match="the lane is gone") as failed:
            await anext(stream)
        assert (failed.value.code, failed.value.type) == ("unavailable", "server_error")


async def test_a_stream_that_fails_says_so_in_an_event() -> None:
    read = threading.Event()
    async with web() as here:
        here.engine.behave = failing_once(read)
        async with here.client.stream("POST", "/v1/translate/stream", json=ASKED) as response:
            pieces = response.aiter_text()
            text = await anext(pieces)
            read.set()
            text += "".join([piece async for piece in pieces])
        assert response.status_code == 200
        first, last = text.rstrip().split("\n\n")
        assert events_of(first)[0]["provisional_text"] + events_of(first)[0]["final_text_delta"] == "x"
        assert last.startswith("event: error\ndata: ")
        assert events_of(last)[0]["error"] == {"code": "UNAVAILABLE", "message": "the lane is gone"}


async def test_models_are_listed_as_openai_lists_them() -> None:
    async with web() as here:
        listed = (await here.client.get("/v1/models")).json()
        assert listed["object"] == "list"
        assert [(entry["id"], entry["object"], entry["owned_by"]) for entry in listed["data"]] == [
            ("deu-eng", "model", "dragoman"),
            ("toy", "model", "dragoman"),
        ]
        toy = listed["data"][1]
        assert (toy["created"], toy["dragoman"]["version"], toy["dragoman"]["state"]) == (0, "3", "STATE_READY")
        for name in ("toy", "toy@3"):
            one = (await here.client.get(f"/v1/models/{name}")).json()
            assert one.pop("bundle")["name"] == "toy"
            assert one == toy | {"id": name}
        assert (await here.client.get("/v1/models/none")).status_code == 404
        assert (await here.client.get("/v1/models/NO")).status_code == 400


async def test_nothing_is_answered_before_the_models_are_there() -> None:
    async with web(opened=False) as here:
        for response in (await here.post("/v1/translate", ASKED), await here.client.get("/v1/models")):
            assert response.status_code == 503
            assert error_of(response)["code"] == "UNAVAILABLE"


async def test_draining_finishes_what_is_inside_and_refuses_what_comes() -> None:
    held: list[Request] = []
    async with web() as here:
        here.engine.behave = held.append
        inside = asyncio.create_task(here.post("/v1/translate", ASKED))
        await until(lambda: bool(held))
        draining = asyncio.create_task(here.server.drain(SECONDS))
        async with asyncio.timeout(SECONDS):
            while (await here.client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.005)
        refused = await here.post("/v1/translate", ASKED)
        assert (refused.status_code, error_of(refused)["code"]) == (503, "UNAVAILABLE")
        answer(echo)(held[0])
        assert (await inside).json()["hypotheses"][0]["text"] == "GUTEN TAG"
        await draining


async def test_a_refusal_has_all_its_violations_over_both() -> None:
    async with web() as here, grpc.aio.insecure_channel(here.address) as channel:
        stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)
        request = inference_pb2.TranslateRequest(text=" ", target_language="qq")
        with pytest.raises(grpc.aio.AioRpcError) as wire:
            await stub.Translate(request)
        web_error = error_of(await here.post("/v1/translate", {"text": " ", "target_language": "qq"}))
        assert web_error["message"] == wire.value.details()
