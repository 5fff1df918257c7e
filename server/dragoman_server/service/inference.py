"""InferenceService: from the wire to the engine and back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.errors import ServerError
from dragoman_server.gate import Gate
from dragoman_server.model_host import ModelHost
from dragoman_server.request import Completion, Outcome, Request
from dragoman_server.service.receipt import receipt_metadata
from dragoman_server.service.validation import Translation, validate_translate

_FINISH_REASONS = {
    FinishReason.STOP: inference_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: inference_pb2.FINISH_REASON_LENGTH,
    FinishReason.STOP_SEQUENCE: inference_pb2.FINISH_REASON_STOP_SEQUENCE,
}


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """Answers as the proto says; every error leaves as a ServerError, which ``Boundary`` turns into a status."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def Translate(  # noqa: N802  (gRPC's name)
        self, request: inference_pb2.TranslateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> inference_pb2.TranslateResponse:
        """Translate one text."""
        remaining: float | None = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        with self._gate.enter() as catalogue:
            translation = await validate_translate(request, catalogue)
            completion = await _complete(translation, deadline)
            context.set_trailing_metadata(receipt_metadata(completion.receipt, translation.host))
            return _response(translation, completion)


async def _complete(translation: Translation, deadline: float | None) -> Completion:
    """Hand the request to the engine and wait for its outcome; when the call ends first, the request is cancelled."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Outcome] = loop.create_future()

    def settle(outcome: Outcome) -> None:
        if not answer.done():  # the call may have ended meanwhile
            answer.set_result(outcome)

    def reply(outcome: Outcome) -> None:
        loop.call_soon_threadsafe(settle, outcome)

    request = Request(translation.source_ids, translation.options, reply, deadline)
    translation.host.engine.submit(request)
    try:
        outcome = await answer
    except asyncio.CancelledError:  # the caller cancelled or went away, or its deadline passed
        request.cancel()
        raise
    if isinstance(outcome, ServerError):
        raise outcome
    return outcome


def _response(translation: Translation, completion: Completion) -> inference_pb2.TranslateResponse:
    host = translation.host
    usage = inference_pb2.Usage(
        source_tokens=len(translation.source_ids),
        target_tokens=sum(len(answer.log_probs) for answer in completion.answers),
    )
    return inference_pb2.TranslateResponse(
        hypotheses=[_hypothesis(answer, host) for answer in completion.answers],
        usage=usage,
        model=host.name,
        model_version=host.version,
    )


def _hypothesis(answer: Answer, host: ModelHost) -> inference_pb2.Hypothesis:
    return inference_pb2.Hypothesis(
        text=host.codec.decode(answer.token_ids) if answer.text is None else answer.text,
        tokens=host.codec.tokens(answer.token_ids),
        score=sum(answer.log_probs),
        token_log_probs=answer.log_probs,
        finish_reason=_FINISH_REASONS[answer.finish_reason],
        rank_score=answer.rank_score,
    )
