"""What the blocking client keeps of its calls, and reads of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Any

import grpc

from dragoman.errors import DragomanError, Failure
from dragoman.values import Translation


class Calls:
    """Calls that end together: a client's."""

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


def trailing(call: Any) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata of a finished call."""
    return tuple((key, value) for key, value in call.trailing_metadata() or ())


def failed(call: Any) -> Failure:
    """How a call failed, by itself or by the error that it raised: gRPC's say the same."""
    return Failure.told(call.code(), call.details(), trailing(call))


def checked(
    answers: Generator[Translation | DragomanError, None, None], return_errors: bool
) -> Generator[Translation | DragomanError, None, None]:
    """The answers; an error among them is raised unless it is to be returned."""
    with contextlib.closing(answers):
        for answer in answers:
            if isinstance(answer, DragomanError) and not return_errors:
                raise answer
            yield answer
