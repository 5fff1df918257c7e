"""Forced prefixes: tokens that come whatever the model thinks of them, and how likely it thinks they are."""

from __future__ import annotations

from dragoman_server.decoding.step import Step
from dragoman_server.decoding.table import Ints, Task


class Prefixes:
    """Requests whose prefix is being fed, each in one row. A forced one is scored, and then is done."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self._rows: dict[Task, int] = {}

    def add(self, task: Task, row: int, score: float) -> None:
        """As ``Group`` says."""
        self.tasks.append(task)
        self._rows[task] = row

    def drop(self, gone: set[Task]) -> None:
        """As ``Group`` says."""
        self.tasks = [task for task in self.tasks if task not in gone]
        self._rows = {task: self._rows[task] for task in self.tasks}

    def relocate(self, places: Ints) -> None:
        """As ``Group`` says."""
        self._rows = {task: int(places[row]) for task, row in self._rows.items()}

    def advance(self, step: Step) -> None:
        """As ``Group`` says."""
        done: set[Task] = set()
        for task, row in self._rows.items():
            prefix, at = task.options.prefix, int(step.table.steps[row])
            step.ids[row] = prefix[at]
            step.log_probs[row] = log_prob = step.candidates.of(row, prefix[at])
            if at + 1 < len(prefix):
                continue
            done.add(task)
            if task.options.forced:
                step.answer([row], [prefix[at]], [log_prob])
                step.changes.free([row])
                step.finished.append(task)
            else:
                step.begun.append((task, row, sum(step.table.scores(row)) + log_prob))
        if done:
            self.drop(done)
