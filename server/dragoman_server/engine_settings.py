"""What an engine is told of the settings: all that it takes to build one from a bundle."""

from __future__ import annotations

from typing import Protocol

from dragoman_server.compiled_kernels import Kernels


class EngineSettings(Protocol):
    """A part of ``Settings``, whose meaning and bounds they have; whoever embeds an engine gives no more than these."""

    @property
    def lanes(self) -> int:
        """Threads that decode."""

    @property
    def lane_threads(self) -> int:
        """Threads that compute a lane's step together, its own with them."""

    @property
    def max_rows(self) -> int:
        """Of each lane."""

    @property
    def max_waiting(self) -> int:
        """Requests in the queue."""

    @property
    def max_waiting_tokens(self) -> int:
        """Source tokens in the queue."""

    @property
    def ageing(self) -> float:
        """Seconds of waiting that are worth one priority."""

    @property
    def kernels(self) -> Kernels:
        """Which operators compute."""
