"""The blocking client. Its twin is in async_client.py; what they share is in wire.py, retry.py and connection.py."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from dragoman import wire
from dragoman.connection import DEFAULT_ADDRESS, TLS, connection
from dragoman.decoding import Decoding
from dragoman.errors import Cancelled, Failure
from dragoman.retry import Attempts, Retry
from dragoman.values import Model, ModelDetails, Translation
from dragoman.window import ordered
from dragoman_protos.v1 import models_pb2
from dragoman_protos.v1.inference_pb2_grpc import InferenceServiceStub
from dragoman_protos.v1.models_pb2_grpc import ModelServiceStub

Q = TypeVar("Q")
S = TypeVar("S")
T = TypeVar("T")


class Client:
    """Talks to one Dragoman server, or to several in turn. Safe to share between threads.

    ``address`` is HOST:PORT or several of them (balanced round robin); ``token`` travels as a bearer token, never in
    the clear except to this machine; ``tls`` is True for the usual authorities, or a ``TLS``; ``timeout`` is for each
    call, in seconds, attempts and pauses included.

    Raises InvalidArgument for arguments that cannot work. All methods raise ``DragomanError``s, and RuntimeError
    after ``close``.
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
        how = connection(address, token, tls)
        self._metadata = how.metadata
        if how.credentials is None:
            self._channel = grpc.insecure_channel(how.target, how.options)
        else:
            self._channel = grpc.secure_channel(how.target, how.credentials, how.options)
        self._inference = InferenceServiceStub(self._channel)
        self._models = ModelServiceStub(self._channel)
        self._calls = _Calls()

    def translate(
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
        return self._call(self._inference.Translate, request, timeout, wire.translation, self._calls)

    def translate_many(
        self,
        texts: Iterable[str],
        *,
        target: str,
        source: str | None = None,
        model: str | None = None,
        timeout: float | None = None,
        concurrency: int = 32,
        **decoding: Unpack[Decoding],
    ) -> Generator[Translation, None, None]:
        """Translate each text; answers come in input order, with at most ``concurrency`` calls under way.

        ``texts`` is read in the calling thread, at most ``concurrency`` ahead. ``timeout`` is for each text. The first
        error ends the iteration; walking away from the iterator cancels what is under way.
        """
        self._check_open()
        size = wire.window_size(concurrency)
        # Refuses at once what no text could make right.
        wire.translate_request("", target=target, source=source, model=model, decoding=decoding)
        calls = _Calls()

        def one(text: str) -> Translation:
            request = wire.translate_request(text, target=target, source=source, model=model, decoding=decoding)
            return self._call(self._inference.Translate, request, timeout, wire.translation, calls)

        return ordered(one, texts, size, calls.cancel)

    def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """The models being served."""
        return self._call(self._models.ListModels, models_pb2.ListModelsRequest(), timeout, wire.models, self._calls)

    def model(self, name: str | None = None, *, timeout: float | None = None) -> ModelDetails:
        """One model and its bundle; None stands for the server's default. Raises NotFound for an unknown one."""
        return self._call(self._models.GetModel, wire.get_model_request(name), timeout, wire.model_details, self._calls)

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
        calls: _Calls,
    ) -> T:
        self._check_open()
        seconds = wire.timeout_seconds(timeout, self._timeout)
        attempts = Attempts(self._retry, seconds, clock=time.monotonic, random=random.random)
        while True:
            try:
                call = method.future(request, timeout=attempts.begin(), metadata=self._metadata)
            except ValueError:  # the channel was closed by another thread just now
                self._check_open()
                raise
            pending: grpc.Future[S] = call
            calls.add(pending)
            try:
                response = pending.result()
            except grpc.RpcError:
                failure = Failure(call.code(), call.details() or "", _trailing(call))
            except grpc.FutureCancelledError:
                raise Cancelled("the call was cancelled") from None
            except BaseException:  # such as KeyboardInterrupt: the server need not go on
                pending.cancel()
                raise
            else:
                return parse(response, _trailing(call))
            finally:
                calls.remove(pending)
            if calls.ended_within(attempts.pause(failure)):
                raise Cancelled("the call was cancelled")


class _Calls:
    """Calls that end together: a client's, or those of one iteration."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._active: set[grpc.Future[Any]] = set()

    @property
    def ended(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._ended.is_set()

    def add(self, call: grpc.Future[Any]) -> None:
        """Take in a call, which is cancelled at once when the others were."""
        with self._lock:
            self._active.add(call)
        if self.ended:
            call.cancel()

    def remove(self, call: grpc.Future[Any]) -> None:
        """Let go of a finished call."""
        with self._lock:
            self._active.discard(call)

    def cancel(self) -> None:
        """Cancel all, now and later. Idempotent."""
        self._ended.set()
        with self._lock:
            active = list(self._active)
        for call in active:
            call.cancel()

    def ended_within(self, seconds: float) -> bool:
        """Sleep, unless and until the calls are cancelled; whether they were."""
        return self._ended.wait(seconds)


def _trailing(call: grpc.CallFuture[Any]) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, value) for key, value in call.trailing_metadata() or ())
