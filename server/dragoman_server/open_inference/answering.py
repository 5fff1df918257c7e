"""A question answered by the engines: each text by itself, all of them at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message

from dragoman_protos.v1 import inference_pb2
from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server.catalogue import Catalogue
from dragoman_server.encoder_codec import Masked, Words
from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.open_inference import answers
from dragoman_server.open_inference.offers import TEXT, TEXT_PAIR
from dragoman_server.open_inference.parameters import fill
from dragoman_server.open_inference.questions import Question
from dragoman_server.open_inference.tensors import Output
from dragoman_server.pass_request import PassCompletion
from dragoman_server.request import Completion
from dragoman_server.service.gathering import completed
from dragoman_server.service.generating import GenerationStream, completed_parts
from dragoman_server.service.generation_requests import validate_generate
from dragoman_server.service.generations import Generation
from dragoman_server.service.jobs import Job
from dragoman_server.service.mailbox import Mailbox
from dragoman_server.service.reading_jobs import Reading, receipt_of
from dragoman_server.service.reading_requests import check_classify, check_embed, check_fill_mask, check_tag, checked
from dragoman_server.service.reading_responses import (
    classify_response,
    embed_response,
    fill_mask_response,
    tag_response,
)
from dragoman_server.service.receipt import Served
from dragoman_server.service.recipes import Recipes
from dragoman_server.service.responses import generate_response, joined_receipt, translate_response
from dragoman_server.service.streaming import TranslationStream
from dragoman_server.service.translations import Translation
from dragoman_server.service.understanding import Understanding
from dragoman_server.service.validation import validate_translate

_NO_PARAMETERS = frozenset({"text", "text_pair", "prompt", "texts", "model", "num_hypotheses", "alternatives"})
"""Fields that come as tensors, and options with several answers to a text."""
_RAGGED = frozenset({"min_probability"})
"""Would give each text another number of labels."""

MessageT = TypeVar("MessageT", bound=Message)
ValueT = TypeVar("ValueT")


class Answer(NamedTuple):
    """All or a part of what is answered; ``served`` and ``usage`` with the last part."""

    outputs: list[Output]
    served: Served | None = None
    usage: inference_pb2.Usage | None = None


class Answering:
    """Raises InvalidArgument with the faults of all texts, and whatever the engine ends a request with."""

    def __init__(self, recipes: Recipes, mailbox: Mailbox) -> None:
        self._recipes = recipes
        self._mailbox = mailbox
        self._understanding = Understanding(mailbox)

    async def answer(self, question: Question, catalogue: Catalogue, deadline: float | None) -> Answer:
        """The whole answer."""
        tasks: dict[Bundle.Task.ValueType, Callable[[], Coroutine[Any, Any, Answer]]] = {
            Bundle.TASK_TRANSLATE: lambda: self._translate(question, catalogue, deadline),
            Bundle.TASK_GENERATE: lambda: self._generate(question, catalogue, deadline),
            Bundle.TASK_CLASSIFY: lambda: self._classify(question, catalogue, deadline),
            Bundle.TASK_TAG: lambda: self._tag(question, catalogue, deadline),
            Bundle.TASK_FILL_MASK: lambda: self._fill_mask(question, catalogue, deadline),
            Bundle.TASK_EMBED: lambda: self._embed(question, catalogue, deadline),
        }
        answer = await tasks[question.offer.task]()
        return answer._replace(outputs=[one for one in answer.outputs if one.name in question.wanted])

    async def parts(
        self, question: Question, catalogue: Catalogue, deadline: float | None
    ) -> AsyncGenerator[Answer, None]:
        """The answer as it is decoded, where it is one text; otherwise in one part."""
        stream: TranslationStream | GenerationStream
        if len(question.texts) == 1 and question.offer.task == Bundle.TASK_TRANSLATE:
            translation = (await self._translations(question, catalogue))[0]
            stream = TranslationStream(translation, deadline, self._mailbox)
        elif len(question.texts) == 1 and question.offer.task == Bundle.TASK_GENERATE:
            stream = GenerationStream((await self._generations(question, catalogue))[0], deadline, self._mailbox)
        else:
            yield await self.answer(question, catalogue, deadline)
            return
        async with contextlib.aclosing(stream.chunks()) as chunks:
            async for chunk in chunks:
                if not chunk.HasField("response"):
                    if chunk.final_text_delta and TEXT in question.wanted:
                        yield Answer(answers.delta(chunk.final_text_delta))
                    continue
                response = chunk.response
                outputs = answers.decoded(question, [response], [chunk.final_text_delta])
                outputs = [one for one in outputs if one.name in question.wanted]
                served = Served(joined_receipt(stream.job.finished()), question.host)
                yield Answer(outputs, served, response.usage)

    async def _translate(self, question: Question, catalogue: Catalogue, deadline: float | None) -> Answer:
        async def one(translation: Translation) -> list[Completion]:
            job = await completed(lambda done: Job(translation, deadline, self._mailbox, lambda _: done()))
            return job.finished()

        translations = await self._translations(question, catalogue)
        completions = await _together(map(one, translations))
        responses = [translate_response(*pair) for pair in zip(translations, completions, strict=True)]
        return _decoded(question, responses, completions)

    async def _generate(self, question: Question, catalogue: Catalogue, deadline: float | None) -> Answer:
        generations = await self._generations(question, catalogue)
        completions = await _together(completed_parts(one, deadline, self._mailbox) for one in generations)
        responses = [generate_response(*pair) for pair in zip(generations, completions, strict=True)]
        return _decoded(question, responses, completions)

    async def _classify(self, question: Question, catalogue: Catalogue, deadline: float | None) -> Answer:
        template = inference_pb2.ClassifyRequest(model=question.reference)
        faults = _filled(template, question, _RAGGED)
        requests = _requests(template, question)
        for request, pair in zip(requests, question.pairs, strict=False):  # only a model of pairs has them
            request.text_pair = pair
        checks = [checked(check_classify, request, catalogue) for request in requests]
        readings = await _all_sound(checks, question, faults)
        read = await self._read(readings, deadline)
        responses = [
            classify_response(request, reading, completion.output)
            for request, reading, completion in zip(requests, readings, read, strict=True)
        ]
        return _read_answer(answers.classified(question, responses, template.top_k), question, readings, read)

    async def _tag(self, question: Question, catalogue: Catalogue, deadline: float | None) -> Answer:
        template = inference_pb2.TagRequest(model=question.reference)
        faults = _filled(template, question)
        requests = _requests(template, question)
        readings = await _all_sound([checked(check_tag, request, catalogue) for request in requests], question, faults)
        read = await self._read(readings, deadline)
        responses = [
            tag_response(request, reading, completion.output)
            for request, reading, completion in zip(requests, readings, read, strict=True)
        ]
        return _read_answer(answers.tagged(question, responses), question, readings, read)

    async def _fill_mask(self, question: Question, catalogue: Catalogue, deadline: float | None) -> Answer:
        template = inference_pb2.FillMaskRequest(model=question.reference)
        faults = _filled(template, question)
        requests = _requests(template, question)
        readings = await _all_sound(
            [checked(check_fill_mask, request, catalogue) for request in requests], question, faults
        )
        read = await self._read(readings, deadline)

        def spelt() -> list[Output]:
            responses = [
                fill_mask_response(request, reading, completion.output)
                for request, reading, completion in zip(requests, readings, read, strict=True)
            ]
            return answers.filled(question, responses)

        # Thousands of candidates take a while to spell.
        return _read_answer(await asyncio.to_thread(spelt), question, readings, read)

    async def _embed(self, question: Question, catalogue: Catalogue, deadline: float | None) -> Answer:
        request = inference_pb2.EmbedRequest(model=question.reference, texts=question.texts)
        faults = _filled(request, question)
        (reading,) = await _all_sound([checked(check_embed, request, catalogue)], question, faults)
        read = await self._understanding.read(reading, deadline)
        response = embed_response(request, reading, [completion.output for completion in read])
        return _read_answer(answers.embedded(question, response), question, [reading], read)

    async def _translations(self, question: Question, catalogue: Catalogue) -> list[Translation]:
        template = inference_pb2.TranslateRequest(model=question.reference)
        faults = _filled(template, question)
        checks = [validate_translate(one, catalogue, self._recipes) for one in _requests(template, question)]
        return await _all_sound(checks, question, faults)

    async def _generations(self, question: Question, catalogue: Catalogue) -> list[Generation]:
        template = inference_pb2.GenerateRequest(model=question.reference)
        faults = _filled(template, question)
        checks = [validate_generate(one, catalogue) for one in _requests(template, question)]
        return await _all_sound(checks, question, faults)

    async def _read(
        self, readings: Sequence[Reading[Words] | Reading[Masked] | Reading[None]], deadline: float | None
    ) -> list[PassCompletion]:
        read = await _together(self._understanding.read(reading, deadline) for reading in readings)
        return [completion for completions in read for completion in completions]


def _requests(template: MessageT, question: Question) -> list[MessageT]:
    """``template`` with each of the texts."""
    field = "prompt" if isinstance(template, inference_pb2.GenerateRequest) else "text"
    requests = []
    for text in question.texts:
        request = type(template)()
        request.CopyFrom(template)
        setattr(request, field, text)
        requests.append(request)
    return requests


def _filled(template: Message, question: Question, without: frozenset[str] = frozenset()) -> list[Violation]:
    """Put parameters and lists into ``template``; returns the faults of names and types."""
    for name, strings in question.lists.items():
        options = template.options  # type: ignore[attr-defined]  # requests of tasks with lists have them
        getattr(options, name).extend(strings)
    return fill(template, question.parameters, _NO_PARAMETERS | without)


async def _all_sound(
    checks: Sequence[Awaitable[ValueT]], question: Question, violations: list[Violation]
) -> list[ValueT]:
    """What the checks give; raises InvalidArgument with ``violations`` and the faults that all of them find, named as
    the caller knows them.
    """
    sound: list[ValueT] = []
    found: list[Violation] = []
    for number, outcome in enumerate(await asyncio.gather(*checks, return_exceptions=True)):
        if isinstance(outcome, InvalidArgument):
            found += [_renamed(violation, number, question) for violation in outcome.violations]
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            sound.append(outcome)
    if violations or found:
        unset = {violation.field for violation in violations}  # what could not be set is no second fault
        found = [violation for violation in found if violation.field not in unset]
        raise InvalidArgument([*violations, *dict.fromkeys(found)])  # a fault of the options is each text's
    return sound


def _renamed(violation: Violation, number: int, question: Question) -> Violation:
    field = violation.field
    if field in {"text", "prompt"}:
        field = f"inputs.{TEXT}[{number}]"
    elif field == "text_pair":
        field = f"inputs.{TEXT_PAIR}[{number}]"
    elif field.startswith("texts["):
        field = f"inputs.{TEXT}{field.removeprefix('texts')}"
    else:
        name = field.removeprefix("options.")
        field = f"inputs.{name}" if name.partition("[")[0] in question.lists else f"parameters.{name}"
    return Violation(field, violation.value, violation.limit)


def _decoded(
    question: Question, responses: Sequence[answers.Decoded], completions: Iterable[Sequence[Completion]]
) -> Answer:
    receipt = joined_receipt([completion for parts in completions for completion in parts])
    usage = inference_pb2.Usage(
        source_tokens=sum(response.usage.source_tokens for response in responses),
        target_tokens=sum(response.usage.target_tokens for response in responses),
    )
    return Answer(answers.decoded(question, responses), Served(receipt, question.host), usage)


def _read_answer(
    outputs: list[Output],
    question: Question,
    readings: Sequence[Reading[Words] | Reading[Masked] | Reading[None]],
    read: Sequence[PassCompletion],
) -> Answer:
    usage = inference_pb2.Usage(source_tokens=sum(reading.tokens for reading in readings))
    return Answer(outputs, Served(receipt_of(read), question.host), usage)


async def _together(jobs: Iterable[Coroutine[Any, Any, ValueT]]) -> list[ValueT]:
    """All of them; where one fails, or the call ends, the others are cancelled."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
