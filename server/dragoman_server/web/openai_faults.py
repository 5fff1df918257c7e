"""Errors in OpenAI's shape, for the paths that its clients call: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from collections.abc import Callable

from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.web.faults import Fault

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def openai_body(fault: Fault) -> dict[str, object]:
    """``param`` is the first faulty field, or the model that is not there; ``violations`` has all of them."""
    error = fault.body()["error"]
    assert isinstance(error, dict)
    kind = _TYPES.get(fault.status, "server_error" if fault.status >= 500 else "invalid_request_error")
    param = fault.violations[0].field if fault.violations else "model" if fault.status == 404 else None
    return {"error": {**error, "type": kind, "param": param, "code": fault.code.lower()}}


def renamed(error: InvalidArgument, name: Callable[[str], str]) -> InvalidArgument:
    """The same faults, by the names that the caller knows the fields under."""
    return InvalidArgument([Violation(name(v.field), name(v.value), name(v.limit)) for v in error.violations])
