"""Draws for many hypotheses at one time, each from a few candidates; by the rules of sampling.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.options import SamplingOptions
from dragoman_server.decoding.table import Ints

Doubles = npt.NDArray[np.float64]
Probabilities = Doubles
"""(hypotheses, candidates), likeliest first; each row of sum 1, and 0 for those that are out."""


class Truncations:
    """Temperature and truncations of each hypothesis."""

    def __init__(self) -> None:
        self._values: Doubles = np.zeros((0, 5))
        self._view()

    def _view(self) -> None:
        self.temperature, self.top_k, self.top_p, self.min_p, self.typical_p = self._values.T
        # Each row is truncated by its own options and no others, since to normalise again changes the last bits.
        self.with_top_p, self.with_min_p = np.flatnonzero(self.top_p < 1), np.flatnonzero(self.min_p > 0)
        self.with_typical_p = np.flatnonzero(self.typical_p < 1)

    def add(self, options: SamplingOptions, count: int) -> None:
        """``count`` more hypotheses with these options."""
        values = [options.temperature, options.top_k, options.top_p, options.min_p, options.typical_p]
        self._values = np.vstack([self._values, [values] * count])
        self._view()

    def keep(self, indices: list[int]) -> None:
        """Only these hypotheses go on."""
        self._values = self._values[indices]
        self._view()


def draw_columns(
    ids: Ints, log_probs: npt.NDArray[np.floating[Any]], truncations: Truncations, numbers: Doubles
) -> Ints:
    """The column that each hypothesis draws: (hypotheses,). ``ids`` and ``log_probs`` are (hypotheses, candidates)."""
    probabilities = distributions(log_probs, truncations)
    order = ids.argsort(axis=1, kind="stable")  # in the vocabulary's order, as draws from all of it
    rows = np.arange(len(ids))
    ordered = probabilities[rows[:, None], order]
    cumulative = ordered.cumsum(axis=1)
    drawn = (cumulative <= (numbers * cumulative[:, -1])[:, None]).sum(axis=1)
    if drawn.max() == ids.shape[1]:  # only where rounding has made the product the sum itself
        drawn = np.minimum(drawn, ids.shape[1] - 1 - (ordered[:, ::-1] > 0).argmax(axis=1))
    columns: Ints = order[rows, drawn]
    return columns


def distributions(log_probs: npt.NDArray[np.floating[Any]], truncations: Truncations) -> Probabilities:
    """What is drawn from: temperature first, then each truncation on what the one before has left."""
    scaled = log_probs / truncations.temperature[:, None]
    probabilities: Probabilities = np.exp(scaled - scaled[:, :1])
    probabilities[np.arange(log_probs.shape[1]) >= truncations.top_k[:, None]] = 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if len(rows := truncations.with_top_p):
        left = probabilities[rows]
        probabilities[rows] = _only(left, _reaching(left, truncations.top_p[rows]))
    if len(rows := truncations.with_min_p):
        left = probabilities[rows]
        least = truncations.min_p[rows, None] * left.max(axis=1, keepdims=True)
        probabilities[rows] = _only(left, left >= least)
    if len(rows := truncations.with_typical_p):
        left = probabilities[rows]
        probabilities[rows] = _only(left, _typical(left, truncations.typical_p[rows]))
    return probabilities


def _reaching(probabilities: Probabilities, mass: Doubles) -> npt.NDArray[np.bool_]:
    """The fewest, from the first, that together reach ``mass`` (hypotheses,)."""
    kept = np.ones(probabilities.shape, np.bool_)
    kept[:, 1:] = probabilities.cumsum(axis=1)[:, :-1] < mass[:, None]
    return kept


def _typical(probabilities: Probabilities, mass: Doubles) -> npt.NDArray[np.bool_]:
    possible = probabilities > 0
    surprise = -np.log(np.where(possible, probabilities, 1))
    entropy = (probabilities * surprise).sum(axis=1, keepdims=True)
    surprise[~possible] = np.inf
    order = np.abs(surprise - entropy).argsort(axis=1, kind="stable")
    rows = np.arange(len(order))[:, None]
    kept = np.zeros(probabilities.shape, np.bool_)
    kept[rows, order] = _reaching(probabilities[rows, order], mass)
    return kept


def _only(probabilities: Probabilities, kept: npt.NDArray[np.bool_]) -> Probabilities:
    left = np.where(kept, probabilities, 0)
    left /= left.sum(axis=1, keepdims=True)
    return left
