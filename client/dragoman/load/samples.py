"""One request of a load test: when it was due, when its answer came, and what was wrong with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """Times are in seconds since the run began. Latency counts from ``due``: a request that the generator could send
    only late has waited all the same (no coordinated omission)."""

    kind: str
    due: float
    sent: float
    ended: float
    first: float | None = None
    """When the first chunk came; None of what is no stream."""
    gaps: tuple[float, ...] = ()
    """Between one chunk and the next."""
    tokens: int = 0
    """Of the right answer."""
    fault: str | None = None
    """Such as "resource-exhausted" or "wrong-answer". None: the answer is the one that the request has alone."""

    @property
    def latency(self) -> float:
        """Until the whole answer was there."""
        return self.ended - self.due

    @property
    def first_token(self) -> float | None:
        """Until the first chunk was there (TTFT)."""
        return None if self.first is None else self.first - self.due

    @property
    def token_time(self) -> float | None:
        """The mean time of a token after the first chunk (TPOT); None of what is no stream, or has one token."""
        return None if self.first is None or self.tokens < 2 else (self.ended - self.first) / (self.tokens - 1)


@dataclass(frozen=True, slots=True)
class Window:
    """What counts of a run: not its warm-up."""

    warm_up: float
    """Seconds."""
    duration: float
    """Seconds after it."""

    @property
    def end(self) -> float:
        """Seconds after the run's begin."""
        return self.warm_up + self.duration

    def phase(self, moment: float) -> float:
        """How much of the duration has passed: 0 in the warm-up, up to 1."""
        return min(1.0, max(0.0, (moment - self.warm_up) / self.duration))

    def holds(self, moment: float) -> bool:
        """Whether the moment counts."""
        return self.warm_up <= moment < self.end


@dataclass(slots=True)
class Tally:
    """A run so far, for whoever watches it."""

    sent: int = 0
    ended: int = 0
    faults: Counter[str] = field(default_factory=Counter)
