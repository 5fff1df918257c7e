"""POST /v1/completions, as OpenAI's clients call it: each choice is a Generate of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from starlette.routing import Route

from dragoman_protos.v1 import inference_pb2
from dragoman_server.errors import InvalidArgument
from dragoman_server.security.principal import CALLER
from dragoman_server.service.inference import InferenceService
from dragoman_server.telemetry.calls import CALL
from dragoman_server.web.calls import Asked, Calls
from dragoman_server.web.local_context import LocalContext
from dragoman_server.web.merging import merged
from dragoman_server.web.openai_faults import openai_body, renamed
from dragoman_server.web.openai_messages import (
    Choice,
    Completion,
    CompletionRequest,
    CompletionUsage,
    TokenLogProbs,
    read_asked,
)
from dragoman_server.web.replies import Reply

PATH = "/v1/completions"
METHOD = f"/{inference_pb2.DESCRIPTOR.services_by_name['InferenceService'].full_name}/Generate"
_MAX_TOKENS = 16
_SEEDS = 1 << 64
_END = b"[DONE]"


@dataclass(frozen=True)
class _Plan:
    """What one choice is asked of the engine."""

    prompt: str
    field: str
    """Where the prompt stands in the body."""
    request: inference_pb2.GenerateRequest


def completion_routes(calls: Calls, service: InferenceService) -> list[Route]:
    """The one route."""

    async def answer(asked: Asked, reply: Reply) -> None:
        request = read_asked(asked.given, CompletionRequest)
        plans = list(_plans(request))
        CALLER.get().quota.charge(len(plans) - 1)  # the call itself is charged for one
        streams = [_chunks(service, plan, asked.deadline) for plan in plans]
        answering = _Answering(request, plans, f"cmpl-{asked.request_id}", reply)
        async with contextlib.aclosing(merged(streams)) as chunks:
            async for number, chunk in chunks:
                await answering.take(number, chunk)
        await answering.end()

    return [Route(PATH, calls.endpoint(f"POST {PATH}", METHOD, answer, openai_body), methods=["POST"])]


class _Answering:
    """Sends the chunks as they come, where they are asked for; otherwise the whole, when all is there."""

    def __init__(self, request: CompletionRequest, plans: list[_Plan], name: str, reply: Reply) -> None:
        self._request = request
        self._plans = plans
        self._reply = reply
        self._completion = partial(Completion, id=name, created=int(time.time()), model=request.model)
        self._with_usage = request.stream_options is not None and request.stream_options.include_usage
        self._begun = [not request.echo] * len(plans)
        """Of each choice: its prompt was sent, if it is to be."""
        self._responses: dict[int, inference_pb2.GenerateResponse] = {}

    async def take(self, number: int, chunk: inference_pb2.GenerateChunk) -> None:
        """Some of a choice has come."""
        ended = chunk.HasField("response")
        if ended:
            self._responses[number] = chunk.response
        if not self._request.stream:
            return
        text = chunk.final_text_delta
        if not self._begun[number]:
            self._begun[number], text = True, self._plans[number].prompt + text
        if text or ended:
            reason = _finish_reason(chunk.response.hypotheses[0]) if ended else None
            await self._event([Choice(text=text, index=number, finish_reason=reason)])

    async def end(self) -> None:
        """All choices have come."""
        usage = self._usage()
        call = CALL.get()
        assert call is not None
        call.source_tokens, call.target_tokens = usage.prompt_tokens, usage.completion_tokens
        if not self._request.stream:
            choices = [self._choice(number, self._responses[number]) for number in range(len(self._plans))]
            await self._reply.body(self._completion(choices=choices, usage=usage).model_dump_json().encode())
            return
        if self._with_usage:
            await self._event([], usage)
        await self._reply.data(_END)
        await self._reply.end()

    def _choice(self, number: int, response: inference_pb2.GenerateResponse) -> Choice:
        best = response.hypotheses[0]
        probabilities = None
        if self._request.logprobs is not None:
            # The end-of-text has one too, and stands in no text.
            token_logprobs = list(best.token_log_probs[: len(best.tokens)])
            probabilities = TokenLogProbs(tokens=list(best.tokens), token_logprobs=token_logprobs)
        text = self._plans[number].prompt + best.text if self._request.echo else best.text
        return Choice(text=text, index=number, logprobs=probabilities, finish_reason=_finish_reason(best))

    def _usage(self) -> CompletionUsage:
        choices = self._request.n or 1
        prompts = sum(self._responses[first].usage.source_tokens for first in range(0, len(self._plans), choices))
        new = sum(response.usage.target_tokens for response in self._responses.values())
        return CompletionUsage(prompt_tokens=prompts, completion_tokens=new, total_tokens=prompts + new)

    async def _event(self, choices: list[Choice], usage: CompletionUsage | None = None) -> None:
        chunk = self._completion(choices=choices, usage=usage)
        # As OpenAI has it: no chunk speaks of usage unless the caller asked for it.
        await self._reply.data(chunk.model_dump_json(exclude=None if self._with_usage else {"usage"}).encode())


async def _chunks(
    service: InferenceService, plan: _Plan, deadline: float | None
) -> AsyncGenerator[inference_pb2.GenerateChunk, None]:
    """Of one choice; faults are told by the names that they have in the body."""
    try:
        async with contextlib.aclosing(service.Generate(plan.request, LocalContext(deadline).as_grpc())) as chunks:
            async for chunk in chunks:
                yield chunk
    except InvalidArgument as error:
        raise renamed(error, partial(_openai_name, prompt=plan.field)) from None


def _plans(request: CompletionRequest) -> Iterator[_Plan]:
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
    for place, prompt in enumerate(prompts):
        field = "prompt" if isinstance(request.prompt, str) else f"prompt[{place}]"
        for choice in range(request.n or 1):
            options = _options(request, choice)
            generate = inference_pb2.GenerateRequest(prompt=prompt, model=request.model, options=options)
            yield _Plan(prompt, field, generate)


def _options(request: CompletionRequest, choice: int) -> inference_pb2.DecodingOptions:
    stop = [request.stop] if isinstance(request.stop, str) else request.stop
    options = inference_pb2.DecodingOptions(max_length=request.max_tokens or _MAX_TOKENS, stop=stop or ())
    if request.presence_penalty is not None:
        options.presence_penalty = request.presence_penalty
    if request.frequency_penalty is not None:
        options.frequency_penalty = request.frequency_penalty
    temperature = 1.0 if request.temperature is None else request.temperature
    if temperature:
        options.temperature = temperature
        if request.top_p is not None:
            options.top_p = request.top_p
        if request.seed is not None:
            options.seed = (request.seed + choice) % _SEEDS
    return options


def _openai_name(text: str, *, prompt: str) -> str:
    """A field's path, or what is said of one, as this path's body has it."""
    if text == "prompt":
        return prompt
    text = text.partition("; or context_overflow")[0]  # of which OpenAI has nothing
    return text.replace("options.max_length", "max_tokens").removeprefix("options.")


def _finish_reason(hypothesis: inference_pb2.Hypothesis) -> Literal["stop", "length"]:
    return "length" if hypothesis.finish_reason == inference_pb2.FINISH_REASON_LENGTH else "stop"
