from __future__ import annotations

import numpy as np
import pytest

from dragoman_export.calibration import Calibration, Histogram, Range, TensorStatistics


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [(0.0, 2.55, 0.01, 0), (-1.0, 1.55, 0.01, 100), (-2.55, 0.0, 0.01, 255), (0.0, 0.0, 1.0, 0)],
)
def test_scale_and_zero_point(low: float, high: float, scale: float, zero_point: int) -> None:
    chosen = Range(low, high)
    assert chosen.scale == pytest.approx(scale)
    assert chosen.zero_point == zero_point


def test_a_histogram_that_had_to_widen_counts_everything() -> None:
    histogram = Histogram()
    histogram.add(np.array([0.5, -0.25, 0.0], np.float32))
    narrow = histogram.width
    histogram.add(np.array([[-7.0, 3.0]], np.float32))
    assert histogram.counts.sum() == 5
    assert histogram.width > narrow
    found = np.repeat(histogram.centres, histogram.counts)
    np.testing.assert_allclose(found, [-7.0, -0.25, 0.0, 0.5, 3.0], atol=histogram.width)


def test_zeros_alone_give_a_usable_range() -> None:
    statistics = TensorStatistics.empty(2)
    statistics.add(np.zeros((3, 2), np.float32))
    for chosen in (statistics.choose("range"), statistics.choose("percentile"), statistics.choose("mse")):
        assert chosen == Range(0.0, 0.0)


def statistics_with_outlier() -> TensorStatistics:
    values = np.random.default_rng(0).standard_normal((50_000, 4)).astype(np.float32)
    values[7, 1] = 60.0
    statistics = TensorStatistics.empty(4)
    for begin in range(0, len(values), 10_000):
        statistics.add(values[begin : begin + 10_000])
    return statistics


def test_the_plain_range_is_what_was_seen() -> None:
    statistics = statistics_with_outlier()
    assert statistics.choose("range").high == 60.0
    assert statistics.channel_high[1] == 60.0
    assert statistics.channel_high[0] < 6.0


def test_the_percentile_leaves_an_outlier_out() -> None:
    chosen = statistics_with_outlier().choose("percentile")
    assert 3.0 < chosen.high < 5.0
    assert -5.0 < chosen.low < -3.0


def test_least_squares_is_never_worse_than_the_plain_range() -> None:
    statistics = statistics_with_outlier()
    chosen, plain = statistics.choose("mse"), statistics.choose("range")
    assert chosen.high < plain.high
    assert statistics.noise_to_signal(chosen) < statistics.noise_to_signal(plain)


def test_the_noisiest_tensor_comes_first() -> None:
    calibration = Calibration()
    even = np.linspace(-1, 1, 1000, dtype=np.float32)[:, None]
    spiky = even.copy()
    spiky[0] = 300.0
    calibration.add({"even": even, "spiky": spiky})
    assert calibration.noisiest(["even", "spiky"], calibration.ranges("range")) == ["spiky", "even"]
