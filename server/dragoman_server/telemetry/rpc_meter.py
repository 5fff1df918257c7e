"""What became of the calls, in plain numbers. Belongs to the event loop's thread; a scrape reads them."""

from __future__ import annotations

from collections import Counter

from dragoman_server.telemetry.calls import Call
from dragoman_server.telemetry.histogram import CALL_SECONDS, Histogram

UNKNOWN = "unknown"
"""The name of every method that there is not."""


class RpcMeter:
    """Counts by method and status; both are from closed lists."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        """Calls by method and status."""
        self.running: Counter[str] = Counter()
        """Calls inside, by method."""
        self.seconds: dict[str, Histogram] = {}
        """Of calls, by method."""
        self.refused: Counter[str] = Counter()
        """Calls by the reason why the server could not take them."""
        self.slow_readers = 0
        """Streams that were given up, since nothing was read of them."""
        self.items: Counter[str] = Counter()
        """Items of bulk calls, by status."""

    def begins(self, call: Call) -> None:
        """A call has arrived."""
        self.running[call.rpc] += 1

    def ends(self, call: Call, code: str, seconds: float) -> None:
        """It has ended so, after so many seconds."""
        self.running[call.rpc] -= 1
        self.ended[call.rpc, code] += 1
        if call.rpc not in self.seconds:
            self.seconds[call.rpc] = Histogram(CALL_SECONDS)
        self.seconds[call.rpc].observe(seconds)
        if call.refused:
            self.refused[call.refused] += 1
        self.slow_readers += call.given_up
        if call.items:
            self.items.update(call.items)
