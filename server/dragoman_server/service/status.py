"""The one place where an error becomes a gRPC status."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from math import ceil

import grpc
import structlog

from dragoman_protos.v1 import inference_pb2
from dragoman_server import errors

ERROR_DETAILS_KEY = "dragoman-error-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Status:
    """What the caller is told."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()


def status_of(error: Exception) -> Status:  # noqa: PLR0911  (one return per kind of error is the point)
    """The status, with details and trailing metadata, that a failed call ends with.

    An error that is no ServerError is ours: it is logged under an incident id, and the caller is told the id alone.
    """
    match error:
        case errors.InvalidArgument(violations=violations):
            details = inference_pb2.ErrorDetails(
                violations=[inference_pb2.Violation(field=v.field, value=v.value, limit=v.limit) for v in violations]
            )
            return Status(grpc.StatusCode.INVALID_ARGUMENT, str(error), _encoded(details))
        case errors.NotFound():
            return Status(grpc.StatusCode.NOT_FOUND, str(error))
        case errors.FailedPrecondition():
            return Status(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        case errors.Overloaded(retry_after=retry_after):
            pushback = (PUSHBACK_KEY, str(max(0, ceil(retry_after * 1e3))))
            return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), (pushback,))
        case errors.TooLarge():
            return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        case errors.Unauthenticated():
            return Status(grpc.StatusCode.UNAUTHENTICATED, str(error))
        case errors.PermissionDenied():
            return Status(grpc.StatusCode.PERMISSION_DENIED, str(error))
        case errors.DeadlineExceeded():
            return Status(grpc.StatusCode.DEADLINE_EXCEEDED, str(error) or "the deadline passed")
        case errors.Cancelled():
            return Status(grpc.StatusCode.CANCELLED, str(error) or "the call was cancelled")
        case errors.Unavailable():
            return Status(grpc.StatusCode.UNAVAILABLE, str(error) or "the server is not available")
        case errors.Internal(incident=incident):
            details = inference_pb2.ErrorDetails(incident=incident)
            return Status(grpc.StatusCode.INTERNAL, str(error), _encoded(details))
        case _:
            return status_of(errors.Internal(_report(error)))


def item_error(error: Exception) -> inference_pb2.ItemError:
    """The same status, with what its trailing metadata would say, as the answer to one item of a stream."""
    status = status_of(error)
    item = inference_pb2.ItemError(code=status.code.value[0], message=status.details)
    for key, value in status.trailing_metadata:
        if key == ERROR_DETAILS_KEY and isinstance(value, bytes):
            item.details.ParseFromString(value)
        elif key == PUSHBACK_KEY:
            item.retry_after_ms = int(value)
    return item


def _encoded(details: inference_pb2.ErrorDetails) -> tuple[tuple[str, bytes]]:
    return ((ERROR_DETAILS_KEY, details.SerializeToString()),)


def _report(error: Exception) -> str:
    """Log the error and return its incident id."""
    incident = uuid.uuid4().hex
    _log.error("unexpected error", incident=incident, exc_info=error)
    return incident
