"""Poisson arrivals: ascending, reproducible, at the rate that was asked for, and independent of each other."""

from __future__ import annotations

from itertools import pairwise
from math import exp, sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.load.arrivals import poisson


@given(st.integers(0, 1000), st.floats(0.1, 200), st.floats(0.1, 20))
def test_moments_ascend_within_the_run_and_depend_on_the_seed_alone(seed: int, rate: float, seconds: float) -> None:
    found = list(poisson(Random(seed), rate, seconds))
    assert found == sorted(found)
    assert all(0 < moment < seconds for moment in found)
    assert found == list(poisson(Random(seed), rate, seconds))


def test_the_gaps_are_exponential() -> None:
    rate = 50.0
    found = list(poisson(Random(1), rate, 400.0))
    # Twenty thousand arrivals: within four standard deviations of a Poisson count.
    assert abs(len(found) - rate * 400) < 4 * sqrt(rate * 400)
    gaps = [b - a for a, b in pairwise(found)]
    for multiple in (0.5, 1.0, 2.0):
        share = sum(gap > multiple / rate for gap in gaps) / len(gaps)
        assert share == pytest.approx(exp(-multiple), abs=0.015)
    counts = [sum(second <= moment < second + 1 for moment in found) for second in range(100)]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / (len(counts) - 1)
    assert 0.6 < variance / mean < 1.5  # 1 of a Poisson process, 0 of a metronome


def test_more_come_where_the_intensity_is_larger() -> None:
    def three_times_in_the_second_half(moment: float) -> float:
        return 0.5 if moment < 50 else 1.5

    found = list(poisson(Random(2), 100.0, 100.0, intensity=three_times_in_the_second_half, peak=1.5))
    late = sum(moment >= 50 for moment in found)
    assert len(found) == pytest.approx(10_000, rel=0.04)
    assert late / len(found) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(("rate", "peak"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0)])
def test_no_rate(rate: float, peak: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        list(poisson(Random(1), rate, 1.0, peak=peak))
