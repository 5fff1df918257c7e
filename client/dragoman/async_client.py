"""The client for asyncio: the twin of client.py, with the same methods awaited and async-iterated."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

import grpc

from dragoman import wire
from dragoman.bulk_tasks import BulkTasks, Texts, checked, entries
from dragoman.connection import DEFAULT_ADDRESS, TLS, connection
from dragoman.decoding import Decoding
from dragoman.errors import Cancelled, DragomanError, Failure, error_from
from dragoman.pending import CONCURRENCY
from dragoman.retry import Attempts, Retry
from dragoman.values import Chunk, Model, ModelDetails, Score, Translation
from dragoman.wire import Segmentation
from dragoman_protos.v1 import inference_pb2, models_pb2
from dragoman_protos.v1.inference_pb2_grpc import InferenceServiceStub
from dragoman_protos.v1.models_pb2_grpc import ModelServiceStub

Q = TypeVar("Q")
S = TypeVar("S")
T = TypeVar("T")


class AsyncClient:
    """Talks to one Dragoman server, or to several in turn, from one event loop.

    Arguments and errors are those of ``Client``. The connection is opened by the first call, in the running loop.
    """

    def __init__(
        self,
        address: str | Sequence[str] = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: bool | TLS = False,
        timeout: float = 30.0,
        retry: Retry = Retry(),  # noqa: B008  (frozen)
    ) -> None:
        self._timeout = wire.timeout_seconds(timeout, timeout)
        self._retry = retry
        self._connection = connection(address, token, tls)
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    async def translate(
        self,
        text: str,
        *,
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        **decoding: Unpack[Decoding],
    ) -> Translation:
        """Translate one text, of one sentence or of many, into ``target`` (a language that the model lists: "de").

        ``source`` is the text's language, if known; ``model`` None stands for the server's default; ``segmentation``
        says whether the text is split into sentences, "auto" by default; of the texts that wait, those of higher
        ``priority`` go first: 0, the default, to 9. ``decoding`` is every keyword of ``Decoding``, such as
        ``beam_size=4``.
        """
        request = wire.translate_request(
            text,
            target=target,
            source=source,
            model=model,
            decoding=decoding,
            segmentation=segmentation,
            priority=priority,
        )
        return await self._call(InferenceServiceStub(self._open()).Translate, request, timeout, wire.translation)

    def stream_translate(
        self,
        text: str,
        *,
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        **decoding: Unpack[Decoding],
    ) -> AsyncGenerator[Chunk, None]:
        """The same, as it is decoded; the last chunk holds the translation. Walking away cancels the call.

        It is tried again as any call is until its first chunk has come.
        """
        self._check_open()
        request = wire.translate_request(
            text,
            target=target,
            source=source,
            model=model,
            decoding=decoding,
            segmentation=segmentation,
            priority=priority,
        )
        return self._stream(request, wire.timeout_seconds(timeout, self._timeout))

    @overload
    def translate_many(
        self,
        texts: Texts,
        *,
        return_errors: Literal[False] = False,
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        concurrency: int = ...,
        **decoding: Unpack[Decoding],
    ) -> AsyncGenerator[Translation, None]: ...

    @overload
    def translate_many(
        self,
        texts: Texts,
        *,
        return_errors: Literal[True],
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        concurrency: int = ...,
        **decoding: Unpack[Decoding],
    ) -> AsyncGenerator[Translation | DragomanError, None]: ...

    def translate_many(
        self,
        texts: Texts,
        *,
        return_errors: bool = False,
        target: str,
        source: str | None = None,
        model: str | None = None,
        segmentation: Segmentation | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        concurrency: int = CONCURRENCY,
        **decoding: Unpack[Decoding],
    ) -> AsyncGenerator[Translation | DragomanError, None]:
        """Translate each text over one stream; answers come in input order.

        ``texts`` is read by a task of its own, so that an answer never waits for the next text, and at most
        ``concurrency`` ahead of the answers. ``timeout`` is the longest wait for any answer. A text that fails ends
        the iteration with its error; with ``return_errors`` the error stands in its place. So does an error among the
        texts, by which a source says what it could not read. A stream that breaks is begun again by the rules of
        ``retry``, with the texts that were not answered. Walking away cancels what is under way.
        """
        self._check_open()
        size = wire.window_size(concurrency)
        template = wire.translate_request(
            "",
            target=target,
            source=source,
            model=model,
            decoding=decoding,
            segmentation=segmentation,
            priority=priority,
        )
        seconds = wire.timeout_seconds(timeout, self._timeout)
        bulk = BulkTasks(self._open_many, texts, template, size=size, timeout=seconds, retry=self._retry)
        return checked(bulk.answers(), return_errors)

    async def score(
        self,
        text: str,
        translation: str,
        *,
        target: str,
        source: str | None = None,
        model: str | None = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Score:
        """How likely ``translation`` is to the model as what ``text`` becomes in the language ``target``."""
        request = wire.score_request(
            text, translation, target_language=target, source_language=source, model=model, priority=priority
        )
        return await self._call(InferenceServiceStub(self._open()).Score, request, timeout, wire.score)

    async def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """The models being served."""
        method = ModelServiceStub(self._open()).ListModels
        return await self._call(method, models_pb2.ListModelsRequest(), timeout, wire.models)

    async def model(self, name: str | None = None, *, timeout: float | None = None) -> ModelDetails:
        """One model and its bundle; None stands for the server's default. Raises NotFound for an unknown one."""
        method = ModelServiceStub(self._open()).GetModel
        return await self._call(method, wire.get_model_request(name), timeout, wire.model_details)

    async def close(self) -> None:
        """Cancel what is under way and close the connections. Idempotent."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close(None)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this AsyncClient is closed")

    def _open(self) -> grpc.aio.Channel:
        self._check_open()
        if self._channel is None:
            how = self._connection
            if how.credentials is None:
                self._channel = grpc.aio.insecure_channel(how.target, how.options)
            else:
                self._channel = grpc.aio.secure_channel(how.target, how.credentials, how.options)
        return self._channel

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, S],
        request: Q,
        timeout: float | None,
        parse: Callable[[S, wire.Metadata], T],
    ) -> T:
        seconds = wire.timeout_seconds(timeout, self._timeout)
        attempts = Attempts(self._retry, seconds, clock=time.monotonic, random=random.random)
        while True:
            self._check_open()
            call = method(request, timeout=attempts.begin(), metadata=self._connection.metadata)
            try:
                response = await call
            except grpc.aio.AioRpcError as error:
                failure = Failure(error.code(), error.details() or "", entries(error.trailing_metadata()))
            except asyncio.CancelledError:
                self._raise_if_closed()
                raise
            else:
                return parse(response, entries(await call.trailing_metadata()))
            await asyncio.sleep(attempts.pause(failure))

    def _open_many(self, requests: AsyncIterator[inference_pb2.TranslateManyRequest]) -> Any:
        return InferenceServiceStub(self._open()).TranslateMany(requests, metadata=self._connection.metadata)

    async def _stream(self, request: inference_pb2.TranslateRequest, seconds: float) -> AsyncGenerator[Chunk, None]:
        attempts = Attempts(self._retry, seconds, clock=time.monotonic, random=random.random)
        while True:
            reader = wire.ChunkReader()
            method = InferenceServiceStub(self._open()).StreamTranslate
            call = method(request, timeout=attempts.begin(), metadata=self._connection.metadata)
            try:
                async for message in call:
                    if chunk := reader.read(message):
                        yield chunk
                yield reader.last(entries(await call.trailing_metadata()))
            except grpc.aio.AioRpcError as error:
                failure = Failure(error.code(), error.details() or "", entries(error.trailing_metadata()))
            except asyncio.CancelledError:
                self._raise_if_closed()
                raise
            else:
                return
            finally:
                call.cancel()
            if reader.begun:
                raise error_from(failure)
            await asyncio.sleep(attempts.pause(failure))

    def _raise_if_closed(self) -> None:
        """Close cancels the calls; the tasks that wait for them were not cancelled."""
        task = asyncio.current_task()
        if self._closed and not (task is not None and task.cancelling()):
            raise Cancelled("the client was closed during the call") from None
