"""What lies outside the runs of a session."""

from __future__ import annotations

import pytest

from tests.bench.session_clock import Clock, Span, shares, watch


def test_what_lies_between_runs_is_outside() -> None:
    spans = [Span(10.0, 13.0, 1.0, 3.0), Span(14.0, 16.0, 3.5, 5.0), Span(18.0, 20.0, 6.0, 7.0)]
    found = shares(spans)
    assert (found.runs, found.wall, found.cpu) == (3, 10.0, 6.0)
    assert found.wall_outside == pytest.approx(0.3)
    assert found.cpu_outside == pytest.approx(1.5 / 6)


def test_runs_without_a_gap_leave_nothing_outside() -> None:
    assert shares([Span(0.0, 1.0, 0.0, 1.0), Span(1.0, 2.0, 1.0, 2.0)]).wall_outside == 0.0


def test_one_run_has_no_outside() -> None:
    with pytest.raises(ValueError, match="1 runs: at least 2"):
        shares([Span(0.0, 1.0, 0.0, 1.0)])


def test_a_runtime_without_sessions_is_refused() -> None:
    with pytest.raises(TypeError, match="holds no session"):
        watch(Clock(), Clock())
