"""How submissions end, whatever the lane: with an outcome that is delivered, or a failure that is logged."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from dragoman_server.errors import Cancelled, DeadlineExceeded, Internal, ServerError
from dragoman_server.seldom_log import logger
from dragoman_server.submission import CompletionT, Submission


def end(requests: Iterable[Submission[Any, CompletionT]], outcome: CompletionT | ServerError) -> None:
    """Deliver the outcome; a reply channel that raises hurts nobody else."""
    for request in requests:
        try:
            request.finish(outcome)
        except Exception as error:
            kind = type(outcome).__name__
            logger(__name__).error(
                "a reply could not be delivered", request=request.number, outcome=kind, exc_info=error
            )


def give_up(requests: Iterable[Submission[Any, Any]]) -> None:
    """End those that were cancelled or have expired."""
    for request in requests:
        end([request], Cancelled("cancelled") if request.cancelled else DeadlineExceeded("the deadline passed"))


def fail(requests: Iterable[Submission[Any, Any]], error: Exception, lane: int) -> None:
    """Log the error under an incident id, of which the callers are told the id alone."""
    incident = uuid.uuid4().hex
    failed = [request for request in requests if not request.finished]
    logger(__name__).error("a lane failed", incident=incident, lane=lane, requests=len(failed), exc_info=error)
    end(failed, Internal(incident))
