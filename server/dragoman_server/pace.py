"""How fast a lane is, as measured: steps by their rows, encoding by its tokens, and how long answers get."""

from __future__ import annotations

from dragoman_server.telemetry.lane_meter import LaneMeter

_KEPT = 0.99
"""What an observation still counts for after the next one."""
_SPREAD = 0.1
"""The slope is kept while the standard deviation of x is less than this share of its mean: it would be noise."""
_FINISHED_KEPT = 0.98
_BETWEEN_KEPT = 0.95


class LinearFit:
    """A running least-squares line through (x, y), x > 0, in which older points fade.

    More never costs less and nothing costs less than nothing: the slope is between 0 and that of a line through the
    origin. One thread adds points; any may ask for ``at``.
    """

    def __init__(self) -> None:
        self._weight = self._variance = self._covariance = self._slope = 0.0
        self._line = (0.0, 0.0, 0.0)
        """Means of x and y, and the slope: replaced at once, so that a reader never sees half of a change."""

    def add(self, x: float, y: float) -> None:
        """One more point. Incremental moments: West 1979, with a weight that fades."""
        mean_x, mean_y, _ = self._line
        self._weight = self._weight * _KEPT + 1
        gain = 1 / self._weight
        dx, dy = x - mean_x, y - mean_y
        mean_x += gain * dx
        mean_y += gain * dy
        self._variance = (1 - gain) * (self._variance + gain * dx * dx)
        self._covariance = (1 - gain) * (self._covariance + gain * dx * dy)
        if self._variance > (_SPREAD * mean_x) ** 2:
            self._slope = self._covariance / self._variance
        self._line = mean_x, mean_y, min(max(0.0, self._slope), mean_y / mean_x)

    @property
    def measured(self) -> bool:
        """Whether there is a point."""
        return self._weight > 0

    @property
    def rate(self) -> float:
        """y for each x, on average over the points; 0 before the first."""
        mean_x, mean_y, _ = self._line
        return mean_y / mean_x if mean_x else 0.0

    def at(self, x: float) -> float:
        """The line's y, 0 before the first point."""
        mean_x, mean_y, slope = self._line
        return max(0.0, mean_y + slope * (x - mean_x))


class Pace:
    """What one lane has measured. Written by its thread alone; others read it, perhaps a step late."""

    def __init__(self) -> None:
        self.meter = LaneMeter()
        """What is shown to others; nothing is decided by it."""
        self.step = LinearFit()
        """Seconds of a step, by its live rows."""
        self.encoding = LinearFit()
        """Seconds of an encoding, by its source tokens; of a prompt, with all its chunks."""
        self.steps = 0
        """Taken so far."""
        self.encoding_between = 0.0
        """Seconds that go to encoding between two steps, of late."""
        self._encoding = 0.0
        self._lengths = (0.0, 0.0)
        """Fading sums over the requests that finished: sizes, steps."""

    def stepped(self, rows: int, seconds: float) -> None:
        """A step over ``rows`` live rows, at least one, took so long, with all that goes with it but encoding."""
        self.steps += 1
        self.encoding_between += (1 - _BETWEEN_KEPT) * (self._encoding - self.encoding_between)
        self._encoding = 0.0
        self.step.add(rows, seconds)
        self.meter.stepped(rows, seconds)

    def encoded(self, tokens: int, seconds: float) -> None:
        """Encoding ``tokens`` source tokens, at least one, took so long."""
        self.encoding_took(seconds)
        self.encoded_in_parts(tokens, seconds)

    def encoded_in_parts(self, tokens: int, seconds: float) -> None:
        """The same, where ``encoding_took`` was told of each part."""
        self.encoding.add(tokens, seconds)
        self.meter.encode_seconds.observe(seconds)

    def encoding_took(self, seconds: float) -> None:
        """So long went to encoding, or to a part of it, since the last step."""
        self._encoding += seconds

    def finished(self, size: int, steps: int) -> None:
        """A request ended by itself after so many steps; its size is what steps are expected to grow with."""
        sizes, done = self._lengths
        self._lengths = sizes * _FINISHED_KEPT + size, done * _FINISHED_KEPT + steps

    @property
    def steps_per_size(self) -> float:
        """Steps by the size of a request, 0 before one has finished."""
        sizes, steps = self._lengths
        return steps / sizes if sizes else 0.0
