"""Ours and other software by turns, in one process, on one card that is as warm for either."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from tests.gpu.measuring import ROUNDS, Findings

Answers = Callable[[], Sequence[Sequence[int]]]
"""New tokens of each text."""

OURS = "ours"
_LEAST_ROUNDS = 3
_ENOUGH_SECONDS = 6.0


def by_turns(sides: Mapping[str, Answers], *, same_weights: bool = True) -> Findings:
    """Tokens a second of each side, medians of rounds in which all had a turn, and ours by the others' by rounds.

    The first round does not count. A side that fails is told with its reason, and the others go on.
    """
    found: Findings = {}
    said: dict[str, Sequence[Sequence[int]]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    began = time.perf_counter()
    while seconds and not _enough(len(next(iter(seconds.values()))), time.perf_counter() - began):
        for name in list(seconds):
            try:
                at = time.perf_counter()
                said[name] = sides[name]()
                seconds[name].append(time.perf_counter() - at)
            except Exception as error:  # each side has types of its own, out of memory among them
                found[name] = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0]}
                del seconds[name]
    speeds = {name: [sum(map(len, said[name])) / each for each in times[1:]] for name, times in seconds.items()}
    for name, rounds in speeds.items():
        found[name] = {"tokens_per_second": statistics.median(rounds), "seconds": statistics.median(seconds[name][1:])}
        if name != OURS and OURS in speeds:
            ratios = [ours / theirs for ours, theirs in zip(speeds[OURS], rounds, strict=True)]
            found[name] |= {"ratio": statistics.median(ratios), "ratios": ratios}
            if same_weights:
                found[name]["same_tokens"] = _alike(said[OURS], said[name])
    return found


def _enough(rounds: int, seconds: float) -> bool:
    """Whether so many rounds are enough, the one that does not count among them."""
    return rounds > ROUNDS or (rounds > _LEAST_ROUNDS and seconds >= _ENOUGH_SECONDS)


def _alike(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> float:
    """Share of positions with the same token."""
    pairs = [one == other for a, b in zip(ours, theirs, strict=True) for one, other in zip(a, b, strict=False)]
    return sum(pairs) / max(1, len(pairs))
