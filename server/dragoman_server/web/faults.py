"""What a call over HTTP can fail with: every error of the server as a status, and those that only HTTP knows.

An error's body is one shape, {"error": {"code", "message", ...}}: ``code`` is the name of the status that the same call
would have over gRPC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

import grpc

from dragoman_server.errors import Violation
from dragoman_server.service.status import item_error

_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class HttpError(Exception):
    """A request that HTTP itself has a status for, such as 413."""

    def __init__(self, status: int, message: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


@dataclass(frozen=True)
class Fault:
    """What a caller is told of an error."""

    status: int
    """Of HTTP."""
    code: str
    """Of gRPC, by its name."""
    message: str
    violations: list[Violation] = field(default_factory=list)
    retry_after: float | None = None
    """Seconds."""
    incident: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Those that belong to the status."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {} if self.retry_after is None else {"retry-after": str(ceil(self.retry_after))}

    def body(self) -> dict[str, object]:
        """In the API's own shape."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.violations:
            error["violations"] = [{"field": v.field, "value": v.value, "limit": v.limit} for v in self.violations]
        if self.retry_after is not None:
            error["retry_after"] = self.retry_after
        if self.incident:
            error["incident"] = self.incident
        return {"error": error}


def fault_of(error: Exception) -> Fault:
    """An error that is neither a ServerError nor an HttpError is ours: logged, and told as an incident alone."""
    if isinstance(error, HttpError):
        return Fault(error.status, error.code.name, str(error))
    told = item_error(error)
    code = _CODES[told.code]
    return Fault(
        _STATUSES.get(code, 500),
        code.name,
        told.message,
        [Violation(v.field, v.value, v.limit) for v in told.details.violations],
        told.retry_after_ms / 1e3 if told.HasField("retry_after_ms") else None,
        told.details.incident,
    )
