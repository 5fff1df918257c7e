"""What one step does to the rows of a lane, gathered over its requests and then carried out together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dragoman_server.decoding.table import HypothesisTable
from dragoman_server.rows import Ints, Moves, RowTable


class RowChanges:
    """Rows that are given back, and hypotheses that need one.

    A fork first takes a row that its own request has left; where there is none it gets a number from the table's
    number of rows upwards, until ``apply`` gives it a row.
    """

    def __init__(self, table: HypothesisTable) -> None:
        self._table = table
        self._first_number = len(table.owners)
        self._freed: list[int] = []
        self._parents: list[int] = []
        self._replaced: list[tuple[Ints, Ints]] = []

    def free(self, rows: Sequence[int]) -> None:
        """The rows are not needed any more."""
        self._freed += rows

    def fork(self, parent: int) -> int:
        """A copy of the row is needed in a new one; returns its number for now."""
        self._parents.append(parent)
        return self._first_number + len(self._parents) - 1

    def replace(self, parents: Ints, targets: Ints) -> None:
        """Copy rows, all of them live on, to rows that other hypotheses of their own requests have left."""
        self._replaced.append((parents, targets))

    def apply(self, rows: RowTable) -> tuple[list[Moves], Ints | None]:
        """Change the tables; returns the copies that the caches need, and each row's new place where any has one.

        The copies are carried out list by list; within a list, no row is both read and written. Places are (2 x rows,):
        rows first, then forks by their numbers.
        """
        table = self._table
        copies = [Moves(parents, targets, table.replace(parents, targets)) for parents, targets in self._replaced]
        if not (self._freed or self._parents):
            return copies, None
        used = rows.used
        targets_of_forks, moves = rows.rearrange(self._freed, self._parents)
        places = np.arange(2 * self._first_number)
        places[self._first_number : self._first_number + len(self._parents)] = targets_of_forks
        if moves or self._parents:
            sources = np.array([move.source for move in moves] + self._parents)
            targets = np.array([move.target for move in moves] + targets_of_forks)
            table.copy(sources, targets)
            places[sources[: len(moves)]] = targets[: len(moves)]
            copies.append(Moves(sources, targets, np.zeros(len(sources), np.int64)))
        table.release(rows.used, used)
        return copies, places
