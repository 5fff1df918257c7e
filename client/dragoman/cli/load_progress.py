"""How far a load test has come: a bar on stderr where somebody can see it, and a line for each point that is done."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dragoman.load.measurement import Measurement
from dragoman.load.running import Watcher
from dragoman.load.samples import Tally


@contextlib.contextmanager
def watching() -> Iterator[Watcher]:
    """Whoever tells of the progress: with a bar on a terminal, else in lines."""
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if not sys.stderr.isatty():
        yield Lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=4, redirect_stdout=False) as progress:
        yield Bar(console, progress)


class Lines:
    """A line for each point that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = ""

    def begin(self, title: str, total: float) -> None:
        """Something begins."""
        self._title = title

    def advance(self, done: float, tally: Tally) -> None:
        """Nothing to show yet."""

    def end(self, point: Measurement | None) -> None:
        """It is done."""
        line = self._title if point is None else f"{self._title}: {summary(point)}"
        self._console.print(line, soft_wrap=True)


class Bar(Lines):
    """The same, and a bar for what is under way."""

    def __init__(self, console: Console, progress: Progress) -> None:
        super().__init__(console)
        self._progress = progress
        self._task = progress.add_task("", total=1.0, state="")

    def begin(self, title: str, total: float) -> None:
        """Something begins."""
        super().begin(title, total)
        self._progress.reset(self._task, description=title, total=total, state="")

    def advance(self, done: float, tally: Tally) -> None:
        """It has come so far."""
        failed = sum(tally.faults.values())
        state = f"{tally.sent - tally.ended} under way, {tally.ended} answered, {failed} failed"
        self._progress.update(self._task, completed=done, state=state)


def summary(point: Measurement) -> str:
    """The point in one line."""
    times = "" if point.latency is None else f", p50 {point.latency.p50:.1f} ms, p99 {point.latency.p99:.1f} ms"
    return f"{point.throughput:.1f} requests/s{times}, {point.failed} of {point.requests} failed"
