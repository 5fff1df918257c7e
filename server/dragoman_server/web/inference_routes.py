"""InferenceService as JSON over HTTP: one path for each method, the same messages, the same answers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, cast

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.routing import Route

from dragoman_protos.v1 import inference_pb2
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.service.inference import InferenceService
from dragoman_server.web.calls import Answerer, Asked, Calls
from dragoman_server.web.json_messages import Json, read_message
from dragoman_server.web.local_context import LocalContext
from dragoman_server.web.replies import Reply
from dragoman_server.web.writing import receipt_json, written_apart

_SERVICE = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"]
STREAM = "stream"
"""Member of the body of /v1/generate that the message does not have: false asks for one answer."""


@dataclass(frozen=True)
class InferencePath:
    """Which method of InferenceService a path stands for."""

    path: str
    method: MethodDescriptor
    optional_stream: bool = False
    """The body may say that it wants one answer instead of a stream."""

    @property
    def full_name(self) -> str:
        """The method's, as gRPC calls it."""
        return f"/{_SERVICE.full_name}/{self.method.name}"


INFERENCE_PATHS = tuple(
    InferencePath(path, _SERVICE.methods_by_name[name], path == "/v1/generate")
    for path, name in (
        ("/v1/translate", "Translate"),
        ("/v1/translate/stream", "StreamTranslate"),
        ("/v1/generate", "Generate"),
        ("/v1/score", "Score"),
        ("/v1/classify", "Classify"),
        ("/v1/tag", "Tag"),
        ("/v1/fill-mask", "FillMask"),
        ("/v1/embed", "Embed"),
        ("/v1/explain", "Explain"),
    )
)
"""All methods but TranslateMany, whose requests are a stream."""

_One = Callable[[Message, object], Awaitable[Message]]
_Many = Callable[[Message, object], AsyncGenerator[Message, None]]


class _LastOfStream(Protocol):
    response: Message

    def HasField(self, name: str) -> bool: ...  # noqa: N802  (protobuf's name)


def inference_routes(calls: Calls, service: InferenceService) -> list[Route]:
    """The routes of ``INFERENCE_PATHS``."""
    return [
        Route(
            found.path,
            calls.endpoint(f"POST {found.path}", found.full_name, _answerer(found, service)),
            methods=["POST"],
        )
        for found in INFERENCE_PATHS
    ]


def _answerer(found: InferencePath, service: InferenceService) -> Answerer:
    method = getattr(service, found.method.name)
    kind = GetMessageClass(found.method.input_type)
    if not found.method.server_streaming:

        async def one(asked: Asked, reply: Reply) -> None:
            await _answer_one(cast(_One, method), read_message(asked.given, kind), asked, reply)

        return one

    async def many(asked: Asked, reply: Reply) -> None:
        given, streams = _without_stream(asked.given) if found.optional_stream else (asked.given, True)
        await _answer_many(cast(_Many, method), read_message(given, kind), asked, reply, streams=streams)

    return many


async def _answer_one(method: _One, request: Message, asked: Asked, reply: Reply) -> None:
    context = LocalContext(asked.deadline)
    answer = await method(request, context.as_grpc())
    await reply.body(await written_apart(answer, receipt_json(context.receipt())))


async def _answer_many(method: _Many, request: Message, asked: Asked, reply: Reply, *, streams: bool) -> None:
    context = LocalContext(asked.deadline)
    async with contextlib.aclosing(method(request, context.as_grpc())) as chunks:
        async for chunk in chunks:
            last = cast(_LastOfStream, chunk)
            ended = last.HasField("response")
            if not ended and not streams:
                continue
            receipt = receipt_json(context.receipt()) if ended else {}
            if streams:
                await reply.data(await written_apart(chunk, receipt))
            else:
                await reply.body(await written_apart(last.response, receipt))
    if streams:
        await reply.end()


def _without_stream(given: Json) -> tuple[Json, bool]:
    """The message's part of the body, and whether a stream is asked for, as it is where nothing is said."""
    streams = given.get(STREAM, True)
    if not isinstance(streams, bool):
        raise InvalidArgument([Violation(STREAM, "another value", "true (the default) or false")])
    return {name: value for name, value in given.items() if name != STREAM}, streams
