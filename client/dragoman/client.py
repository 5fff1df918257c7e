"""The blocking client. Its twin is in async_client.py; what they share is in wire.py, retry.py and connection.py."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

import grpc

from dragoman import wire
from dragoman.bulk_threads import BulkThreads
from dragoman.calls import Calls, checked, trailing
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
        self._calls = Calls()

    def translate(
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
        return self._call(self._inference.Translate, request, timeout, wire.translation)

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
    ) -> Generator[Chunk, None, None]:
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
        texts: Iterable[str | DragomanError],
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
    ) -> Generator[Translation, None, None]: ...

    @overload
    def translate_many(
        self,
        texts: Iterable[str | DragomanError],
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
    ) -> Generator[Translation | DragomanError, None, None]: ...

    def translate_many(
        self,
        texts: Iterable[str | DragomanError],
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
    ) -> Generator[Translation | DragomanError, None, None]:
        """Translate each text over one stream; answers come in input order.

        ``texts`` is read by a thread of its own, so that an answer never waits for the next text, and at most
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
        bulk = BulkThreads(self._open_many, texts, template, size=size, timeout=seconds, retry=self._retry)
        return checked(bulk.answers(), return_errors)

    def score(
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
        return self._call(self._inference.Score, request, timeout, wire.score)

    def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """The models being served."""
        return self._call(self._models.ListModels, models_pb2.ListModelsRequest(), timeout, wire.models)

    def model(self, name: str | None = None, *, timeout: float | None = None) -> ModelDetails:
        """One model and its bundle; None stands for the server's default. Raises NotFound for an unknown one."""
        return self._call(self._models.GetModel, wire.get_model_request(name), timeout, wire.model_details)

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
                failure = Failure(call.code(), call.details() or "", trailing(call))
            except grpc.FutureCancelledError:
                raise Cancelled("the call was cancelled") from None
            except BaseException:  # such as KeyboardInterrupt: the server need not go on
                pending.cancel()
                raise
            else:
                return parse(response, trailing(call))
            finally:
                calls.remove(pending)
            if calls.ended_within(attempts.pause(failure)):
                raise Cancelled("the call was cancelled")

    def _open_many(self, requests: Iterator[inference_pb2.TranslateManyRequest]) -> Any:
        call = self._inference.TranslateMany(requests, metadata=self._metadata)
        self._calls.add(call)  # type: ignore[arg-type]  # a future too, which the stubs do not say
        call.add_callback(lambda: self._calls.remove(call))  # type: ignore[arg-type]
        return call

    def _stream(self, request: inference_pb2.TranslateRequest, seconds: float) -> Generator[Chunk, None, None]:
        attempts = Attempts(self._retry, seconds, clock=time.monotonic, random=random.random)
        while True:
            self._check_open()
            reader = wire.ChunkReader()
            call: Any = self._inference.StreamTranslate(request, timeout=attempts.begin(), metadata=self._metadata)
            self._calls.add(call)
            try:
                for message in call:
                    if chunk := reader.read(message):
                        yield chunk
                yield reader.last(trailing(call))
            except grpc.RpcError:
                failure = Failure(call.code(), call.details() or "", trailing(call))
            else:
                return
            finally:
                call.cancel()
                self._calls.remove(call)
            if reader.begun:
                raise error_from(failure)
            if self._calls.ended_within(attempts.pause(failure)):
                raise Cancelled("the call was cancelled")
