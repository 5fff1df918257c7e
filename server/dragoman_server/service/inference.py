"""InferenceService: from the wire to the engine and back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import grpc

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.gate import Gate
from dragoman_server.generation_host import GenerationHost
from dragoman_server.request import Completion
from dragoman_server.security.principal import CALLER
from dragoman_server.service.bulk import BulkCall
from dragoman_server.service.explaining import Explaining
from dragoman_server.service.gathering import completed
from dragoman_server.service.generating import GenerationStream, completed_parts
from dragoman_server.service.generation_requests import scoring_host, validate_continuation, validate_generate
from dragoman_server.service.jobs import Job
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.receipt import Served, conclude, count_items
from dragoman_server.service.recipes import Recipes
from dragoman_server.service.responses import joined_receipt, score_response, translate_response
from dragoman_server.service.streaming import TranslationStream
from dragoman_server.service.translations import Translation
from dragoman_server.service.understanding import Understanding
from dragoman_server.service.validation import model_name_violations, validate_score, validate_translate

_Context = grpc.aio.ServicerContext[Any, Any]


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """Answers as the proto says; every error leaves as a ServerError, which ``Boundary`` turns into a status.

    ``stream_window`` bounds what one TranslateMany call has under way, ``max_message_bytes`` an explanation.
    """

    def __init__(
        self, gate: Gate, recipes: Recipes, mailbox: Mailbox, *, stream_window: int, max_message_bytes: int
    ) -> None:
        self._gate = gate
        self._stream_window = stream_window
        self._mailbox = mailbox
        self._recipes = recipes
        self._explaining = Explaining(self._recipes, self._mailbox, most_bytes=max_message_bytes)
        self._understanding = Understanding(self._mailbox)

    async def Translate(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.TranslateRequest, context: _Context
    ) -> inference_pb2.TranslateResponse:
        """Translate one text."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            translation = await validate_translate(request, catalogue, self._recipes)
            completions = await self._complete(translation, deadline)
            response = translate_response(translation, completions)
            conclude(context, Served(joined_receipt(completions), translation.host), response.usage)
            return response

    async def StreamTranslate(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.TranslateRequest, context: _Context
    ) -> AsyncGenerator[inference_pb2.TranslateChunk, None]:
        """Translate one text, as it is decoded."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            translation = await validate_translate(request, catalogue, self._recipes)
            stream = TranslationStream(translation, deadline, self._mailbox)
            async with contextlib.aclosing(stream.chunks()) as chunks:
                async for chunk in chunks:
                    if chunk.HasField("response"):
                        receipt = joined_receipt(stream.job.finished())
                        conclude(context, Served(receipt, translation.host), chunk.response.usage)
                    yield chunk

    async def TranslateMany(  # noqa: N802  (gRPC's name)
        self, request_iterator: object, context: _Context
    ) -> AsyncGenerator[inference_pb2.TranslateManyResponse, None]:
        """Translate any number of texts."""
        requests = cast(AsyncIterator[inference_pb2.TranslateManyRequest], request_iterator)
        deadline = _deadline(context)
        with self._gate.attend():
            call = BulkCall(
                self._gate,
                self._recipes,
                self._mailbox,
                window=self._stream_window,
                deadline=deadline,
                charge=CALLER.get().quota.charge,
            )
            async with contextlib.aclosing(call.answers(requests)) as answers:
                async for answer in answers:
                    count_items(answer.outcomes)
                    yield answer

    async def Score(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.ScoreRequest, context: _Context
    ) -> inference_pb2.ScoreResponse:
        """Score one translation, or one continuation."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            host = None if model_name_violations("model", request.model) else scoring_host(catalogue, request.model)
            if isinstance(host, GenerationHost):
                generation = await validate_continuation(request, host)
                completions = await completed_parts(generation, deadline, self._mailbox)
                response = score_response(host, len(generation.prompt_ids), completions[0])
                conclude(context, Served(joined_receipt(completions), host), response.usage)
                return response
            translation = await validate_score(request, catalogue, self._recipes)
            completions = await self._complete(translation, deadline)
            (segment,) = translation.segments
            response = score_response(translation.host, len(segment.source_ids), completions[0])
            conclude(context, Served(joined_receipt(completions), translation.host), response.usage)
            return response

    async def Generate(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.GenerateRequest, context: _Context
    ) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
        """Continue one prompt, as it is decoded."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            generation = await validate_generate(request, catalogue)
            stream = GenerationStream(generation, deadline, self._mailbox)
            async with contextlib.aclosing(stream.chunks()) as chunks:
                async for chunk in chunks:
                    if chunk.HasField("response"):
                        receipt = joined_receipt(stream.job.finished())
                        conclude(context, Served(receipt, generation.host), chunk.response.usage)
                    yield chunk

    async def Classify(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.ClassifyRequest, context: _Context
    ) -> inference_pb2.ClassifyResponse:
        """Label one text, or one pair of texts."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            response, served = await self._understanding.classify(request, catalogue, deadline)
            conclude(context, served, response.usage)
            return response

    async def Tag(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.TagRequest, context: _Context
    ) -> inference_pb2.TagResponse:
        """Label spans of one text."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            response, served = await self._understanding.tag(request, catalogue, deadline)
            conclude(context, served, response.usage)
            return response

    async def FillMask(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.FillMaskRequest, context: _Context
    ) -> inference_pb2.FillMaskResponse:
        """Say what the masks of one text may hide."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            response, served = await self._understanding.fill_mask(request, catalogue, deadline)
            conclude(context, served, response.usage)
            return response

    async def Embed(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.EmbedRequest, context: _Context
    ) -> inference_pb2.EmbedResponse:
        """Make vectors of texts."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            response, served = await self._understanding.embed(request, catalogue, deadline)
            conclude(context, served, response.usage)
            return response

    async def Explain(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.ExplainRequest, context: _Context
    ) -> inference_pb2.ExplainResponse:
        """Explain one answer."""
        deadline = _deadline(context)
        with self._gate.enter() as catalogue:
            response, host, receipt = await self._explaining.answer(request, catalogue, deadline)
            conclude(context, Served(receipt, host), response.usage)
            return response

    async def _complete(self, translation: Translation, deadline: float | None) -> list[Completion]:
        """Hand the segments to the engine and wait for them; when the call ends first, they are cancelled."""
        job = await completed(lambda done: Job(translation, deadline, self._mailbox, lambda _: done()))
        return job.finished()


def _deadline(context: _Context) -> float | None:
    remaining: float | None = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining
