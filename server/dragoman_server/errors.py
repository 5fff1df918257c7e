"""What a request can fail with, inside the server.

ServerError
├── InvalidArgument     the request is at fault: every violation is listed
├── NotFound            no such model
├── FailedPrecondition  what is served cannot be changed so
├── Overloaded          the queue is full, or the deadline cannot be met: try again later
├── TooLarge            the call is larger than the server ever takes
├── Unauthenticated     nobody knows who is calling
├── PermissionDenied    the caller may not do this
├── DeadlineExceeded    the caller's deadline passed
├── Cancelled           the caller went away
├── Unavailable         the server is starting or draining
└── Internal            our fault: the cause is logged under an opaque incident id

``service/status.py`` maps each to a gRPC status; nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """One faulty field: its path, the (shortened) value sent, and what is allowed."""

    field: str
    value: str
    limit: str


class ServerError(Exception):
    """Base of all errors that reach a caller."""


class InvalidArgument(ServerError):
    """The request is at fault; ``violations`` names every faulty field."""

    def __init__(self, violations: list[Violation]) -> None:
        self.violations = violations
        super().__init__("; ".join(f"{v.field} = {v.value}: {v.limit}" for v in violations))


class NotFound(ServerError):
    """The named model is not served here."""


class FailedPrecondition(ServerError):
    """What is served cannot be changed so; ``faults`` are all the reasons."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


class Overloaded(ServerError):
    """The server cannot take the request now; ``retry_after`` is in seconds.

    ``reason`` is one of a few words, for the metrics.
    """

    def __init__(self, message: str, retry_after: float, reason: str = "busy") -> None:
        self.retry_after = retry_after
        self.reason = reason
        super().__init__(message)


class TooLarge(ServerError):
    """The call is larger than the server ever takes: no later time is better."""


class Unauthenticated(ServerError):
    """The call has no token, or one that is not known."""


class PermissionDenied(ServerError):
    """The caller is known and may not do this."""


class DeadlineExceeded(ServerError):
    """The caller's deadline passed while the request waited or ran."""


class Cancelled(ServerError):
    """The caller cancelled, its connection closed, or it read nothing of a stream for too long."""


class Unavailable(ServerError):
    """The server is not ready yet, or is draining."""


class Internal(ServerError):
    """A fault of ours; ``incident`` is the opaque id under which the cause was logged."""

    def __init__(self, incident: str) -> None:
        self.incident = incident
        super().__init__(f"internal error, incident {incident}")
