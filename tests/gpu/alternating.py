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
    left, said = dict(sides), {}
    for name in list(left):
        try:
            said[name] = left[name]()
        except Exception as error:  # each side has types of its own, out of memory among them
            found[name] = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0]}
            del left[name]
    rounds: dict[str, list[float]] = {name: [] for name in left}
    began = time.perf_counter()
    while left and not _enough(len(next(iter(rounds.values()))), time.perf_counter() - began):
        for name, run in left.items():
            at = time.perf_counter()
            tokens = sum(map(len, run()))
            rounds[name].append(tokens / (time.perf_counter() - at))
    for name, speeds in rounds.items():
        found[name] = {"tokens_per_second": statistics.median(speeds), "rounds": speeds}
        if name != OURS and OURS in rounds:
            ratios = [ours / theirs for ours, theirs in zip(rounds[OURS], speeds, strict=True)]
            found[name] |= {"ratio": statistics.median(ratios), "ratios": [min(ratios), max(ratios)]}
            if same_weights:
                found[name]["same_tokens"] = _alike(said[OURS], said[name])
    return found


def _enough(rounds: int, seconds: float) -> bool:
    return rounds >= ROUNDS or (rounds >= _LEAST_ROUNDS and seconds >= _ENOUGH_SECONDS)


def _alike(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> float:
    """Share of positions with the same token."""
    pairs = [one == other for a, b in zip(ours, theirs, strict=True) for one, other in zip(a, b, strict=False)]
    return sum(pairs) / max(1, len(pairs))
