"""Measuring sides by turns, and what the rounds come to: pure but for the clock and the garbage collector."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")

REST_SECONDS = 0.3
"""Between two sides: threads of the one before that still spin (OpenMP's do, for 0.2 s) have gone to sleep."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector out of what is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def interleave(
    sides: Mapping[str, Callable[[], T]], rounds: int, *, warm_up: int = 1, rest: float = REST_SECONDS
) -> dict[str, list[T]]:
    """Run every side once a round, in the given order; the results of ``rounds`` rounds after the warm-up."""
    if rounds < 1:
        raise ValueError(f"rounds = {rounds}: at least 1")
    found: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(-warm_up, rounds):
        for name, run in sides.items():
            time.sleep(rest)
            with quiet():
                result = run()
            if number >= 0:
                found[name].append(result)
    return found


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """ValueError where there are none."""
        if not values:
            raise ValueError("no values")
        return cls(median(values), min(values), max(values))

    def text(self, digits: int = 2) -> str:
        """ "1.52 (1.49-1.60)"."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours divided by theirs, round by round."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds of ours, {len(theirs)} of theirs")
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the values lie, between neighbours linearly."""
    if not values or not 0.0 <= share <= 1.0:
        raise ValueError(f"{len(values)} values, share = {share}: at least one value, 0 to 1")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
