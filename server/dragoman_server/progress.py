"""What is being done now, on stderr: a bar on a terminal, one line for each stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn


class Stages:
    """Shows stages one after the other."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, markup=False)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Name a piece of work of ``total`` parts; yields a function that is told how many more are done."""
        began = time.monotonic()
        if not self._console.is_terminal:
            yield lambda count: None
        else:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            with Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True) as progress:
                task = progress.add_task(name, total=total)
                yield lambda count: progress.advance(task, count)
        self.say(f"{name}: {time.monotonic() - began:.1f} s")
