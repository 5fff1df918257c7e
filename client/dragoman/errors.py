"""What a call can fail with.

DragomanError
├── InvalidArgument     the request is at fault: ``violations`` lists every faulty field
├── NotFound            the server has no such model
├── FailedPrecondition  the server cannot do it as things are; the message has every reason
├── Overloaded          the server takes no more now: ``retry_after`` says when to come back
├── DeadlineExceeded    the call's timeout passed
├── Cancelled           the call was cancelled, or the client closed under it
├── Unauthenticated     the token is missing or wrong
├── PermissionDenied    the token does not allow this call
├── Unavailable         no server answers, or it is starting or draining
└── InternalError       the server's fault: ``incident`` is the id under which it logged the cause

A status that none of these describes is a plain ``DragomanError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError

from dragoman_protos.v1 import inference_pb2

PUSHBACK_KEY = "grpc-retry-pushback-ms"
DETAILS_KEY = "dragoman-error-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """One faulty field: its path, the (shortened) value sent, and what is allowed."""

    field: str
    value: str
    limit: str

    def __str__(self) -> str:
        return f"{self.field} = {self.value}: {self.limit}"


class DragomanError(Exception):
    """Base of everything that a call raises."""


class InvalidArgument(DragomanError):
    """The request is at fault; ``violations`` names every faulty field, where the server told them."""

    def __init__(self, violations: Sequence[Violation], message: str = "") -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(map(str, violations)) or message)


class NotFound(DragomanError):
    """The server has no such model."""


class FailedPrecondition(DragomanError):
    """The server cannot do it as things are: a model that cannot be loaded, with every reason."""


class Overloaded(DragomanError):
    """The server takes no more now; ``retry_after`` is in seconds, None when it did not say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class DeadlineExceeded(DragomanError):
    """The call's timeout passed."""


class Cancelled(DragomanError):
    """The call was cancelled, or the client was closed under it."""


class Unauthenticated(DragomanError):
    """The token is missing or wrong."""


class PermissionDenied(DragomanError):
    """The token does not allow this call."""


class Unavailable(DragomanError):
    """No server answers, or it is starting or draining."""


class InternalError(DragomanError):
    """The server's fault; ``incident`` is the id under which it logged the cause, empty when it told none."""

    def __init__(self, message: str, incident: str = "") -> None:
        self.incident = incident
        super().__init__(f"{message} (incident {incident})" if incident and incident not in message else message)


@dataclass(frozen=True, slots=True)
class Failure:
    """How a gRPC call failed: status, the server's words, and its trailing metadata."""

    code: grpc.StatusCode
    message: str = ""
    trailing: tuple[tuple[str, str | bytes], ...] = ()

    @classmethod
    def told(
        cls, code: grpc.StatusCode, message: str | None, trailing: tuple[tuple[str, str | bytes], ...] = ()
    ) -> Failure:
        """As gRPC tells it, but for a call that waited in the core of a server that ended: it was not looked at.

        The core ends it as CANCELLED in these words and without metadata. Nobody has cancelled it, and it may be tried
        again elsewhere: UNAVAILABLE.
        """
        if code is grpc.StatusCode.CANCELLED and message == code.name and not trailing:
            return cls(grpc.StatusCode.UNAVAILABLE, "the server ended before it answered")
        return cls(code, message or "", trailing)

    def pushback_ms(self) -> int | None:
        """The server's wish, in milliseconds: None when it has none, negative when no retry may follow (gRFC A6)."""
        for key, value in self.trailing:
            if key == PUSHBACK_KEY:
                text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
                return int(text) if text.isascii() and text.isdigit() else -1
        return None

    def details(self) -> inference_pb2.ErrorDetails:
        """What the server attached; empty when it attached nothing, or nothing that can be read."""
        for key, value in self.trailing:
            if key == DETAILS_KEY and isinstance(value, bytes):
                try:
                    return inference_pb2.ErrorDetails.FromString(value)
                except DecodeError:
                    break
        return inference_pb2.ErrorDetails()


def item_error(item: inference_pb2.ItemError) -> DragomanError:
    """The typed error that one item of a stream was answered with."""
    trailing: list[tuple[str, str | bytes]] = [(DETAILS_KEY, item.details.SerializeToString())]
    if item.HasField("retry_after_ms"):
        trailing.append((PUSHBACK_KEY, str(item.retry_after_ms)))
    code = _CODES.get(item.code, grpc.StatusCode.UNKNOWN)
    return error_from(Failure(code, item.message, tuple(trailing)))


_CODES = {code.value[0]: code for code in grpc.StatusCode}
_PLAIN: dict[grpc.StatusCode, type[DragomanError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}
_INVALID = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
_INTERNAL = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)


def error_from(failure: Failure) -> DragomanError:
    """The typed error that a failed call stands for; the only place where statuses are mapped."""
    message = failure.message or failure.code.name
    if failure.code in _INVALID:
        return InvalidArgument([Violation(v.field, v.value, v.limit) for v in failure.details().violations], message)
    if failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        pushback = failure.pushback_ms()
        return Overloaded(message, None if pushback is None or pushback < 0 else pushback / 1e3)
    if failure.code in _INTERNAL:
        return InternalError(message, failure.details().incident)
    if failure.code in _PLAIN:
        return _PLAIN[failure.code](message)
    return DragomanError(f"{failure.code.name}: {failure.message}" if failure.message else failure.code.name)
