from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_server.pace import LinearFit, Pace


def test_one_row_and_many_do_not_mix() -> None:
    fit = LinearFit()
    for rows in (1, 64, 1, 2, 64):
        fit.add(rows, 0.001 + 0.0002 * rows)
    for rows in (1, 7, 64, 128):
        assert fit.at(rows) == pytest.approx(0.001 + 0.0002 * rows)


def test_nothing_measured_takes_no_time_and_one_point_says_the_same_of_all() -> None:
    fit = LinearFit()
    assert (fit.measured, fit.at(5)) == (False, 0)
    fit.add(4, 2.0)
    assert (fit.measured, fit.at(1), fit.at(64)) == (True, 2.0, 2.0)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0.001, 1)), min_size=3, max_size=150))
def test_is_the_weighted_least_squares_line(points: list[tuple[int, float]]) -> None:
    fit = LinearFit()
    for x, y in points:
        fit.add(x, y)
    xs, ys = np.array(points, float).T
    weights = 0.99 ** np.arange(len(points))[::-1]
    mean_x, mean_y = np.average(xs, weights=weights), np.average(ys, weights=weights)
    variance = np.average((xs - mean_x) ** 2, weights=weights)
    assert fit.at(mean_x) == pytest.approx(mean_y)
    assert fit.rate == pytest.approx(mean_y / mean_x)
    if variance > (0.11 * mean_x) ** 2:
        slope = np.average((xs - mean_x) * (ys - mean_y), weights=weights) / variance
        expected = mean_y + np.clip(slope, 0, mean_y / mean_x) * (np.array([1, 32, 64]) - mean_x)
        assert [fit.at(x) for x in (1, 32, 64)] == pytest.approx(np.maximum(expected, 0), abs=1e-9)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 1)), min_size=1, max_size=50))
def test_more_never_costs_less_and_nothing_costs_less_than_nothing(points: list[tuple[int, float]]) -> None:
    fit = LinearFit()
    for x, y in points:
        fit.add(x, y)
    costs = [fit.at(x) for x in range(1, 65)]
    assert costs == sorted(costs)
    assert costs[0] >= 0


def test_a_machine_that_slows_down_is_believed() -> None:
    fit = LinearFit()
    for seconds in (0.01, 0.03):
        for _ in range(500):
            fit.add(8, seconds)
    assert fit.at(8) == pytest.approx(0.03, rel=0.01)


def test_the_slope_outlasts_a_long_time_of_full_lanes() -> None:
    fit = LinearFit()
    for rows in (1, 64, 1, 64):
        fit.add(rows, 0.001 + 0.0002 * rows)
    for index in range(5_000):
        fit.add(64 - index % 2, 0.001 + 0.0002 * 64)  # here the slope would be 0
    assert fit.at(1) == pytest.approx(0.0012, rel=0.1)


def test_length_is_steps_for_each_source_token_of_late() -> None:
    pace = Pace()
    assert pace.steps_per_size == 0
    pace.finished(10, 20)
    pace.finished(30, 40)
    assert pace.steps_per_size == pytest.approx(60 / 40, rel=0.01)
    for _ in range(500):
        pace.finished(10, 5)
    assert pace.steps_per_size == pytest.approx(0.5, rel=0.01)


def test_steps_are_counted() -> None:
    pace = Pace()
    for rows in (1, 2, 3):
        pace.stepped(rows, 0.5)
    assert pace.steps == 3
    assert pace.step.at(2) == pytest.approx(0.5)
