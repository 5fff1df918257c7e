"""The HTTP port of a real process with the shipped models: as gRPC has it, as OpenAI's client, as the page says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.web.inference_routes import INFERENCE_PATHS
from dragoman_server.web.openapi import document
from tests.contract.openapi_answers import Described
from tests.contract.web import events_of
from tests.integration.server_process import SECONDS, ServerProcess

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
GREEDY: dict[str, Any] = {"model": "shakespeare", "max_tokens": 12, "temperature": 0}
ASKED: dict[str, dict[str, Any]] = {
    "/v1/translate": {"text": "The house is old. The garden is small.", "target_language": "de"},
    "/v1/translate/stream": {"text": "The house is old. The garden is small.", "target_language": "de"},
    "/v1/generate": {"prompt": "First Citizen:\n", "model": "shakespeare", "options": {"max_length": 20}},
    "/v1/score": {"text": "Good morning.", "target": "Guten Morgen.", "target_language": "de"},
    "/v1/classify": {"text": "set an alarm for seven", "top_k": 3},
    "/v1/tag": {"text": "the old house"},
    "/v1/fill-mask": {"text": "what is the [MASK] today", "top_k": 2},
    "/v1/embed": {"texts": ["hello", "good morning"]},
    "/v1/explain": {"text": "The house is old.", "target_language": "de", "aggregation": "AGGREGATION_MEAN_HEADS"},
}


@pytest.fixture(scope="module")
def process() -> Iterator[ServerProcess]:
    with ServerProcess(ROOT / "models", "--http-port", "0") as process:
        process.wait_ready()
        yield process


@pytest.fixture
def url(process: ServerProcess) -> str:
    return process.http_url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=SECONDS) as client:
        yield client


def last_answer(method: str, answer: Any) -> Message:
    """Of a stream the whole answer, which its last chunk has."""
    if method in {"StreamTranslate", "Generate"}:
        *_, chunk = answer
        response: Message = chunk.response
        return response
    message: Message = answer
    return message


@pytest.mark.parametrize("found", INFERENCE_PATHS, ids=lambda found: found.path)
def test_every_method_answers_as_over_grpc_and_as_the_document_says(process: ServerProcess, found: Any) -> None:
    asked, method, described = ASKED[found.path], found.method.name, Described(document())
    described.check_asked(found.path, asked)
    request = json_format.ParseDict(asked, getattr(inference_pb2, found.method.input_type.name)())
    response = httpx.post(f"{process.http_url}{found.path}", json=asked, timeout=SECONDS)
    described.check(response)
    with grpc.insecure_channel(process.address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        if response.status_code == 404:  # no shipped model has the task
            with pytest.raises(grpc.RpcError) as refused:
                getattr(stub, method)(request)
            wire: Any = refused.value
            assert response.json()["error"] == {"code": wire.code().name, "message": wire.details()}
            return
        assert response.status_code == 200
        expected = last_answer(method, getattr(stub, method)(request))
    streams = response.headers["content-type"].startswith("text/event-stream")
    assert streams == found.method.server_streaming
    body = events_of(response.text)[-1] if streams else response.json()
    assert body.pop("receipt")["precision"] == "int8"
    answered = json_format.ParseDict(body["response"] if streams else body, type(expected)())
    assert answered == expected
    if streams:
        text = "".join(event["final_text_delta"] for event in events_of(response.text))
        assert text == body["response"]["hypotheses"][0]["text"]


def test_models_are_those_that_openai_lists(client: openai.OpenAI, url: str) -> None:
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {"deu-eng", "intents", "shakespeare"}
    assert all(model.created > 1_700_000_000 for model in models.values())
    assert client.models.retrieve("intents").created == models["intents"].created
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none")
    described = Described(document())
    described.check(httpx.get(f"{url}/v1/models"))
    described.check(httpx.get(f"{url}/v1/models/intents"), "/v1/models/{name}")


def test_openai_completes(client: openai.OpenAI) -> None:
    whole = client.completions.create(prompt="ROMEO:", **GREEDY)
    (choice,) = whole.choices
    assert (choice.index, choice.finish_reason, whole.model) == (0, "length", "shakespeare")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 12
    assert client.completions.create(prompt="ROMEO:", echo=True, **GREEDY).choices[0].text == f"ROMEO:{choice.text}"
    stop = choice.text.strip()[:2]
    stopped = client.completions.create(prompt="ROMEO:", stop=stop, **GREEDY).choices[0]
    assert stopped.finish_reason == "stop"
    assert choice.text.startswith(stopped.text + stop)
    known = client.completions.create(prompt="ROMEO:", logprobs=0, **GREEDY).choices[0].logprobs
    assert known is not None
    assert known.tokens is not None
    assert known.token_logprobs is not None
    assert len(known.tokens) == len(known.token_logprobs) == 12
    assert all(value <= 0 for value in known.token_logprobs)


def test_openai_samples_choices_that_a_seed_reproduces(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "shakespeare", "prompt": ["ROMEO:", "JULIET:"], "n": 2, "max_tokens": 10}
    first = client.completions.create(seed=7, **asked)
    again = client.completions.create(seed=7, **asked)
    assert [choice.index for choice in first.choices] == [0, 1, 2, 3]
    assert first.choices == again.choices
    assert len({choice.text for choice in first.choices}) > 1
    second = client.completions.create(seed=8, **(asked | {"n": 1, "prompt": "ROMEO:"}))
    assert second.choices[0].text == first.choices[1].text
    streamed = ["", "", "", ""]
    usages = []
    for chunk in client.completions.create(seed=7, stream=True, stream_options={"include_usage": True}, **asked):
        usages.append(chunk.usage)
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == [choice.text for choice in first.choices]
    assert usages[-1] == first.usage
    assert not any(usages[:-1])


async def test_openai_completes_and_embeds_asynchronously(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        text, reasons = "", []
        async for chunk in await client.completions.create(prompt="ROMEO:", stream=True, **GREEDY):
            text += chunk.choices[0].text
            reasons.append(chunk.choices[0].finish_reason)
            assert chunk.usage is None
        whole = await client.completions.create(prompt="ROMEO:", **GREEDY)
        assert text == whole.choices[0].text
        assert reasons == [*[None] * (len(reasons) - 1), "length"]
        vectors = await client.embeddings.create(model="intents", input=["hello"])
        assert len(vectors.data[0].embedding) == 192


def test_openai_embeds_and_base64_is_the_same(client: openai.OpenAI) -> None:
    usual = client.embeddings.create(model="intents", input=["hello", "good morning"])
    plain = client.embeddings.create(model="intents", input=["hello", "good morning"], encoding_format="float")
    assert [each.index for each in usual.data] == [0, 1]
    for one, other in zip(usual.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-7)
        assert sum(value * value for value in one.embedding) == pytest.approx(1, abs=1e-4)
    assert usual.usage.prompt_tokens == plain.usage.total_tokens > 0
    alone = client.embeddings.create(model="intents", input="hello")
    assert alone.data[0].embedding == pytest.approx(usual.data[0].embedding, abs=1e-2)


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("suffix", {"suffix": "."}),
        ("logit_bias", {"logit_bias": {"1": 1}}),
        ("best_of", {"best_of": 2}),
        ("colour", {"extra_body": {"colour": 1}}),
        ("logprobs", {"logprobs": 5}),
        ("stream_options", {"stream_options": {"include_usage": True}}),
        ("max_tokens", {"max_tokens": 5000}),
        ("temperature", {"temperature": -1}),
        ("stop[0]", {"stop": ["x" * 200]}),
        ("prompt", {"prompt": [1, 2]}),
        ("prompt[1]", {"prompt": ["a", "b" * 9000]}),
        ("model", {"model": "deu-eng"}),
    ],
)
def test_openai_is_told_which_field_is_at_fault(client: openai.OpenAI, field: str, given: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "shakespeare", "prompt": "a"}
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(**(asked | given))
    assert (refused.value.param, refused.value.type) == (field, "invalid_request_error")
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["violations"][0]["field"] == field
    assert "options." not in str(refused.value)


def test_openai_is_told_of_embeddings_too(client: openai.OpenAI) -> None:
    for field, given in (
        ("dimensions", {"dimensions": 8}),
        ("input", {"input": ""}),
        ("input[1]", {"input": ["a", " "]}),
    ):
        asked: dict[str, Any] = {"model": "intents", "input": "a"} | given
        with pytest.raises(openai.BadRequestError) as refused:
            client.embeddings.create(**asked)
        assert refused.value.param == field
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="none", input="a")
    assert unknown.value.param == "model"


def commands() -> list[tuple[str, str | None]]:
    """Every curl of the page, and the JSON that is said to come of the last one of its block."""
    found: list[tuple[str, str | None]] = []
    for number, (kind, text) in enumerate(BLOCKS):
        if kind != "sh" or not text.startswith("curl"):
            continue
        following = BLOCKS[number + 1] if number + 1 < len(BLOCKS) else ("", "")
        lines = text.strip().splitlines()
        found += [(line, None) for line in lines[:-1]]
        found.append((lines[-1], following[1] if following[0] == "json" else None))
    return found


def assert_within(expected: Any, found: Any) -> None:
    """All that the page shows is there; it leaves members out."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert_within(value, found[name])
    elif isinstance(expected, list):
        assert len(expected) == len(found)
        for one, other in zip(expected, found, strict=True):
            assert_within(one, other)
    else:
        assert expected == found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_command_of_the_page_does_what_it_says(url: str) -> None:
    assert len(commands()) >= 12
    for command, expected in commands():
        line = command.replace("http://127.0.0.1:8080", url)
        run = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=SECONDS)
        if expected is not None:
            assert_within(json.loads(expected), json.loads(run.stdout))
        elif run.stdout.startswith("data: "):
            # One or many: what is decoded while nobody reads is told at one time.
            events = events_of(run.stdout)
            text = "".join(event.get("final_text_delta", "") for event in events)
            assert text == events[-1]["response"]["hypotheses"][0]["text"]
        else:
            assert "error" not in json.loads(run.stdout)


def test_the_python_of_the_page_runs(url: str) -> None:
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    line = code.replace("http://127.0.0.1:8080", url)
    run = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert run.stdout.rstrip().endswith("192")
