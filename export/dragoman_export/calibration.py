"""How large the inputs of the linear maps get on real sentences, and which range each is given in 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Method = Literal["range", "percentile", "mse"]

Array = npt.NDArray[np.float32]

_HALF_BINS = 4096
_PERCENTILE = 99.99
_CLIPS = np.linspace(0.3, 1.0, 71)


class Range(NamedTuple):
    """What 8 bits have to cover; holds zero."""

    low: float
    high: float

    @property
    def scale(self) -> np.float32:
        """The width of one of 255 steps."""
        width = self.high - self.low
        return np.float32(width / 255 if width > 0 else 1.0)

    @property
    def zero_point(self) -> np.uint8:
        """Which of the 256 values means zero."""
        return np.uint8(np.clip(np.rint(-self.low / self.scale), 0, 255))


class Histogram:
    """Counts of values in bins around zero; where a value lies outside, bins are merged in pairs until it fits."""

    def __init__(self) -> None:
        self.width = 0.0
        self.counts = np.zeros(2 * _HALF_BINS, np.int64)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of every bin."""
        return (np.arange(2 * _HALF_BINS, dtype=np.float64) - _HALF_BINS + 0.5) * np.float64(self.width)

    def add(self, values: Array) -> None:
        """Count the values, of any shape."""
        largest = float(np.abs(values).max(initial=0.0))
        if self.width == 0.0:
            if largest == 0.0:
                return
            self.width = 1.01 * largest / _HALF_BINS
        while largest >= self.width * _HALF_BINS:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[_HALF_BINS // 2 : _HALF_BINS // 2 + _HALF_BINS] = merged
            self.width *= 2
        bins = np.floor(values.ravel() / np.float32(self.width)).astype(np.int64) + _HALF_BINS
        self.counts += np.bincount(np.clip(bins, 0, 2 * _HALF_BINS - 1), minlength=2 * _HALF_BINS)


@dataclass
class TensorStatistics:
    """What was seen of one tensor (..., channels)."""

    channel_low: Array
    channel_high: Array
    histogram: Histogram = field(default_factory=Histogram)

    @classmethod
    def empty(cls, channels: int) -> TensorStatistics:
        """Before the first value."""
        return cls(np.zeros(channels, np.float32), np.zeros(channels, np.float32))

    def add(self, values: Array) -> None:
        """Take in values (tokens, channels)."""
        self.channel_low = np.minimum(self.channel_low, values.min(axis=0, initial=0.0))
        self.channel_high = np.maximum(self.channel_high, values.max(axis=0, initial=0.0))
        self.histogram.add(values)

    @property
    def plain(self) -> Range:
        """From the least to the largest value seen, zero included."""
        return Range(float(self.channel_low.min()), float(self.channel_high.max()))

    def choose(self, method: Method) -> Range:
        """The range by a method.

        ``range``: all that was seen. ``percentile``: without the outermost 0.01% of the values. ``mse``: the part
        of the range, 30% to all of it, whose 8 bits are nearest to the values in the mean square.
        """
        if method == "range" or not self.histogram.counts.any():
            return self.plain
        return self._percentile() if method == "percentile" else self._least_squares()

    def noise_to_signal(self, chosen: Range) -> float:
        """Mean square error of 8 bits over that range, relative to the mean square of the values."""
        counts, centres = self.histogram.counts, self.histogram.centres
        signal = float((counts * centres**2).sum())
        return _squared_error(counts, centres, chosen) / signal if signal else 0.0

    def _percentile(self) -> Range:
        counts, half = self.histogram.counts, self.histogram.width / 2
        share = np.cumsum(counts) / counts.sum()
        tail = (1 - _PERCENTILE / 100) / 2
        low = self.histogram.centres[int(np.searchsorted(share, tail))] - half
        high = self.histogram.centres[min(int(np.searchsorted(share, 1 - tail)), counts.size - 1)] + half
        return Range(max(min(0.0, float(low)), self.plain.low), min(max(0.0, float(high)), self.plain.high))

    def _least_squares(self) -> Range:
        counts, centres, plain = self.histogram.counts, self.histogram.centres, self.plain
        candidates = [Range(plain.low * clip, plain.high * clip) for clip in _CLIPS.tolist()]
        return min(candidates, key=lambda candidate: _squared_error(counts, centres, candidate))


def _squared_error(counts: npt.NDArray[np.int64], values: npt.NDArray[np.float64], chosen: Range) -> float:
    scale, zero = float(chosen.scale), float(chosen.zero_point)
    restored = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
    return float((counts * (restored - values) ** 2).sum())


@dataclass
class Calibration:
    """Statistics of all inputs of linear maps in one graph, by tensor name."""

    tensors: dict[str, TensorStatistics] = field(default_factory=dict)

    def add(self, values: Mapping[str, Array]) -> None:
        """Take in (tokens, channels) of each tensor, padding left out."""
        for name, array in values.items():
            if name not in self.tensors:
                self.tensors[name] = TensorStatistics.empty(array.shape[-1])
            self.tensors[name].add(array)

    def ranges(self, method: Method) -> dict[str, Range]:
        """The range of every tensor."""
        return {name: statistics.choose(method) for name, statistics in self.tensors.items()}

    def noisiest(self, names: Iterable[str], ranges: Mapping[str, Range]) -> list[str]:
        """The tensors among ``names``, the one that loses most in 8 bits first."""
        return sorted(names, key=lambda name: -self.tensors[name].noise_to_signal(ranges[name]))
