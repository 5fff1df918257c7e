"""translate_many in threads: one reads the texts, one the answers, and gRPC's own sends what is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import grpc

from dragoman.errors import Cancelled, DeadlineExceeded, DragomanError, Failure, InternalError
from dragoman.pending import Answer, Pending, prepared
from dragoman.retry import Attempts, Retrying
from dragoman_protos.v1 import inference_pb2

Requests = Iterator[inference_pb2.TranslateManyRequest]
OpenStream = Callable[[Requests], Any]
"""Begins a TranslateMany call; raises ValueError where the channel is closed."""


class BulkThreads:
    """One iteration. ``timeout`` is the longest time without any answer while the server owes one."""

    def __init__(
        self,
        open_stream: OpenStream,
        texts: Iterable[str | DragomanError],
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
        lock = threading.Lock()
        self._room = threading.Condition(lock)
        """For the texts' thread; the others for who sends, and for who is given the answers."""
        self._to_send = threading.Condition(lock)
        self._to_give = threading.Condition(lock)
        self._all_read = False
        self._over = False
        self._call: Any = None
        self._source_error: Exception | None = None
        self._error: Exception | None = None
        self._progress = 0.0

    def answers(self) -> Generator[Answer, None, None]:
        """The answers in input order; closing it cancels what is under way."""
        for run, name in ((self._feed, "dragoman-texts"), (self._receive, "dragoman-answers")):
            # Daemons, since reading from a terminal or a pipe cannot be interrupted.
            threading.Thread(target=run, name=name, daemon=True).start()
        try:
            while self._wait():
                with self._room:
                    answer = self._pending.pop()
                    self._room.notify()
                yield answer
        finally:
            with self._room:
                self._over = True
                self._room.notify()
                self._to_send.notify_all()
                call = self._call
            if call is not None:
                call.cancel()

    def _wait(self) -> bool:
        """Wait for the next answer; False at the end. Raises what ends the iteration."""
        with self._to_give:
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
                self._to_give.wait(left)
        return True

    def _feed(self) -> None:
        try:
            texts = iter(self._texts)
            while True:
                with self._room:
                    self._room.wait_for(lambda: self._over or not self._pending.full)
                    if self._over:
                        return
                try:
                    text = next(texts)
                except StopIteration:
                    return
                item = prepared(self._template, text)
                with self._to_send:
                    if not self._pending.unanswered:
                        self._progress = time.monotonic()
                    idle = not self._pending.unsent
                    self._pending.add(item)
                    if self._pending.ready:
                        self._to_give.notify()
                    if idle:
                        self._to_send.notify_all()
        except Exception as error:
            self._source_error = error
        finally:
            with self._to_send:
                self._all_read = True
                self._to_send.notify_all()
                self._to_give.notify()

    def _receive(self) -> None:
        try:
            attempts = self._attempts()
            while self._anything_to_do():
                attempts.begin()
                before = self._progress
                failure = self._stream()
                if failure is None:
                    attempts.succeeded()
                    continue
                if self._progress != before:  # it has worked since
                    attempts = self._attempts()
                    attempts.begin()
                delay = attempts.pause(failure)
                with self._to_send:
                    self._pending.resend()
                    self._to_send.wait_for(lambda: self._over, delay)
        except Exception as error:
            with self._to_give:
                self._error = error
                self._to_give.notify()

    def _attempts(self) -> Attempts:
        return self._retrying.attempts(self._timeout)

    def _anything_to_do(self) -> bool:
        with self._to_send:
            self._to_send.wait_for(lambda: self._over or self._pending.unanswered or self._all_read)
            return not self._over and self._pending.unanswered

    def _stream(self) -> Failure | None:
        """One call from its begin to its end; how it failed, if it did."""
        ended = threading.Event()
        try:
            call = self._open(self._messages(ended))
        except ValueError as error:  # the channel was closed by another thread
            raise Cancelled("the client was closed") from error
        with self._to_send:
            self._call = call
            over = self._over
        if over:
            call.cancel()
        try:
            for response in call:
                with self._to_give:
                    self._pending.answer(response)
                    self._progress = time.monotonic()
                    self._to_give.notify()
        except grpc.RpcError:
            return Failure.told(call.code(), call.details(), tuple(call.trailing_metadata() or ()))
        finally:
            ended.set()
            with self._to_send:
                self._to_send.notify_all()  # whoever waits for messages to send has to end
        if self._pending.unanswered:
            raise InternalError("the server ended the stream before it had answered")
        return None

    def _messages(self, ended: threading.Event) -> Requests:
        """For gRPC's thread: what is unsent, as it comes; the end when all was read and sent."""
        while True:
            with self._to_send:
                self._to_send.wait_for(lambda: self._pending.unsent or self._all_read or self._over or ended.is_set())
                if ended.is_set() or self._over or not self._pending.unsent:
                    return
                message = self._pending.message()
            yield message
