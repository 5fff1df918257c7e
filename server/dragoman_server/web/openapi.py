"""GET /openapi.json: all paths of the API and all schemas, made from the protos' descriptors and OpenAI's messages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from google.protobuf.descriptor import Descriptor
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dragoman_protos.v1 import bundle_pb2, inference_pb2, models_pb2
from dragoman_server.announcement import installed_version
from dragoman_server.web import model_routes, openai_completions, openai_embeddings
from dragoman_server.web.calls import LONGEST_TIMEOUT_MS, TIMEOUT_HEADER
from dragoman_server.web.inference_routes import INFERENCE_PATHS, STREAM, InferencePath
from dragoman_server.web.json_messages import Json, encoded
from dragoman_server.web.openai_messages import Completion, CompletionRequest, EmbeddingList, EmbeddingRequest
from dragoman_server.web.proto_comments import proto_comments
from dragoman_server.web.proto_schemas import field_message, message_schemas, reference, schema_name
from dragoman_server.web.replies import REQUEST_ID_HEADER
from dragoman_server.web.writing import RECEIPT

PATH = "/openapi.json"
EVENT = "x-event"
"""Of a stream's media type: the schema of each event's data, for which OpenAPI 3.1 has no word."""
_STREAM_TYPE, _JSON_TYPE = "text/event-stream", "application/json"
_FAULTS = {
    400: "INVALID_ARGUMENT: every fault of the request is listed.",
    401: "UNAUTHENTICATED: a bearer token is needed.",
    403: "PERMISSION_DENIED: the token does not allow it, or a page of another origin asks.",
    404: "NOT_FOUND: there is no such model.",
    408: "DEADLINE_EXCEEDED: the body did not come in time.",
    413: "RESOURCE_EXHAUSTED: the body is too large.",
    415: "INVALID_ARGUMENT: the body is not application/json.",
    421: "PERMISSION_DENIED: the server listens on its own machine, and was called by another name.",
    429: "RESOURCE_EXHAUSTED: the queue is full, or the quota is used up; Retry-After says when to come back.",
    500: "INTERNAL: a fault of the server, logged under the incident.",
    503: "UNAVAILABLE: the server is starting, or shutting down.",
    504: "DEADLINE_EXCEEDED: the timeout has passed.",
}
_SEVERAL_STATES = "A stream may also end with an event of type `error`, whose data is an error's body."


def openapi_route() -> Route:
    """Open to everybody: it says nothing of this server."""

    async def openapi(_: Request) -> Response:
        return Response(encoded(document()), media_type=_JSON_TYPE)

    return Route(PATH, openapi)


@cache
def document() -> Json:
    """The OpenAPI document, version 3.1."""
    paths: dict[str, Json] = {found.path: {"post": _inference(found)} for found in INFERENCE_PATHS}
    paths[model_routes.LIST_PATH] = {"get": _models("ListModels", "ModelList", [])}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    paths[model_routes.ONE_PATH] = {"get": _models("GetModel", "ModelDetails", [name])}
    paths[openai_completions.PATH] = {"post": _openai(CompletionRequest, Completion, streams=True)}
    paths[openai_embeddings.PATH] = {"post": _openai(EmbeddingRequest, EmbeddingList, streams=False)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dragoman",
            "version": installed_version(),
            "description": "Transformers over HTTP: the messages of the gRPC API as JSON, and OpenAI's paths.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "parameters": _PARAMETERS,
            "schemas": _schemas(),
        },
    }


_PARAMETERS: dict[str, Json] = {
    "timeout": {
        "name": TIMEOUT_HEADER,
        "in": "header",
        "description": "Milliseconds from the request's arrival to its end. Absent: as long as it takes.",
        "schema": {"type": "integer", "minimum": 1, "maximum": LONGEST_TIMEOUT_MS},
    },
    "request-id": {
        "name": REQUEST_ID_HEADER,
        "in": "header",
        "description": "Under which the call is logged. Another than this pattern, or none: the server makes one.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
}


def _inference(found: InferencePath) -> Json:
    method = found.method
    answer = method.output_type
    content: Json = {}
    if method.server_streaming:
        content[_STREAM_TYPE] = _stream(_with_receipt(answer, required=False))
        answer = field_message(answer, "response")
    if not method.server_streaming or found.optional_stream:
        content[_JSON_TYPE] = {"schema": _with_receipt(answer, required=True)}
    asked = reference(method.input_type)
    if found.optional_stream:
        asked = {"$ref": f"#/components/schemas/{schema_name(method.input_type)}OrStream"}
    text = proto_comments().get(method.full_name, "")
    return _operation(method.name, text, content, "Error", asked=asked)


def _models(name: str, answer: str, parameters: list[Json]) -> Json:
    content = {_JSON_TYPE: {"schema": {"$ref": f"#/components/schemas/{answer}"}}}
    text = "The models that are served, in the form of OpenAI's list, with what ModelService says of each."
    return _operation(name, text, content, "Error", parameters=parameters)


def _openai(asked: type[BaseModel], answer: type[BaseModel], *, streams: bool) -> Json:
    schema: Json = {"$ref": f"#/components/schemas/{answer.__name__}"}
    content: Json = {_JSON_TYPE: {"schema": schema}}
    if streams:
        content[_STREAM_TYPE] = _stream(schema)
    body: Json = {"$ref": f"#/components/schemas/{asked.__name__}"}
    name = f"OpenAI{asked.__name__.removesuffix('Request')}"
    return _operation(name, "As OpenAI's clients call it.", content, "OpenAIError", asked=body)


def _operation(
    name: str, text: str, content: Json, error: str, *, asked: Json | None = None, parameters: Sequence[Json] = ()
) -> Json:
    headers = {REQUEST_ID_HEADER: {"schema": {"type": "string"}}}
    responses: dict[str, Json] = {"200": {"description": "The answer.", "headers": headers, "content": content}}
    fault = {_JSON_TYPE: {"schema": {"$ref": f"#/components/schemas/{error}"}}}
    responses |= {str(status): {"description": said, "content": fault} for status, said in _FAULTS.items()}
    shared: list[Json] = [{"$ref": f"#/components/parameters/{key}"} for key in _PARAMETERS]
    operation: Json = {
        "operationId": name,
        "parameters": [*parameters, *shared],
        "responses": responses,
    }
    if text:
        operation["description"] = text
    if asked is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON_TYPE: {"schema": asked}}}
    return operation


def _stream(event: Json) -> Json:
    text = f"Server-sent events; the data of each is JSON as `{EVENT}` says. {_SEVERAL_STATES}"
    return {"schema": {"type": "string", "description": text}, EVENT: event}


def _with_receipt(answer: Descriptor, *, required: bool) -> Json:
    """The message with the member that it does not have."""
    schema: Json = {
        "allOf": [reference(answer)],
        "properties": {RECEIPT: reference(inference_pb2.Receipt.DESCRIPTOR)},
        "unevaluatedProperties": False,
    }
    return schema | {"required": [RECEIPT]} if required else schema


def _schemas() -> dict[str, Json]:
    asked = message_schemas([found.method.input_type for found in INFERENCE_PATHS], asked=True)
    answers = [inference_pb2.Receipt.DESCRIPTOR, models_pb2.GetModelResponse.DESCRIPTOR]
    answered = message_schemas([*answers, *(found.method.output_type for found in INFERENCE_PATHS)], asked=False)
    kinds = (CompletionRequest, EmbeddingRequest, Completion, EmbeddingList)
    _, defined = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    ours = _our_schemas()
    for found in INFERENCE_PATHS:
        if found.optional_stream:
            name = schema_name(found.method.input_type)
            streams = {"type": "boolean", "default": True, "description": "false: one answer instead of a stream."}
            properties = asked[name]["properties"] | {STREAM: streams}
            ours[f"{name}OrStream"] = asked.pop(name) | {"properties": properties}
    return dict(sorted({**asked, **answered, **defined["$defs"], **ours}.items()))


def _our_schemas() -> dict[str, Json]:
    """Of what is in no message."""
    text = {"type": "string"}
    violation = reference(inference_pb2.Violation.DESCRIPTOR)
    error: Json = {
        "code": {**text, "description": "A status of gRPC."},
        "message": text,
        "violations": {"type": "array", "items": violation},
        "retry_after": {"type": "number", "description": "Seconds."},
        "incident": {**text, "description": "Under which the server logged its fault."},
    }
    openai = error | {
        "code": {**text, "description": "A status of gRPC, in lower case."},
        "type": text,
        "param": {"type": ["string", "null"], "description": "The first faulty field."},
    }
    entry: Json = {
        "id": {**text, "description": "What a request names the model by."},
        "object": {"const": "model"},
        "created": {"type": "integer", "description": "Seconds since 1970; 0 where nobody knows."},
        "owned_by": text,
        "dragoman": reference(models_pb2.Model.DESCRIPTOR),
    }
    details = entry | {"bundle": reference(bundle_pb2.Bundle.DESCRIPTOR)}
    return {
        "Error": _object({"error": _object(error, ["code", "message"])}),
        "OpenAIError": _object({"error": _object(openai, ["code", "message", "type", "param"])}),
        "ModelEntry": _object(entry),
        "ModelDetails": _object(details),
        "ModelList": _object(
            {
                "object": {"const": "list"},
                "data": {"type": "array", "items": {"$ref": "#/components/schemas/ModelEntry"}},
            }
        ),
        "Violation": message_schemas([inference_pb2.Violation.DESCRIPTOR], asked=False)["Violation"],
    }


def _object(properties: Json, required: list[str] | None = None) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }
