"""How hypotheses of different lengths compare, and which are returned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dragoman_server.decoding.hypothesis import Answer


@dataclass(frozen=True)
class LengthPenalty:
    """Divides a sum of log-probabilities by length^exponent, or by ((5 + length) / 6)^exponent.

    The latter is equation 14 of Wu et al. 2016 (arXiv:1609.08144). The length counts end-of-sentence.
    """

    exponent: float = 1.0
    wu: bool = False

    def rank(self, score: float, length: int) -> float:
        """The score after the penalty: never less for a longer hypothesis of the same (negative) score."""
        return float(score / ((5 + length) / 6 if self.wu else length) ** self.exponent)


def n_best(answers: Iterable[Answer], count: int) -> list[Answer]:
    """The best ``count`` answers, best first; of equals the one that ended first."""
    return sorted(answers, key=lambda answer: -answer.rank_score)[:count]
