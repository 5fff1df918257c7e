"""What a run shows: a progress bar (or plain lines), a history file, and the loss curve as a picture."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY = 20.0
"""Seconds between lines where stderr is no terminal."""


class Reporter:
    """Shows progress on stderr and appends every report to history.jsonl; a silent one for the other ranks."""

    def __init__(self, folder: Path, total: int, done: int, *, enabled: bool) -> None:
        self.enabled = enabled
        self.total = total
        self._history = folder / "history.jsonl"
        self._begin = self._last_line = time.monotonic()
        self._begin_update = done
        self._tokens = 0
        self._bar: Progress | None = None
        if enabled:
            folder.mkdir(parents=True, exist_ok=True)
            if sys.stderr.isatty():
                self._bar = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeRemainingColumn(),
                    console=Console(stderr=True),
                )
                self._task = self._bar.add_task("training", total=total, completed=done)
                self._bar.start()

    def say(self, text: str) -> None:
        """A line on stderr."""
        if not self.enabled:
            return
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def update(self, update: int, loss: float, tokens: int) -> None:
        """After each update: its number, mean loss in nats per token, and target tokens."""
        if not self.enabled:
            return
        self._tokens += tokens
        now = time.monotonic()
        rate = self._tokens / max(1e-9, now - self._begin)
        text = f"loss {loss:.3f}  {rate:,.0f} tokens/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=update, description=text)
        elif now - self._last_line > _LINE_EVERY or update == self.total:
            self._last_line = now
            left = (self.total - update) * (now - self._begin) / max(1, update - self._begin_update)
            self.say(f"update {update}/{self.total}  {text}  {left / 60:.0f} min left")

    def record(self, **entry: Any) -> None:
        """Append to the history."""
        if self.enabled:
            with self._history.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Take the bar down and draw the curve."""
        if self._bar is not None:
            self._bar.stop()
        if self.enabled and self._history.exists():
            draw_curve(self._history, self._history.with_name("loss.png"))


def draw_curve(history: Path, picture: Path) -> None:
    """Plot training and validation loss over updates as PNG."""
    import matplotlib  # noqa: PLC0415 - slow to import, needed once

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    entries = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    # A resumed run repeats what it had not saved: the later entry counts.
    by_update = {entry["update"]: entry for entry in entries}
    updates = sorted(by_update)
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120)
    axes.plot(updates, [by_update[u]["loss"] for u in updates], label="training, label-smoothed")
    axes.plot(updates, [by_update[u]["validation_loss"] for u in updates], label="validation")
    axes.set(xlabel="updates", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(picture)
    plt.close(figure)
