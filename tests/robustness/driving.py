"""Sends requests and records all that comes back, message by message: no retries, and nothing is interpreted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from dragoman import DragomanError, understanding_wire, wire
from dragoman.bulk_tasks import failure_of
from dragoman.generation import GeneratedText
from dragoman_protos.v1 import inference_pb2
from dragoman_protos.v1.inference_pb2_grpc import InferenceServiceStub
from tests.robustness.asks import Ask, Classify, Embed, FillMask, Generate, ScoreOf, Translate, Value, answer_of
from tests.robustness.history import History
from tests.robustness.profiles import Way

if TYPE_CHECKING:  # known to the typed stubs alone
    from dragoman_protos.v1.inference_pb2_grpc import InferenceServiceAsyncStub

TIMEOUT = 60.0
HUNG_SECONDS = 30.0
"""Beyond its deadline: who has not ended by then never will."""
OK = frozenset({"OK"})


@dataclass(frozen=True)
class Manner:
    """How a request is sent: ``timeout`` is its deadline in seconds, ``may`` the statuses that it may end with.

    ``on_piece`` is called at each chunk of a stream, after it was recorded; nothing is read before ``reads`` is set.
    """

    timeout: float = TIMEOUT
    may: frozenset[str] = OK
    on_piece: Callable[[], None] | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    reads: asyncio.Event | None = None

    async def ready_to_read(self) -> None:
        """Wait for whoever reads to begin."""
        if self.reads is not None:
            await self.reads.wait()


class Driver:
    """Sends to one server over one channel, and writes to ``history``. Belongs to one event loop."""

    def __init__(self, channel: grpc.aio.Channel, history: History, server: str) -> None:
        self.channel = channel
        self._history = history
        self._server = server
        self._stub: InferenceServiceAsyncStub = InferenceServiceStub(channel)

    async def send(self, ask: Ask, way: Way, manner: Manner = Manner()) -> str:
        """Send one request and record its end; the status. Cancelling the caller cancels the call."""
        if way == "bulk":
            assert isinstance(ask, Translate)
            (status,) = await self.send_many([ask], manner)
            return status
        request = self._history.begin(ask.key, way, self._server, manner.may)
        streams = way == "stream"
        attempt = self._stream(ask, request, manner) if streams else self._call(ask, request, manner)
        return await self._guarded(attempt, [request], manner)

    async def send_many(self, asks: Sequence[Translate], manner: Manner = Manner()) -> list[str]:
        """Send texts as the items of one bulk call; their statuses."""
        requests = [self._history.begin(ask.key, "bulk", self._server, manner.may) for ask in asks]
        statuses = dict.fromkeys(requests, "")
        attempt = self._bulk(asks, requests, statuses, manner)
        status = await self._guarded(attempt, requests, manner, statuses)
        return [statuses[request] or ("UNANSWERED" if status == "OK" else status) for request in requests]

    async def _guarded(
        self, attempt: Any, requests: Sequence[str], manner: Manner, statuses: dict[str, str] | None = None
    ) -> str:
        """Every way for a call to end is an end of all its requests that have none yet."""
        done = statuses if statuses is not None else {}
        detail, retry_after = "", None
        end = asyncio.get_running_loop().time() + manner.timeout
        try:
            async with asyncio.timeout(manner.timeout + HUNG_SECONDS):
                await attempt
        except grpc.aio.AioRpcError as error:
            failure = failure_of(error)
            status, detail, pushback = failure.code.name, failure.message, failure.pushback_ms()
            if failure.code is not error.code() and asyncio.get_running_loop().time() >= end:
                status = "DEADLINE_EXCEEDED"  # why it broke under a message being sent
            retry_after = None if pushback is None else pushback / 1e3
        except TimeoutError:
            return "HUNG"  # it has no end, which is a violation
        except asyncio.CancelledError:
            self._end_rest(requests, done, "CANCELLED", "given up by the caller", None)
            raise
        except DragomanError as error:
            status, detail = "PROTOCOL", f"{type(error).__name__}: {error}"
        else:
            return "OK"
        self._end_rest(requests, done, status, detail, retry_after)
        return status

    def _end_rest(
        self, requests: Iterable[str], done: dict[str, str], status: str, detail: str, retry_after: float | None
    ) -> None:
        for request in requests:
            if not done.get(request):
                done[request] = status
                self._history.end(request, status, detail=detail, retry_after=retry_after)

    def _answered(self, request: str, value: Value) -> None:
        answer = answer_of(value)
        self._history.end(request, "OK", fingerprint=answer.fingerprint, text=answer.text, version=value.model_version)

    async def _call(self, ask: Ask, request: str, manner: Manner) -> None:
        value: Value
        how: dict[str, Any] = {"timeout": manner.timeout, "metadata": manner.metadata}
        match ask:
            case Translate():
                value = wire.translation(await self._stub.Translate(ask.message(), **how), ())
            case Classify():
                value = understanding_wire.classification(await self._stub.Classify(ask.message(), **how), ())
            case FillMask():
                value = understanding_wire.filled_masks(await self._stub.FillMask(ask.message(), **how), ())
            case Embed():
                value = understanding_wire.embeddings(await self._stub.Embed(ask.message(), **how), ())
            case ScoreOf():
                value = wire.score(await self._stub.Score(ask.message(), **how), ())
            case Generate():
                raise TypeError("there is no call that generates without a stream")
        self._answered(request, value)

    async def _stream(self, ask: Ask, request: str, manner: Manner) -> None:
        how: dict[str, Any] = {"timeout": manner.timeout, "metadata": manner.metadata}
        call: Any
        if isinstance(ask, Generate):
            call = self._stub.Generate(ask.message(), **how)
        else:
            assert isinstance(ask, Translate), "nothing else is streamed"
            call = self._stub.StreamTranslate(ask.message(), **how)
        answer: Any = None
        await manner.ready_to_read()
        async for chunk in call:
            last = chunk.HasField("response")
            self._history.piece(request, chunk.final_text_delta, chunk.provisional_text, last=last)
            if last:
                answer = chunk.response
            if manner.on_piece is not None:
                manner.on_piece()
        if answer is None:
            raise DragomanError("the stream ended without an answer")
        self._answered(request, _generated(answer) if isinstance(ask, Generate) else wire.translation(answer, ()))

    async def _bulk(
        self, asks: Sequence[Translate], requests: Sequence[str], statuses: dict[str, str], manner: Manner
    ) -> None:
        ids = dict(zip(itertools.count(1), requests))

        async def items() -> AsyncIterator[inference_pb2.TranslateManyRequest]:
            for number, ask in enumerate(asks, 1):
                item = inference_pb2.TranslateItem(id=number, request=ask.message())
                yield inference_pb2.TranslateManyRequest(items=[item])

        call: Any = self._stub.TranslateMany(items(), timeout=manner.timeout, metadata=manner.metadata)
        await manner.ready_to_read()
        async for message in call:
            for outcome in message.outcomes:
                request = ids.get(outcome.id, f"nobody's item {outcome.id}")
                if outcome.HasField("error"):
                    code = {code.value[0]: code.name for code in grpc.StatusCode}.get(outcome.error.code, "UNKNOWN")
                    statuses[request] = code
                    error = outcome.error
                    after = error.retry_after_ms / 1e3 if error.HasField("retry_after_ms") else None
                    self._history.end(request, code, detail=error.message, retry_after=after)
                else:
                    statuses[request] = "OK"
                    self._answered(request, wire.translation(outcome.response, ()))
            if manner.on_piece is not None:
                manner.on_piece()


def _generated(response: inference_pb2.GenerateResponse) -> GeneratedText:
    return GeneratedText(
        hypotheses=tuple(wire.hypothesis(h) for h in response.hypotheses),
        usage=wire.usage(response.usage),
        receipt=wire.receipt(()),
        model=response.model,
        model_version=response.model_version,
        discarded_tokens=response.discarded_tokens,
    )
