"""A part of the check on a GPU, run in a process of its own, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gpu.launching import CUT, Findings, Launch

_COMPARED = frozenset({"attention", "ctranslate2", "hugging_face", "hugging_face_compiled"})
_OF_STEPS = frozenset({"parity", "independence", "steps"})
_CAPTURED = "+graphs"
NOT_RUN = "not run"


@dataclass
class Part:
    """One part, and what came of it."""

    name: str
    subject: str
    device: str
    """``cpu`` or ``cuda``; ``cuda+graphs``: steps are CUDA graphs."""
    limit: float
    """Seconds."""
    environment: str = ""
    """A variable that the process has besides, as NAME=VALUE."""
    seconds: float = 0.0
    error: str = ""
    beside: list[str] = field(default_factory=list)
    """Subjects that were exported at the same time."""
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether the check fails with it."""
        return self.name not in _COMPARED

    @property
    def wrong(self) -> bool:
        """Whether it failed, and not for want of time."""
        return bool(self.error) and not self.error.startswith((CUT, NOT_RUN))

    @property
    def key(self) -> tuple[str, ...]:
        """What it measures."""
        return (
            self.name,
            self.subject,
            self.device.removesuffix(_CAPTURED) if not self.counts else self.device,
            (self.environment),
        )

    def run(self, folder: Path, left: float, launch: Launch, tell: Callable[[Findings], None]) -> None:
        """Run it within its limit and what is left of the whole check's, in seconds; ``tell`` hears of each figure."""
        # The processor takes as long as it takes: there it is not for the figures.
        limit = left if self.device == "cpu" else min(self.limit, left)
        if limit < 1:
            self.error = f"{NOT_RUN}: the time is up"
            return
        job = {"name": self.name, "subject": self.subject, "folder": str(folder)}
        job |= {"device": self.device, "environment": self.environment}

        def told(figure: Findings) -> None:
            self.found |= figure
            self.seconds = time.monotonic() - began
            tell(figure)

        began = time.monotonic()
        self.error = launch(job, limit, told)
        self.seconds = time.monotonic() - began

    def without_graphs(self) -> None:
        """Measure steps as they are: capturing them does not do on this machine."""
        self.device = self.device.removesuffix(_CAPTURED)


def graphs_fail(done: Sequence[Part]) -> bool:
    """Whether steps as CUDA graphs gave wrong results or none."""
    return any(part.wrong and part.name in _OF_STEPS and part.device.endswith(_CAPTURED) for part in done)
