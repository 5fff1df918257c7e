"""translate_many in tasks: the twin of bulk_threads.py."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

import grpc

from dragoman.errors import DeadlineExceeded, DragomanError, Failure, InternalError
from dragoman.pending import Answer, Pending, prepared
from dragoman.retry import Attempts, Retrying
from dragoman.values import Translation
from dragoman_protos.v1 import inference_pb2

Texts = Iterable[str | DragomanError] | AsyncIterable[str | DragomanError]
Requests = AsyncIterator[inference_pb2.TranslateManyRequest]
OpenStream = Callable[[Requests], Any]
"""Begins a TranslateMany call."""

_ENDED_UNDER_A_WRITE = "Internal error from Core"
"""What grpc.aio says in place of the call's own status, which is lost then."""


class BulkTasks:
    """One iteration. ``timeout`` is the longest time without any answer while the server owes one."""

    def __init__(
        self,
        open_stream: OpenStream,
        texts: Texts,
        template: inference_pb2.TranslateRequest,
        *,
        size: int,
        timeout: float,
        retrying: Retrying,
    ) -> None:
        self._open = open_stream
        self._texts = texts
        self._template = template
        self._timeout = timeout
        self._retrying = retrying
        self._pending = Pending(size)
        self._room = asyncio.Event()
        """For who reads the texts; the others for who sends, and for who is given the answers."""
        self._to_send = asyncio.Event()
        self._to_give = asyncio.Event()
        self._all_read = False
        self._source_error: Exception | None = None
        self._error: Exception | None = None
        self._progress = 0.0

    async def answers(self) -> AsyncGenerator[Answer, None]:
        """The answers in input order; closing it cancels what is under way."""
        tasks = [asyncio.create_task(self._feed()), asyncio.create_task(self._receive())]
        try:
            while await self._wait():
                answer = self._pending.pop()
                self._room.set()
                yield answer
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self) -> bool:
        """Wait for the next answer; False at the end. Raises what ends the iteration."""
        while not self._pending.ready:
            if self._error is not None:
                raise self._error
            if self._pending.empty and self._all_read:
                if self._source_error is not None:
                    raise self._source_error
                return False
            left = self._progress + self._timeout - time.monotonic() if self._pending.unanswered else None
            if left is not None and left <= 0:
                raise DeadlineExceeded(f"no answer within {self._timeout:g} s")
            self._to_give.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):  # as wait_for, which may lose a cancellation
                    await self._to_give.wait()
        return True

    async def _feed(self) -> None:
        try:
            texts = _each(self._texts)
            while True:
                await _until(lambda: not self._pending.full, self._room)
                try:
                    text = await anext(texts)
                except StopAsyncIteration:
                    return
                item = prepared(self._template, text)
                if not self._pending.unanswered:
                    self._progress = time.monotonic()
                self._pending.add(item)
                self._to_send.set()
                if self._pending.ready:
                    self._to_give.set()
        except Exception as error:
            self._source_error = error
        finally:
            self._all_read = True
            self._to_send.set()
            self._to_give.set()

    async def _receive(self) -> None:
        try:
            attempts = self._attempts()
            while await self._anything_to_do():
                attempts.begin()
                before = self._progress
                failure = await self._stream()
                if failure is None:
                    attempts.succeeded()
                    continue
                if self._progress != before:  # it has worked since
                    attempts = self._attempts()
                    attempts.begin()
                delay = attempts.pause(failure)
                self._pending.resend()
                await asyncio.sleep(delay)
        except Exception as error:
            self._error = error
            self._to_give.set()

    def _attempts(self) -> Attempts:
        return self._retrying.attempts(self._timeout)

    async def _anything_to_do(self) -> bool:
        await _until(lambda: self._pending.unanswered or self._all_read, self._to_send)
        return self._pending.unanswered

    async def _stream(self) -> Failure | None:
        """One call from its begin to its end; how it failed, if it did."""
        ended = asyncio.Event()
        call = self._open(self._messages(ended))
        try:
            async for response in call:
                self._pending.answer(response)
                self._progress = time.monotonic()
                self._to_give.set()
        except grpc.aio.AioRpcError as error:
            return failure_of(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if call.cancelled() and not (task is not None and task.cancelling()):  # the client was closed under it
                return Failure(grpc.StatusCode.CANCELLED, "the client was closed during the call")
            raise
        finally:
            ended.set()
            self._to_send.set()  # whoever waits for messages to send has to end
            call.cancel()
        if self._pending.unanswered:
            raise InternalError("the server ended the stream before it had answered")
        return None

    async def _messages(self, ended: asyncio.Event) -> Requests:
        """What is unsent, as it comes; the end when all was read and sent."""
        while True:
            await _until(lambda: self._pending.unsent or self._all_read or ended.is_set(), self._to_send)
            if ended.is_set() or not self._pending.unsent:  # a call that is over must take nothing from the next
                return
            yield self._pending.message()


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """What the stream ended with; UNAVAILABLE where gRPC cannot tell, since it broke under a message being sent."""
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _ENDED_UNDER_A_WRITE:
        return Failure(grpc.StatusCode.UNAVAILABLE, "the stream broke while a message was being sent")
    return Failure.told(error.code(), error.details(), entries(error.trailing_metadata()))


async def _until(condition: Callable[[], bool], news: asyncio.Event) -> None:
    while not condition():
        news.clear()
        await news.wait()


async def _each(texts: Texts) -> AsyncIterator[str | DragomanError]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            yield text
    else:
        for text in texts:
            yield text


async def checked(
    answers: AsyncGenerator[Translation | DragomanError, None], return_errors: bool
) -> AsyncGenerator[Translation | DragomanError, None]:
    """The answers; an error among them is raised unless it is to be returned."""
    async with contextlib.aclosing(answers):
        async for answer in answers:
            if isinstance(answer, DragomanError) and not return_errors:
                raise answer
            yield answer


def entries(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata as plain pairs."""
    return tuple((key, value) for key, value in metadata or ())
