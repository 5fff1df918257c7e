"""How hypotheses of different lengths compare, and which are returned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.hypothesis import Answer


@dataclass(frozen=True)
class LengthPenalty:
    """Divides a sum of log-probabilities by length^exponent, or by ((5 + length) / 6)^exponent.

    The latter is equation 14 of Wu et al. 2016 (arXiv:1609.08144). The length counts end-of-sentence.
    """

    exponent: float = 1.0
    wu: bool = False

    def divisor(self, length: int) -> float:
        """What a score of that length is divided by."""
        return float(((5 + length) / 6 if self.wu else length) ** self.exponent)

    def rank(self, score: float, length: int) -> float:
        """The score after the penalty: never less for a longer hypothesis of the same (negative) score."""
        return float(score / self.divisor(length))


def coverage(attended: npt.NDArray[np.float32]) -> float:
    """Sum over the source ids of ln(min(attention in all, 1)): 0 where all had their share, else negative.

    ``attended`` is (source,): for each id the sum of the attention that all target tokens gave it. This is cp of
    equation 14 of Wu et al. 2016, before its weight. An id that had none counts as the least positive float32.
    """
    least = float(np.finfo(np.float32).tiny)
    return float(np.log(np.clip(attended.astype(np.float64), least, 1)).sum())


def n_best(answers: Iterable[Answer], count: int) -> list[Answer]:
    """The best ``count`` answers, best first; of equals the one that ended first."""
    return sorted(answers, key=lambda answer: -answer.rank_score)[:count]


def keep_best(answers: list[Answer], answer: Answer, count: int) -> None:
    """Add the answer that ended last, and let the worst go where there are more than ``count``; as ``n_best`` ranks."""
    answers.append(answer)
    if len(answers) > count:
        # Of equals the one that ended last.
        del answers[min(reversed(range(len(answers))), key=lambda index: answers[index].rank_score)]
