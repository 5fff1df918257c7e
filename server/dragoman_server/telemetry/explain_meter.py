"""What one model's explaining has done so far and what waits for it, in plain numbers, as a scrape reads them."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman_server.telemetry.histogram import CALL_SECONDS, Histogram


class ExplainMeter:
    """Written by the explainer's thread, but for ``refused``. Times in seconds."""

    def __init__(self) -> None:
        self.completed = self.cancelled = self.expired = self.failed = 0
        self.refused = 0
        """Requests that found the queue full; written by whoever submits, under the queue's lock."""
        self.queue_seconds = Histogram(CALL_SECONDS)
        """Of those that were computed."""
        self.seconds = Histogram(CALL_SECONDS)
        """Of computing, loading the graph included."""


@dataclass(frozen=True)
class ExplainState:
    """What waits, and what was done."""

    waiting: int
    max_waiting: int
    running: int
    """1 while one is computed."""
    meter: ExplainMeter
