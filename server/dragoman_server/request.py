"""One request to decode, in flight: all its state in one object, owned by exactly one side at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from dragoman_server.decoding.hypothesis import Answer
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.progress import Progress
from dragoman_server.errors import ServerError
from dragoman_server.submission import Receipt, Submission

__all__ = ["Completion", "Outcome", "Progress", "Receipt", "Request"]


class Completion(NamedTuple):
    """A finished request: what it was decoded to, best first and never empty."""

    answers: list[Answer]
    receipt: Receipt

    @property
    def best(self) -> Answer:
        """The first of the answers."""
        return self.answers[0]


Outcome = Completion | ServerError


@dataclass(eq=False)
class Request(Submission[DecodingOptions, Completion]):
    """A tokenised source, language tag first and end-of-sentence last, and how to decode it."""

    progress: Callable[[Progress], None] | None = None
    """Called by the lane after each step that the request lives through and that gave it a token; must not block."""
    answers: list[Answer] = field(default_factory=list, kw_only=True)
    """Hypotheses that have ended, in the order in which they did."""

    def __post_init__(self) -> None:
        self.width = self.options.width
