"""What rounds come to."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.rounds import Spread, interleave, percentile, ratios

VALUES = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20)


def test_sides_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []

    def side(name: str) -> int:
        order.append(name)
        assert not gc.isenabled()
        return len(order)

    found = interleave({"ours": lambda: side("ours"), "theirs": lambda: side("theirs")}, 2, rest=0.0)
    assert order == ["ours", "theirs"] * 3
    assert found == {"ours": [3, 5], "theirs": [4, 6]}
    assert gc.isenabled()


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds = 0"):
        interleave({"ours": lambda: 1}, 0, rest=0.0)


def test_ratios_are_taken_round_by_round() -> None:
    # The medians' ratio would be 3 / 1 = 3.
    assert ratios([2.0, 3.0, 8.0], [1.0, 3.0, 1.0]) == Spread(2.0, 1.0, 8.0)


def test_rounds_must_pair() -> None:
    with pytest.raises(ValueError, match="2 rounds of ours, 1"):
        ratios([1.0, 2.0], [1.0])


def test_spread_as_text() -> None:
    assert Spread(1234.5, 1000.0, 2000.25).text(1) == "1,234.5 (1,000.0-2,000.2)"


def test_percentiles_of_a_known_list() -> None:
    values = [4.0, 1.0, 3.0, 2.0]
    assert [percentile(values, share) for share in (0.0, 0.5, 1.0)] == [1.0, 2.5, 4.0]
    assert percentile(values, 0.9) == pytest.approx(3.7)


@given(VALUES)
def test_half_of_the_percentiles_is_the_median(values: list[float]) -> None:
    assert percentile(values, 0.5) == pytest.approx(Spread.of(values).median)


@given(VALUES, st.floats(0, 1), st.floats(0, 1))
def test_percentiles_rise(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert min(values) <= percentile(values, low) <= percentile(values, high) * (1 + 1e-12)
    assert percentile(values, high) <= max(values) * (1 + 1e-12)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5)])
def test_percentiles_of_nothing_are_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="at least one value"):
        percentile(values, share)
