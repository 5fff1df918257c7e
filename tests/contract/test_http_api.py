"""The JSON API: the same calls as over gRPC, their answers, their errors, and what is counted of them."""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import json_format
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server import logs
from dragoman_server.errors import Overloaded, Unavailable
from dragoman_server.request import Progress, Request
from dragoman_server.security.tokens import digest, new_token
from dragoman_server.telemetry.tracing import Tracing
from tests.contract.conftest import answer, echo
from tests.contract.web import SECONDS, events_of, until, web

ASKED = {"text": "guten tag", "target_language": "en"}
RECEIPT = {"queue_ms": 1.5, "encode_ms": 2.25, "steps": 4, "batch_mean": 3.5, "precision": "int8", "lane": 1}
INFER, METRICS, SCARCE = new_token(), new_token(), new_token()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(
        f'[[tokens]]\nname = "web"\nsha256 = "{digest(INFER)}"\n'
        f'[[tokens]]\nname = "scraper"\nsha256 = "{digest(METRICS)}"\npermissions = ["metrics"]\n'
        f'[[tokens]]\nname = "scarce"\nsha256 = "{digest(SCARCE)}"\nrequests_per_minute = 2\n'
    )
    return path


def error_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    (name, error), *others = response.json().items()
    assert (name, others) == ("error", [])
    found: dict[str, Any] = error
    return found


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


async def test_a_stream_that_fails_says_so_in_an_event() -> None:
    read = threading.Event()

    def behave(request: Request) -> None:
        def run() -> None:
            assert request.progress is not None
            request.progress(Progress([ord("x")], []))
            assert read.wait(SECONDS)
            request.finish(Unavailable("the lane is gone"))

        threading.Thread(target=run).start()

    async with web() as here:
        here.engine.behave = behave
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


async def test_who_may_call(tokens: Path) -> None:
    async with web(tokens=tokens) as here:
        for path in ("/v1/translate", "/v1/generate", "/v1/completions", "/v1/embeddings"):
            nobody = await here.post(path, ASKED)
            assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
            other = await here.post(path, ASKED, authorization=f"Bearer {METRICS}")
            assert other.status_code == 403
        for path in ("/v1/models", "/v1/models/toy"):
            assert (await here.client.get(path)).status_code == 401
            known = await here.client.get(path, headers={"authorization": f"Bearer {INFER}"})
            assert known.status_code == 200
        assert (await here.post("/v1/translate", ASKED, authorization=f"Bearer {INFER}")).status_code == 200
        assert (await here.client.get("/openapi.json")).status_code == 200
        used = [await here.post("/v1/translate", ASKED, authorization=f"Bearer {SCARCE}") for _ in range(3)]
        assert [response.status_code for response in used] == [200, 200, 429]
        assert int(used[-1].headers["retry-after"]) in range(1, 31)
        # Each choice is a request of its own.
        many = {"model": "toy", "prompt": ["hello", "hello"], "n": 16, "max_tokens": 1}
        refused = await here.post("/v1/completions", many, authorization=f"Bearer {SCARCE}")
        assert refused.status_code == 429
        assert error_of(refused)["type"] == "rate_limit_error"


async def test_nobody_is_read_before_they_are_known(tokens: Path) -> None:
    async with web(tokens=tokens) as here:
        host, _, port = here.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/translate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")
        head = await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()
        assert b" 401 " in head


async def test_a_request_that_follows_closely_is_nobody_elses(tokens: Path) -> None:
    written = io.StringIO()
    logs.configure("debug", "json", written)
    async with web(tokens=tokens) as here:
        host, _, port = here.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        asked = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n"
        # Both are there before the first is answered.
        writer.write(f"{asked}authorization: Bearer {INFER}\r\n\r\n{asked}connection: close\r\n\r\n".encode())
        answers = (await asyncio.wait_for(reader.read(), SECONDS)).decode()
        writer.close()
        assert re.findall(r"HTTP/1.1 (\d+)", answers) == ["200", "401"]
    calls = [line for line in map(json.loads, written.getvalue().splitlines()) if line["event"] == "call"]
    assert {(line["code"], line["caller"]) for line in calls} == {("OK", "web"), ("UNAUTHENTICATED", "anonymous")}
    assert calls[0]["request_id"] != calls[1]["request_id"]


async def test_calls_are_counted_logged_and_traced_under_their_ids(tokens: Path) -> None:
    written, exporter = io.StringIO(), InMemorySpanExporter()
    logs.configure("debug", "json", written)
    async with web(tokens=tokens, tracing=Tracing(exporter)) as here:
        known = {"authorization": f"Bearer {INFER}", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        response = await here.client.post("/v1/translate", json=ASKED, headers={**known, "x-request-id": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
        bad = await here.client.post("/v1/translate", json={"text": "xyzzy", "foo": 1}, headers=known)
        assert len(bad.headers["x-request-id"]) == 32
        await here.client.post("/v1/generate", json={"prompt": "hello", "model": "toy"}, headers=known)
        counted = (await here.client.get("/metrics", headers={"authorization": f"Bearer {METRICS}"})).text
        for rpc, code in (("translate", "OK"), ("translate", "INVALID_ARGUMENT"), ("generate", "OK")):
            labels = {f'rpc="POST /v1/{rpc}"', f'code="{code}"'}
            assert any(
                line.startswith("dragoman_rpcs_total{") and all(label in line for label in labels) and " 1.0" in line
                for line in counted.splitlines()
            ), (rpc, code)
        assert 'dragoman_rpcs_in_flight{rpc="POST /v1/translate"} 0.0' in counted
    text = written.getvalue()
    assert "xyzzy" not in text
    assert INFER not in text
    calls = [line for line in map(json.loads, text.splitlines()) if line["event"] == "call"]
    assert [(line["rpc"], line["code"], line["caller"], line["model"]) for line in calls] == [
        ("POST /v1/translate", "OK", "web", "deu-eng"),
        ("POST /v1/translate", "INVALID_ARGUMENT", "web", ""),
        ("POST /v1/generate", "OK", "web", "toy"),
    ]
    assert calls[0]["request_id"] == "mine-1"
    assert calls[0]["source_tokens"] > 0
    first = next(span for span in exporter.get_finished_spans() if span.name == "POST /v1/translate")
    assert first.attributes is not None
    assert first.attributes["http.route"] == "/v1/translate"
    assert first.context is not None
    assert f"{first.context.trace_id:032x}" == "a" * 32


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
