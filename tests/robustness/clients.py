"""The same requests by Dragoman's own client, with its retries and its balancing: what its users see is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dragoman import AsyncClient, DragomanError, Overloaded, errors
from dragoman.generation import GeneratedChunk
from dragoman.values import Chunk
from tests.robustness.asks import Ask, Classify, Embed, FillMask, Generate, ScoreOf, Translate, Value, answer_of
from tests.robustness.driving import HUNG_SECONDS, Manner
from tests.robustness.history import History
from tests.robustness.profiles import Way

STATUSES: dict[type[DragomanError], str] = {
    errors.InvalidArgument: "INVALID_ARGUMENT",
    errors.NotFound: "NOT_FOUND",
    errors.FailedPrecondition: "FAILED_PRECONDITION",
    errors.Overloaded: "RESOURCE_EXHAUSTED",
    errors.DeadlineExceeded: "DEADLINE_EXCEEDED",
    errors.Cancelled: "CANCELLED",
    errors.Unauthenticated: "UNAUTHENTICATED",
    errors.PermissionDenied: "PERMISSION_DENIED",
    errors.Unavailable: "UNAVAILABLE",
    errors.InternalError: "INTERNAL",
}


class ClientDriver:
    """Sends by ``client`` and writes to ``history``."""

    def __init__(self, client: AsyncClient, history: History, server: str) -> None:
        self._client = client
        self._whole: dict[str, str] = {}
        """What each stream has called final so far."""
        self._history = history
        self._server = server

    async def send(self, ask: Ask, way: Way, manner: Manner = Manner()) -> str:  # noqa: B008  (frozen)
        """Send one request and record its end; the status. A bulk item goes as a call."""
        request = self._history.begin(ask.key, way, self._server, manner.may)
        try:
            async with asyncio.timeout(manner.timeout + HUNG_SECONDS):
                value = await self._value(ask, way, request, manner)
        except DragomanError as error:
            return self._failed(request, error)
        except TimeoutError:
            return "HUNG"  # it has no end, which is a violation
        except asyncio.CancelledError:
            self._history.end(request, "CANCELLED", detail="given up by the caller")
            raise
        return self._answered(request, value)

    async def send_many(self, asks: Sequence[Translate], manner: Manner = Manner()) -> list[str]:  # noqa: B008
        """Send texts by one ``translate_many``; their statuses. They must be asked for in the same way."""
        requests = [self._history.begin(ask.key, "bulk", self._server, manner.may) for ask in asks]
        first, left = asks[0], iter(requests)
        statuses = []
        try:
            async for answer in self._client.translate_many(
                [ask.text for ask in asks],
                return_errors=True,
                target="de",
                model=first.model,
                priority=first.priority,
                timeout=manner.timeout,
                **first.decoding,
            ):
                request = next(left, "nobody's item")
                statuses.append(
                    self._failed(request, answer)
                    if isinstance(answer, DragomanError)
                    else self._answered(request, answer)
                )
        except DragomanError as error:
            statuses += [self._failed(request, error) for request in left]
        return statuses

    def _answered(self, request: str, value: Value) -> str:
        answer = answer_of(value)
        self._history.end(request, "OK", fingerprint=answer.fingerprint, text=answer.text, version=value.model_version)
        return "OK"

    def _failed(self, request: str, error: DragomanError) -> str:
        status = STATUSES.get(type(error), "UNTYPED")
        after = error.retry_after if isinstance(error, Overloaded) else None
        self._history.end(request, status, detail=str(error), retry_after=after)
        return status

    async def _value(self, ask: Ask, way: Way, request: str, manner: Manner) -> Value:  # noqa: PLR0911  (one for each)
        client, timeout = self._client, manner.timeout
        match ask:
            case Translate() if way == "stream":
                value: Value | None = None
                async for chunk in client.stream_translate(
                    ask.text, target="de", model=ask.model, priority=ask.priority, timeout=timeout, **ask.decoding
                ):
                    self._piece(request, chunk, manner)
                    value = chunk.translation or value
                return _there(value)
            case Translate():
                return await client.translate(
                    ask.text, target="de", model=ask.model, priority=ask.priority, timeout=timeout, **ask.decoding
                )
            case Generate():
                value = None
                async for part in client.generate(
                    ask.prompt,
                    model=ask.model,
                    max_new_tokens=ask.max_new_tokens,
                    timeout=timeout,
                    **ask.options,
                ):
                    self._piece(request, part, manner)
                    value = part.answer or value
                return _there(value)
            case Classify():
                return await client.classify(ask.text, model=ask.model, timeout=timeout)
            case FillMask():
                return await client.fill_mask(ask.text, model=ask.model, timeout=timeout)
            case Embed():
                return await client.embed(ask.texts, model=ask.model, timeout=timeout)
            case ScoreOf():
                return await client.score(ask.text, ask.translation, target="de", model=ask.model, timeout=timeout)

    def _piece(self, request: str, chunk: Chunk | GeneratedChunk, manner: Manner) -> None:
        """Chunks of this client hold all final text so far; the history has what is new."""
        whole = self._whole.get(request, "")
        delta = chunk.final_text[len(whole) :] if chunk.final_text.startswith(whole) else f"(not {whole!r})"
        self._whole[request] = chunk.final_text
        last = (chunk.translation if isinstance(chunk, Chunk) else chunk.answer) is not None
        self._history.piece(request, delta, chunk.provisional_text, last=last)
        if manner.on_piece is not None:
            manner.on_piece()


def _there(value: Value | None) -> Value:
    if value is None:
        raise DragomanError("the stream ended without an answer")
    return value
