"""The OpenAPI document: valid, complete, and true of what is answered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from jsonschema import ValidationError
from openapi_spec_validator import validate

from dragoman_server.errors import Overloaded
from dragoman_server.request import Request
from dragoman_server.web.inference_routes import INFERENCE_PATHS
from dragoman_server.web.openapi import document
from dragoman_server.web.proto_comments import proto_comments
from tests.contract.openapi_answers import Described
from tests.contract.web import web

PROTOS = Path(__file__).parents[2] / "protos"
TRANSLATED = {"text": "guten tag", "target_language": "en", "options": {"beam_size": 1, "seed": "7"}}
GENERATED = {"prompt": "hello", "model": "toy"}
COMPLETED = {"model": "toy", "prompt": ["hello", "jolly"], "n": 2, "max_tokens": 3, "seed": 1, "user": "me"}


def test_the_document_is_valid_and_has_every_path() -> None:
    found = document()
    validate(found)
    assert {found.path for found in INFERENCE_PATHS} < found["paths"].keys()
    assert found["paths"].keys() >= {"/v1/models", "/v1/models/{name}", "/v1/completions", "/v1/embeddings"}


async def test_it_is_served_as_it_is_made_and_names_every_route() -> None:
    async with web() as here:
        served = (await here.client.get("/openapi.json")).json()
        assert served == document()
        for path, operations in served["paths"].items():
            for method in operations:
                asked = path.replace("{name}", "toy")
                response = await here.client.request(method, asked, json={} if method == "post" else None)
                assert "UNIMPLEMENTED" not in response.text, path


ANSWERED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/translate", TRANSLATED),
    ("/v1/translate/stream", TRANSLATED),
    ("/v1/generate", GENERATED),
    ("/v1/generate", GENERATED | {"stream": False}),
    ("/v1/score", {"text": "guten tag", "target": "hello", "target_language": "en"}),
    ("/v1/completions", COMPLETED),
    ("/v1/completions", COMPLETED | {"logprobs": 0}),
    ("/v1/completions", COMPLETED | {"stream": True, "stream_options": {"include_usage": True}}),
]


async def test_answers_are_as_it_says() -> None:
    described = Described(document())
    async with web() as here:
        for path, body in ANSWERED:
            described.check_asked(path, body)
            response = await here.post(path, body)
            assert response.status_code == 200, response.text
            described.check(response)


async def test_models_and_errors_are_as_it_says() -> None:
    described = Described(document())
    async with web() as here:
        described.check(await here.client.get("/v1/models"))
        described.check(await here.client.get("/v1/models/toy"), "/v1/models/{name}")

        def full(_: Request) -> None:
            raise Overloaded("the queue is full", 0.5, "queue_full")

        here.engine.behave = full
        for path, body, status in (
            ("/v1/translate", {"foo": 1}, 400),
            ("/v1/translate", TRANSLATED | {"model": "none"}, 404),
            ("/v1/translate", TRANSLATED, 429),
            ("/v1/completions", {"foo": 1}, 400),
            ("/v1/completions", COMPLETED | {"model": "none"}, 404),
            ("/v1/embeddings", {"model": "toy", "input": "a"}, 400),
        ):
            response = await here.post(path, body)
            assert response.status_code == status
            described.check(response)


async def test_it_refuses_what_the_server_refuses() -> None:
    async with web() as here:
        for fault in ({"foo": 1}, {"text": 1}, {"segmentation": "NO"}, {"options": {"stop": "a"}}):
            with pytest.raises(ValidationError):
                Described(document()).check_asked("/v1/translate", TRANSLATED | fault)
            assert (await here.post("/v1/translate", TRANSLATED | fault)).status_code == 400


def test_comments_are_those_that_protoc_reads(tmp_path: Path) -> None:
    out = tmp_path / "all.binpb"
    files = [f"dragoman_protos/v1/{name}.proto" for name in ("bundle", "inference", "models")]
    options = [f"-I{PROTOS}", "--include_source_info", f"--descriptor_set_out={out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *files], check=True, timeout=60)
    expected: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        for location in file.source_code_info.location:
            if location.leading_comments:
                lines = location.leading_comments.rstrip("\n").split("\n")
                expected[_name(file, list(location.path))] = "\n".join(line.removeprefix(" ") for line in lines)
    assert len(expected) > 100
    assert proto_comments() == expected


def _name(file: descriptor_pb2.FileDescriptorProto, path: list[int]) -> str:
    """What stands at a path of protoc's: pairs of a field's number and an index."""
    names = [file.package]
    found: Any = file
    while path:
        number, index, *path = path
        found = getattr(found, found.DESCRIPTOR.fields_by_number[number].name)[index]
        names.append(found.name)
    return ".".join(names)
