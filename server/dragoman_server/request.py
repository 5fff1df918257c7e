"""One request in flight: all its state in one object, owned by exactly one side at a time."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dragoman_server.decoding.hypothesis import Answer
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.progress import Progress
from dragoman_server.errors import ServerError

__all__ = ["Completion", "Outcome", "Progress", "Receipt", "Request"]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Receipt:
    """What the request went through. Times in milliseconds."""

    queue_ms: float
    encode_ms: float
    steps: int
    batch_mean: float
    """Mean number of live rows over the steps that the request took part in."""
    lane: int


@dataclass(frozen=True)
class Completion:
    """A finished request: what it was decoded to, best first and never empty."""

    answers: list[Answer]
    receipt: Receipt

    @property
    def best(self) -> Answer:
        """The first of the answers."""
        return self.answers[0]


Outcome = Completion | ServerError


@dataclass(eq=False)
class Request:
    """A tokenised request.

    The service creates it, the scheduler and one lane move it on; ``finish`` may be called by any thread and the
    first call wins, so the caller hears of exactly one outcome.
    """

    source_ids: Sequence[int]
    """Language tag first, end-of-sentence last."""
    options: DecodingOptions
    reply: Callable[[Outcome], None]
    """Called exactly once, from whichever thread ends the request; must not block."""
    deadline: float | None = None
    """On ``time.monotonic()``'s clock."""
    priority: int = 0
    """0 to 9: the higher goes first."""
    progress: Callable[[Progress], None] | None = None
    """Called by the lane after each step that the request lives through and that gave it a token; must not block."""
    number: int = field(default_factory=lambda: next(_numbers))
    arrived: float = field(default_factory=time.monotonic)

    # Written by the lane that decodes the request, and by nobody else.
    lane: int = -1
    joined: float = 0.0
    encode_ms: float = 0.0
    steps_before: int = 0
    """The lane's steps, and the sum of their batch sizes, when the request joined."""
    row_steps_before: int = 0
    steps: int = 0
    row_steps: int = 0
    """Sum of the batch sizes of its steps."""
    answers: list[Answer] = field(default_factory=list)
    """Hypotheses that have ended, in the order in which they did."""

    width: int = field(init=False)
    """Cache rows that are reserved for the request while it runs."""
    cancelled: bool = field(default=False, init=False)
    """Whether somebody asked for the end."""
    _finish_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _finished: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        self.width = self.options.width

    def cancel(self) -> None:
        """Ask that the request ends at the next step. Any thread; idempotent."""
        self.cancelled = True

    @property
    def finished(self) -> bool:
        """Whether an outcome was delivered."""
        return self._finished

    def expired(self, now: float) -> bool:
        """Whether the deadline lies in the past."""
        return self.deadline is not None and now >= self.deadline

    def finish(self, outcome: Outcome) -> bool:
        """Deliver the outcome, once; returns False when one was delivered before."""
        with self._finish_lock:
            if self._finished:
                return False
            self._finished = True
        self.reply(outcome)
        return True

    def receipt(self) -> Receipt:
        """What the request went through so far."""
        return Receipt(
            queue_ms=(self.joined - self.arrived) * 1e3,
            encode_ms=self.encode_ms,
            steps=self.steps,
            batch_mean=self.row_steps / self.steps if self.steps else 0.0,
            lane=self.lane,
        )
