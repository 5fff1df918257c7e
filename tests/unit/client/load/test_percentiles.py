"""Percentiles are numpy's; a summary is of milliseconds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.load.percentiles import Summary, percentile

TIMES = st.lists(st.floats(0, 1e6), min_size=1, max_size=60)


@given(TIMES, st.floats(0, 1))
def test_a_percentile_is_numpys(values: list[float], share: float) -> None:
    expected = float(np.quantile(np.array(values), share))
    assert percentile(sorted(values), share) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_what_has_no_percentile(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="at least one value"):
        percentile(values, share)


@given(TIMES)
def test_a_summary_is_in_order_and_in_milliseconds(seconds: list[float]) -> None:
    found = Summary.of(seconds)
    assert found is not None
    assert found.count == len(seconds)
    assert found.p50 <= found.p95 <= found.p99 <= found.largest == pytest.approx(1e3 * max(seconds))
    assert found.mean == pytest.approx(1e3 * float(np.mean(seconds)), rel=1e-9, abs=1e-9)


def test_no_times_have_no_summary() -> None:
    assert Summary.of([]) is None
