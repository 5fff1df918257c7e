"""How two decodes of the same request differ, summed over many requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.hypothesis import Answer

FP32_TOLERANCE = 1e-4
_Weights = npt.NDArray[np.float32] | None


def tolerance(precision: str) -> float:
    """The largest difference of a score that a precision may show; 0: not a bit."""
    return 0.0 if precision == "int8" else FP32_TOLERANCE


@dataclass
class Comparison:
    """Sums over the requests compared so far; nats for the differences."""

    requests: int = 0
    tokens: int = 0
    different_tokens: int = 0
    """Places of a target where the ids differ, one is missing, or decoding ended for another reason or text."""
    scores: int = 0
    """Log-probabilities and rank scores, or encoder outputs."""
    different_scores: int = 0
    """Of those of equal tokens: not the same bits."""
    largest_difference: float = 0.0
    """Among the scores and attention weights of equal tokens."""
    weights: int = 0
    """Attention weights, where they were asked for."""
    different_weights: int = 0
    """Of those of equal tokens: not the same bits, or missing."""
    watched: int = 0
    """Requests that were told of their progress."""
    taken_back: int = 0
    """Of those: what they were told to be final changed, or does not begin the answer."""
    ties: int = 0
    """Requests of different tokens where the two were closer than ``FP32_TOLERANCE`` when they parted."""
    parted: list[int] = field(default_factory=list)
    """Numbers of the requests whose tokens differ."""

    def holds(self, precision: str) -> bool:
        """Whether the promise is kept: the same tokens, ties included, scores and attention within the tolerance, and
        no progress that was taken back."""
        allowed = tolerance(precision)
        different = self.different_scores + self.different_weights
        exact_enough = self.largest_difference <= allowed if allowed else not different
        return not self.different_tokens and not self.taken_back and exact_enough

    def add(self, number: int, alone: Sequence[Answer], other: Sequence[Answer]) -> None:
        """Compare the answers of request ``number``, best first."""
        self.requests += 1
        self.tokens += sum(len(answer.token_ids) for answer in alone)
        different = abs(len(alone) - len(other))
        close = not different
        for one, two in zip(alone, other, strict=False):
            places = _different_places(one, two)
            different += places
            if places:
                close = close and _parting_gap(one, two) < FP32_TOLERANCE
            else:
                self.add_scores([*one.log_probs, one.rank_score], [*two.log_probs, two.rank_score])
                self._add_attention(one.attention, two.attention)
        self.different_tokens += different
        if different:
            self.parted.append(number)
            self.ties += close

    def add_scores(self, alone: npt.ArrayLike, other: npt.ArrayLike) -> None:
        """Compare numbers bit for bit; arrays of one shape."""
        one, two = np.asarray(alone), np.asarray(other)
        assert one.shape == two.shape, f"{one.shape} against {two.shape}"
        self.scores += one.size
        self.different_scores += self._differences(one, two)

    def add_progress(self, kept: bool | None) -> None:
        """Whether a request's progress came true; None: it was told of none."""
        self.watched += kept is not None
        self.taken_back += kept is False

    def _add_attention(self, one: _Weights, two: _Weights) -> None:
        """(tokens, source) each, or None where it was not asked for."""
        if one is not None and two is not None and one.shape == two.shape:
            self.weights += one.size
            self.different_weights += self._differences(one, two)
        elif one is not None or two is not None:
            size = max(weights.size for weights in (one, two) if weights is not None)
            self.weights += size
            self.different_weights += size
            self.largest_difference = np.inf

    def _differences(self, one: npt.NDArray[Any], two: npt.NDArray[Any]) -> int:
        """How many are not the same bits; the largest difference is noted."""
        # Bytes, so that what is no number equals itself.
        unequal = (_bytes(one) != _bytes(two)).any(axis=1)
        count = int(unequal.sum())
        if count:
            difference = float(np.max(np.abs(one.astype(np.float64) - two.astype(np.float64))))
            self.largest_difference = max(self.largest_difference, np.inf if np.isnan(difference) else difference)
        return count


def _bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(array.tobytes(), np.uint8).reshape(array.size, array.itemsize)


def _different_places(one: Answer, two: Answer) -> int:
    places = sum(a != b for a, b in zip(one.token_ids, two.token_ids, strict=False))
    places += abs(len(one.token_ids) - len(two.token_ids))
    return places or int((one.finish_reason, one.text) != (two.finish_reason, two.text))


def _parting_gap(one: Answer, two: Answer) -> float:
    """How close the two were: their log-probabilities of the first token that differs, or their rank scores."""
    gaps = [abs(one.rank_score - two.rank_score)]
    pairs = zip((*one.token_ids, None), (*two.token_ids, None), one.log_probs, two.log_probs, strict=False)
    gaps += [abs(p - q) for a, b, p, q in pairs if a != b][:1]
    return min(gaps)
