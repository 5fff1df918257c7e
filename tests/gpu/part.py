"""A part of the check on a GPU, run in a process of its own, and what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_COMPARED = frozenset({"attention", "hugging_face", "ctranslate2"})
_LONGEST_ERROR = 400


Launch = Callable[[Sequence[str], float], "subprocess.CompletedProcess[str]"]
"""Runs a command for at most so many seconds; raises subprocess.TimeoutExpired."""


def launched(command: Sequence[str], limit: float) -> subprocess.CompletedProcess[str]:
    """A process of its own, with its output."""
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)


@dataclass
class Part:
    """One part, and what came of it."""

    name: str
    subject: str
    device: str
    limit: float
    """Seconds."""
    seconds: float = 0.0
    error: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether the check fails with it."""
        return self.name not in _COMPARED

    def run(self, folder: Path, left: float, launch: Launch = launched) -> None:
        """Run it within its limit and what is left of the whole check's, in seconds."""
        # The processor takes as long as it takes: there it is not for the figures.
        limit = left if self.device == "cpu" else min(self.limit, left)
        if limit < 1:
            self.error = "not run: the time is up"
            return
        command = [sys.executable, "-m", "tests.gpu.parts", self.name, self.subject, str(folder), self.device]
        began = time.monotonic()
        try:
            done = launch(command, limit)
            if done.returncode:
                self.error = (done.stderr.strip().splitlines() or ["no message"])[-1][:_LONGEST_ERROR]
            else:
                self.found = json.loads(done.stdout.strip().splitlines()[-1])
        except subprocess.TimeoutExpired:
            self.error = f"not done after {limit:.0f} s"
        except (ValueError, IndexError):
            self.error = f"printed no JSON: {done.stdout[-_LONGEST_ERROR:]!r}"
        self.seconds = time.monotonic() - began
