"""What a lane has done so far, in plain numbers: its thread alone writes them, and a scrape reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dragoman_server.submission import Submission
from dragoman_server.telemetry.histogram import CALL_SECONDS, ROWS, STEP_SECONDS, Histogram


class LaneMeter:
    """Updated once a step, and a few times in the life of a request. Times in seconds."""

    def __init__(self) -> None:
        self.step_seconds = Histogram(STEP_SECONDS)
        """From the end of one step to that of the next, without encoding."""
        self.batch_rows = Histogram(ROWS)
        """Live rows of a step; texts of a pass."""
        self.encode_seconds = Histogram(STEP_SECONDS)
        """Of a group of sources, of a whole prompt, or of a pass."""
        self.queue_seconds = Histogram(CALL_SECONDS)
        self.first_token_seconds = Histogram(CALL_SECONDS)
        """From arrival to the first token."""
        self.token_seconds = Histogram(STEP_SECONDS)
        """Between two tokens, on average over a request that has at least two."""
        self.request_seconds = Histogram(CALL_SECONDS)
        """From arrival to the answer."""
        self.source_tokens = 0
        """Of the answered requests."""
        self.target_tokens = 0
        """Of all their answers."""
        self.completed = self.cancelled = self.expired = self.failed = 0
        self.nonfinite_rows = 0
        """Rows of a step whose scores were no numbers; texts of a pass with such an output."""

    def stepped(self, rows: int, seconds: float) -> None:
        """A step over so many rows."""
        self.step_seconds.observe(seconds)
        self.batch_rows.observe(rows)

    def completes(self, request: Submission[Any, Any], now: float, target_tokens: int) -> None:
        """The request is answered with so many tokens, in all its answers."""
        self.completed += 1
        self.source_tokens += len(request.source_ids)
        self.target_tokens += target_tokens
        self.queue_seconds.observe(request.joined - request.arrived)
        self.request_seconds.observe(now - request.arrived)
        if request.first_token:
            self.first_token_seconds.observe(request.first_token - request.arrived)
            if request.steps > 1:
                self.token_seconds.observe((now - request.first_token) / (request.steps - 1))

    def fails(self, requests: Iterable[Submission[Any, Any]]) -> None:
        """These end by a fault of ours, but for those that have ended already."""
        self.failed += sum(not request.finished for request in requests)

    def gives_up(self, requests: Iterable[Submission[Any, Any]]) -> None:
        """These were cancelled, or have expired."""
        for request in requests:
            if request.cancelled:
                self.cancelled += 1
            else:
                self.expired += 1
