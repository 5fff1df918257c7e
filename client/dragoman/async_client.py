"""The client for asyncio: the twin of client.py, with the same methods awaited and async-iterated."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from dragoman import wire
from dragoman.connection import DEFAULT_ADDRESS, TLS, connection
from dragoman.decoding import Decoding
from dragoman.errors import Cancelled, Failure
from dragoman.retry import Attempts, Retry
from dragoman.values import Model, ModelDetails, Translation
from dragoman.window import ordered_async
from dragoman_protos.v1 import models_pb2
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
        timeout: float | None = None,
        **decoding: Unpack[Decoding],
    ) -> Translation:
        """Translate one text into ``target`` (a language that the model lists, such as "de").

        ``source`` is the text's language, if known; ``model`` None stands for the server's default; ``decoding``
        is every keyword of ``Decoding``, such as ``beam_size=4``.
        """
        request = wire.translate_request(text, target=target, source=source, model=model, decoding=decoding)
        method = InferenceServiceStub(self._open()).Translate
        return await self._call(method, request, timeout, wire.translation)

    def translate_many(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        target: str,
        source: str | None = None,
        model: str | None = None,
        timeout: float | None = None,
        concurrency: int = 32,
        **decoding: Unpack[Decoding],
    ) -> AsyncGenerator[Translation, None]:
        """Translate each text; answers come in input order, with at most ``concurrency`` calls under way.

        ``texts`` is read at most ``concurrency`` ahead. ``timeout`` is for each text. The first error ends the
        iteration; closing the iterator cancels what is under way.
        """
        self._check_open()
        size = wire.window_size(concurrency)
        # Refuses at once what no text could make right.
        wire.translate_request("", target=target, source=source, model=model, decoding=decoding)

        async def one(text: str) -> Translation:
            return await self.translate(text, target=target, source=source, model=model, timeout=timeout, **decoding)

        return ordered_async(one, texts, size)

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
                failure = Failure(error.code(), error.details() or "", _entries(error.trailing_metadata()))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed and not (task is not None and task.cancelling()):
                    # Close cancelled the call; the task that waited for it was not cancelled.
                    raise Cancelled("the client was closed during the call") from None
                raise
            else:
                return parse(response, _entries(await call.trailing_metadata()))
            await asyncio.sleep(attempts.pause(failure))


def _entries(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, value) for key, value in metadata or ())
