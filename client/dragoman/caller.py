"""How the blocking client calls: the channel, retries, typed errors, and the end of all calls on ``close``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from dragoman import wire
from dragoman.calls import Calls, failed, trailing
from dragoman.connection import DEFAULT_ADDRESS, TLS, connection
from dragoman.errors import Cancelled, error_from
from dragoman.reading import Reader
from dragoman.retry import Retry, Retrying
from dragoman_protos.v1.inference_pb2_grpc import InferenceServiceStub
from dragoman_protos.v1.models_pb2_grpc import ModelServiceStub

Q = TypeVar("Q")
S = TypeVar("S")
T = TypeVar("T")


class Caller:
    """One server, or several in turn; the base of ``Client``, which says what there is to call.

    ``address`` is HOST:PORT or several of them (round robin over those that say that they serve); ``token`` travels as
    a bearer token, never in the clear except to this machine; ``tls`` is True for the usual authorities, or a ``TLS``;
    ``timeout`` is for each call, in seconds, attempts and pauses included.

    Raises InvalidArgument for arguments that cannot work.
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
        how = connection(address, token, tls)
        self._metadata = how.metadata
        if how.credentials is None:
            self._channel = grpc.insecure_channel(how.target, how.options)
        else:
            self._channel = grpc.secure_channel(how.target, how.credentials, how.options)
        self._inference = InferenceServiceStub(self._channel)
        self._models = ModelServiceStub(self._channel)
        self._calls = Calls()

    def close(self) -> None:
        """Cancel what is under way and close the connections. Idempotent."""
        self._calls.cancel()
        self._channel.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._calls.ended:
            raise RuntimeError("this Client is closed")

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Q, S],
        request: Q,
        timeout: float | None,
        parse: Callable[[S, wire.Metadata], T],
    ) -> T:
        self._check_open()
        calls = self._calls
        seconds = wire.timeout_seconds(timeout, self._timeout)
        attempts = self._retrying.attempts(seconds)
        while True:
            try:
                # Without a future: this thread itself waits on the connection, and none has to wake another.
                response, call = method.with_call(request, timeout=attempts.begin(), metadata=self._metadata)
            except ValueError:  # the channel was closed by another thread just now
                self._check_open()
                raise
            except grpc.RpcError as error:
                failure = failed(error)
                if calls.ended and failure.code is grpc.StatusCode.CANCELLED:
                    raise Cancelled("the call was cancelled") from None
            else:
                attempts.succeeded()
                return parse(response, trailing(call))
            if calls.ended_within(attempts.pause(failure)):
                raise Cancelled("the call was cancelled")

    def _stream(
        self, method: Callable[..., Any], request: object, timeout: float | None, new_reader: Callable[[], Reader[S, T]]
    ) -> Generator[T, None, None]:
        self._check_open()
        return self._chunks(method, request, wire.timeout_seconds(timeout, self._timeout), new_reader)

    def _chunks(
        self, method: Callable[..., Any], request: object, seconds: float, new_reader: Callable[[], Reader[S, T]]
    ) -> Generator[T, None, None]:
        attempts = self._retrying.attempts(seconds)
        while True:
            self._check_open()
            reader = new_reader()
            call: Any = method(request, timeout=attempts.begin(), metadata=self._metadata)
            self._calls.add(call)
            try:
                for message in call:
                    if chunk := reader.read(message):
                        yield chunk
                yield reader.last(trailing(call))
            except grpc.RpcError:
                failure = failed(call)
            else:
                attempts.succeeded()
                return
            finally:
                call.cancel()
                self._calls.remove(call)
            if reader.begun:
                raise error_from(failure)
            if self._calls.ended_within(attempts.pause(failure)):
                raise Cancelled("the call was cancelled")
