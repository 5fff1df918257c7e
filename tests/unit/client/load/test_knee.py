"""The knee of a queue whose curve is known, and how much load keeps the objectives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.load.knee import capacity, knee, power, sustained
from tests.unit.client.load.points import point


@given(st.floats(0.1, 1000), st.integers(3, 40))
def test_of_an_m_m_1_queue_it_lies_at_half_the_capacity(service_rate: float, steps: int) -> None:
    """Its latency at the rate r is 1 / (m - r): r (m - r) is largest at m / 2 (Kleinrock 1979)."""
    shares = [step / (2 * steps) for step in range(1, 2 * steps)]
    points = [point(share, share * service_rate, ms=1e3 / (service_rate * (1 - share))) for share in shares]
    best = knee(points)
    assert best is not None
    assert best.offered == pytest.approx(0.5)


def test_of_a_server_with_so_many_lanes_it_is_where_all_are_busy() -> None:
    """By the asymptotic bounds: latency is constant up to the lanes, then throughput is."""
    lanes, seconds = 4, 0.02
    points = [
        point(users, min(users, lanes) / seconds, ms=1e3 * seconds * max(1.0, users / lanes))
        for users in (1, 2, 4, 8, 16)
    ]
    best = knee(points)
    assert best is not None
    assert best.offered == lanes
    assert capacity(points) == lanes / seconds


def test_without_answers_there_is_none() -> None:
    assert knee([]) is None
    assert knee([point(1, 0.0, ms=None)]) is None
    assert knee([point(9.0, 50.0, mode="open")]) is None
    assert capacity([point(9.0, 50.0, mode="open")]) is None
    assert power(point(1, 10.0, ms=None)) == 0


def test_sustained_is_the_last_rate_before_the_first_that_fails() -> None:
    points = [point(rate, rate, mode="open", kept=kept) for rate, kept in [(30, 0.98), (10, 1.0), (20, 0.99), (40, 1)]]
    found = sustained(points)
    assert found is not None
    assert found.offered == 20
    assert sustained([point(5, 5, mode="open", kept=0.5)]) is None
    assert sustained([point(5, 5)]) is None
