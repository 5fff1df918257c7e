"""POST /v1/embeddings, as OpenAI's clients call it: one Embed."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
from starlette.routing import Route

from dragoman_protos.v1 import inference_pb2
from dragoman_server.errors import InvalidArgument
from dragoman_server.service.inference import InferenceService
from dragoman_server.web.calls import Asked, Calls
from dragoman_server.web.json_messages import written
from dragoman_server.web.local_context import LocalContext
from dragoman_server.web.openai_faults import openai_body, renamed
from dragoman_server.web.openai_messages import (
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
    OpenAIEmbedding,
    read_asked,
)
from dragoman_server.web.replies import Reply

PATH = "/v1/embeddings"
METHOD = f"/{inference_pb2.DESCRIPTOR.services_by_name['InferenceService'].full_name}/Embed"


def embedding_routes(calls: Calls, service: InferenceService) -> list[Route]:
    """The one route."""

    async def answer(asked: Asked, reply: Reply) -> None:
        request = read_asked(asked.given, EmbeddingRequest)
        single = isinstance(request.input, str)
        texts = [request.input] if isinstance(request.input, str) else request.input
        embed = inference_pb2.EmbedRequest(texts=texts, model=request.model)
        try:
            response = await service.Embed(embed, LocalContext(asked.deadline).as_grpc())
        except InvalidArgument as error:
            raise renamed(error, lambda text: _openai_name(text, single=single)) from None
        await reply.body(await asyncio.to_thread(_body, request, response))

    return [Route(PATH, calls.endpoint(f"POST {PATH}", METHOD, answer, openai_body), methods=["POST"])]


def _body(request: EmbeddingRequest, response: inference_pb2.EmbedResponse) -> bytes:
    vector = _base64 if request.encoding_format == "base64" else _floats
    data = [OpenAIEmbedding(embedding=vector(one), index=place) for place, one in enumerate(response.embeddings)]
    tokens = response.usage.source_tokens
    usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
    return EmbeddingList(data=data, model=request.model, usage=usage).model_dump_json().encode()


def _base64(embedding: inference_pb2.Embedding) -> str:
    return base64.b64encode(np.asarray(embedding.values, "<f4").tobytes()).decode()


def _floats(embedding: inference_pb2.Embedding) -> list[float]:
    values: list[float] = written(embedding)["values"]  # as few digits as tell 32-bit floats apart
    return values


def _openai_name(text: str, *, single: bool) -> str:
    if single and text.startswith("texts[0]"):
        return "input"
    return f"input{text.removeprefix('texts')}" if text.startswith("texts") else text
