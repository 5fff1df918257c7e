"""Hypotheses that grow independently of each other until each ends: greedy with filters, alternatives, samples."""

from __future__ import annotations

import numpy as np

from dragoman_server.decoding.choosers import Chooser
from dragoman_server.decoding.step import Step
from dragoman_server.decoding.table import Ints, Task


class Independent:
    """All hypotheses of all requests with one kind of chooser. Those of one request begin in one row."""

    def __init__(self, chooser: Chooser) -> None:
        self.tasks: list[Task] = []
        self._chooser = chooser
        self._owners: list[Task] = []
        """Of each hypothesis; and so below."""
        self._rows: Ints = np.zeros(0, np.int64)
        self._left: Ints = np.zeros(0, np.int64)
        """Tokens left to come."""
        self._shared = False
        """Whether several are in one row."""

    def add(self, task: Task, row: int, score: float) -> None:
        """As ``Group`` says."""
        count = self._chooser.add(task.options)
        left = task.options.max_length - len(task.options.prefix)
        self.tasks.append(task)
        self._owners += [task] * count
        self._rows = np.append(self._rows, np.full(count, row))
        self._left = np.append(self._left, np.full(count, left))
        self._shared |= count > 1

    def drop(self, gone: set[Task]) -> None:
        """As ``Group`` says."""
        self._keep([index for index, task in enumerate(self._owners) if task not in gone])

    def relocate(self, places: Ints) -> None:
        """As ``Group`` says."""
        self._rows = places[self._rows]

    def advance(self, step: Step) -> None:
        """As ``Group`` says."""
        ids, log_probs = self._chooser.choose(self._rows, step)
        self._left -= 1
        ends = (ids == step.eos) | (self._left == 0)
        for index, task in enumerate(self._owners):
            if task.options.stop is not None and not ends[index]:
                ends[index] = step.stopped(int(self._rows[index]), int(ids[index]))
        missing = log_probs == -np.inf
        if self._shared or ends.any() or missing.any():
            if len(ended := np.flatnonzero(ends & ~missing)):
                step.answer(*(array[ended].tolist() for array in (self._rows, ids, log_probs)))
            going: list[int] = np.flatnonzero(~(ends | missing)).tolist()
            self._place(step, going)
            ids, log_probs = ids[going], log_probs[going]
        step.ids[self._rows], step.log_probs[self._rows] = ids, log_probs

    def _place(self, step: Step, going: list[int]) -> None:
        """Of those in one row the first that goes on stays, the others fork."""
        before, tasks = self._rows.tolist(), self.tasks
        self._keep(going)
        rows: list[int] = []
        kept: set[int] = set()
        for row in self._rows.tolist():
            rows.append(step.changes.fork(row) if row in kept else row)
            kept.add(row)
        self._rows, self._shared = np.array(rows, np.int64), False
        step.changes.free(list(dict.fromkeys(row for row in before if row not in kept)))
        if len(self.tasks) < len(tasks):
            going_on = set(self.tasks)
            step.finished += [task for task in tasks if task not in going_on]

    def _keep(self, indices: list[int]) -> None:
        if len(indices) < len(self._owners):
            self._chooser.keep(indices)
            self._owners = [self._owners[index] for index in indices]
            self._rows, self._left = self._rows[indices], self._left[indices]
            self.tasks = list(dict.fromkeys(self._owners))
