"""What decoding grows: hypotheses, and the answers that they become."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

UNPLACED = -1
"""The row of a hypothesis that has none yet."""


class FinishReason(Enum):
    """Why decoding ended."""

    STOP = "stop"
    LENGTH = "length"
    STOP_SEQUENCE = "stop sequence"


@dataclass(frozen=True)
class Answer:
    """A hypothesis that has ended: target ids without end-of-sentence, and their natural log-probabilities.

    ``log_probs`` has one entry more than ``token_ids`` when the reason is STOP: end-of-sentence's. They are the model's
    own (as repetition, presence and frequency penalties have changed its logits, where they are asked for): what only
    restricts the choice, such as banned words, temperature or a forced prefix, does not change them.
    """

    token_ids: list[int]
    log_probs: list[float]
    finish_reason: FinishReason
    rank_score: float
    """Sum of ``log_probs`` after the length penalty."""
    text: str | None = None
    """Given where a stop sequence has cut the text that the ids stand for."""
    attention: npt.NDArray[np.float32] | None = None
    """(tokens, source): how much each of ``log_probs``' tokens attended to each source id; where asked for."""


@dataclass(eq=False, slots=True)
class Hypothesis:
    """A live hypothesis: the row that holds its caches, and its tokens so far."""

    row: int
    last: int
    """The token to feed next: begin-of-sentence at first."""
    max_length: int
    """Most tokens, end-of-sentence included."""
    number: int = 0
    """Among the samples or alternatives of its request."""
    parent_row: int = UNPLACED
    """While it has no row of its own: the row that it has to be copied from."""
    score: float = 0.0
    """Sum of ``log_probs``."""
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    def append(self, token_id: int, log_prob: float) -> None:
        """Grow by one token."""
        self.token_ids.append(token_id)
        self.log_probs.append(log_prob)
        self.score += log_prob
        self.last = token_id

    def fork(self) -> Hypothesis:
        """The same once more, to grow otherwise; it still needs a row."""
        return Hypothesis(
            UNPLACED,
            self.last,
            self.max_length,
            self.number,
            self.row,
            self.score,
            list(self.token_ids),
            list(self.log_probs),
        )


class NonFiniteScoreError(ArithmeticError):
    """The graph gave NaN or an infinity as a row's score."""
