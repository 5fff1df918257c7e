"""How the client for asyncio calls: the twin of caller.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from dragoman import wire
from dragoman.bulk_tasks import entries
from dragoman.connection import DEFAULT_ADDRESS, TLS, connection
from dragoman.errors import Cancelled, Failure, error_from
from dragoman.reading import Reader
from dragoman.retry import Retry, Retrying
from dragoman_protos.v1.inference_pb2_grpc import InferenceServiceStub
from dragoman_protos.v1.models_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:  # known to the typed stubs alone
    from dragoman_protos.v1.inference_pb2_grpc import InferenceServiceAsyncStub
    from dragoman_protos.v1.models_pb2_grpc import ModelServiceAsyncStub

Q = TypeVar("Q")
S = TypeVar("S")
T = TypeVar("T")


class AsyncCaller:
    """One server, or several in turn, from one event loop; the base of ``AsyncClient``, which says what to call.

    Arguments and errors are those of ``Caller``. The connection is opened by the first call, in the running loop.
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
        self._retrying = Retrying(retry)
        self._connection = connection(address, token, tls)
        self._channel: grpc.aio.Channel | None = None
        self._inference_stub: InferenceServiceAsyncStub | None = None
        self._models_stub: ModelServiceAsyncStub | None = None
        self._closed = False

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
        attempts = self._retrying.attempts(seconds)
        while True:
            self._check_open()
            call = method(request, timeout=attempts.begin(), metadata=self._connection.metadata)
            try:
                response = await call
            except grpc.aio.AioRpcError as error:
                failure = Failure.told(error.code(), error.details(), entries(error.trailing_metadata()))
            except asyncio.CancelledError:
                self._raise_if_closed()
                raise
            else:
                attempts.succeeded()
                return parse(response, entries(await call.trailing_metadata()))
            await asyncio.sleep(attempts.pause(failure))

    @property
    def _inference(self) -> InferenceServiceAsyncStub:
        self._check_open()
        if self._inference_stub is None:
            self._inference_stub = InferenceServiceStub(self._open())
        return self._inference_stub

    @property
    def _models(self) -> ModelServiceAsyncStub:
        self._check_open()
        if self._models_stub is None:
            self._models_stub = ModelServiceStub(self._open())
        return self._models_stub

    def _stream(
        self, method: Callable[..., Any], request: object, timeout: float | None, new_reader: Callable[[], Reader[S, T]]
    ) -> AsyncGenerator[T, None]:
        return self._chunks(method, request, wire.timeout_seconds(timeout, self._timeout), new_reader)

    async def _chunks(
        self, method: Callable[..., Any], request: object, seconds: float, new_reader: Callable[[], Reader[S, T]]
    ) -> AsyncGenerator[T, None]:
        attempts = self._retrying.attempts(seconds)
        while True:
            self._check_open()
            reader = new_reader()
            call = method(request, timeout=attempts.begin(), metadata=self._connection.metadata)
            try:
                async for message in call:
                    if chunk := reader.read(message):
                        yield chunk
                yield reader.last(entries(await call.trailing_metadata()))
            except grpc.aio.AioRpcError as error:
                failure = Failure.told(error.code(), error.details(), entries(error.trailing_metadata()))
            except asyncio.CancelledError:
                self._raise_if_closed()
                raise
            else:
                attempts.succeeded()
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
