"""What decoding delivers: hypotheses that have ended, and why they have."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class FinishReason(Enum):
    """Why decoding ended."""

    STOP = "stop"
    LENGTH = "length"
    STOP_SEQUENCE = "stop sequence"


class Answer(NamedTuple):
    """A hypothesis that has ended: target ids without end-of-sentence, and their natural log-probabilities.

    ``log_probs`` has one entry more than ``token_ids`` when the reason is STOP: end-of-sentence's. They are the model's
    own (as repetition, presence and frequency penalties have changed its logits, where they are asked for): what only
    restricts the choice, such as banned words, temperature or a forced prefix, does not change them.
    """

    token_ids: list[int]
    log_probs: list[float]
    finish_reason: FinishReason
    rank_score: float
    """Sum of ``log_probs`` after the length penalty, and with the coverage penalty."""
    text: str | None = None
    """Given where a stop sequence has cut the text that the ids stand for."""
    attention: npt.NDArray[np.float32] | None = None
    """(tokens, source): how much each of ``log_probs``' tokens attended to each source id; where asked for."""


class NonFiniteScoreError(ArithmeticError):
    """The graph gave NaN or an infinity as a row's score."""
