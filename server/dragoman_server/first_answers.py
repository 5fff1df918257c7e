"""What a model is asked before anybody else asks it anything, so that a server which says it is ready has answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dragoman_server.errors import ServerError
from dragoman_server.submission import CompletionT, SubmissionT

_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class FirstAnswer:
    """What a warm-up request gave."""

    label: str
    """What was asked for, in a word or two, such as "en -> de"."""
    question: str
    answer: str
    seconds: float


def ask(
    submit: Callable[[SubmissionT], None],
    request_of: Callable[[Callable[[CompletionT | ServerError], None], float], SubmissionT],
) -> CompletionT:
    """Submit what ``request_of`` makes of a reply channel and a deadline, and wait for what comes of it.

    Blocks; raises a ServerError when the engine fails, TimeoutError when it does not answer within a minute.
    """
    outcomes: list[CompletionT | ServerError] = []
    answered = threading.Event()

    def reply(outcome: CompletionT | ServerError) -> None:
        outcomes.append(outcome)
        answered.set()

    request = request_of(reply, time.monotonic() + _PATIENCE_SECONDS)
    submit(request)
    if not answered.wait(_PATIENCE_SECONDS):
        request.cancel()
        raise TimeoutError(f"no answer to the first request in {_PATIENCE_SECONDS:.0f} s")
    outcome = outcomes[0]
    if isinstance(outcome, ServerError):
        raise outcome
    return outcome
