"""Anything that an engine is asked: where it stands, and that it ends exactly once."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from dragoman_server.errors import ServerError

OptionsT = TypeVar("OptionsT")
CompletionT = TypeVar("CompletionT")

_numbers = itertools.count(1)


class Cancellations:
    """When somebody last asked for the end of a submission, whichever: who has seen that need not ask them all."""

    def __init__(self) -> None:
        self.latest: object = object()
        """Another object after each cancellation."""

    def note(self) -> None:
        """Some submission says of itself that it is cancelled, from now on. Any thread."""
        self.latest = object()


cancellations = Cancellations()


class Receipt(NamedTuple):
    """What a submission went through. Times in milliseconds."""

    queue_ms: float
    encode_ms: float
    steps: int
    batch_mean: float
    """Mean number of live rows over the steps that it took part in."""
    lane: int
    arrived: float = 0.0
    """On ``time.monotonic()``'s clock, in seconds; 0 where it was never queued."""


@dataclass(eq=False)
class Submission(Generic[OptionsT, CompletionT]):
    """Tokens, what is to be done with them (``OptionsT``), and who hears what came of it (``CompletionT``).

    The service creates it, the scheduler and one lane move it on; ``finish`` may be called by any thread and the
    first call wins, so the caller hears of exactly one outcome.
    """

    source_ids: Sequence[int]
    """All that the model reads, special tokens included."""
    options: OptionsT
    reply: Callable[[CompletionT | ServerError], None]
    """Called exactly once, from whichever thread ends it; must not block."""
    deadline: float | None = None
    """On ``time.monotonic()``'s clock; not changed once it is submitted."""
    priority: int = 0
    """0 to 9: the higher goes first."""
    number: int = field(default_factory=lambda: next(_numbers), kw_only=True)
    arrived: float = field(default_factory=time.monotonic, kw_only=True)

    expected_steps: float = field(default=0.0, kw_only=True)
    """By what was measured when it was submitted; written by the engine."""
    unjudged: bool = field(default=False, kw_only=True)
    """Taken whatever its deadline, by an engine that was idle and has to measure anew; written by the engine."""

    # Written by the lane that has taken it, and by nobody else.
    lane: int = field(default=-1, kw_only=True)
    joined: float = field(default=0.0, kw_only=True)
    encode_ms: float = field(default=0.0, kw_only=True)
    first_token: float = field(default=0.0, kw_only=True)
    """When its first step ended; 0 before."""
    steps_before: int = field(default=0, kw_only=True)
    """The lane's steps, and the sum of their batch sizes, when it joined."""
    row_steps_before: int = field(default=0, kw_only=True)
    steps: int = field(default=0, kw_only=True)
    row_steps: int = field(default=0, kw_only=True)
    """Sum of the batch sizes of its steps."""

    width: int = field(default=1, init=False)
    """Rows that are reserved for it while it runs."""
    cancelled: bool = field(default=False, init=False)
    """Whether somebody asked for the end."""
    _finish_lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _finished: bool = field(default=False, init=False, repr=False)

    def cancel(self) -> None:
        """Ask that it ends at the next step. Any thread; idempotent."""
        self.cancelled = True
        cancellations.note()

    @property
    def finished(self) -> bool:
        """Whether an outcome was delivered."""
        return self._finished

    def expired(self, now: float) -> bool:
        """Whether the deadline lies in the past."""
        return self.deadline is not None and now >= self.deadline

    def finish(self, outcome: CompletionT | ServerError) -> bool:
        """Deliver the outcome, once; returns False when one was delivered before."""
        with self._finish_lock:
            if self._finished:
                return False
            self._finished = True
        self.reply(outcome)
        return True

    def receipt(self) -> Receipt:
        """What it went through so far."""
        batch_mean = self.row_steps / self.steps if self.steps else 0.0
        queue_ms = (self.joined - self.arrived) * 1e3
        return Receipt(queue_ms, self.encode_ms, self.steps, batch_mean, self.lane, self.arrived)


SubmissionT = TypeVar("SubmissionT", bound=Submission[Any, Any])
