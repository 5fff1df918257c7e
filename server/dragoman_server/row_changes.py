"""What one step does to the rows of a lane, gathered over its requests and then carried out together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dragoman_server.decoding.table import HypothesisTable
from dragoman_server.rows import Ints, Moves, RowTable


class Relocation(NamedTuple):
    """What has another row now, each (moved,): rows, and forks by their numbers."""

    numbers: Ints
    rows: Ints

    def places(self, count: int) -> Ints:
        """(count,): where each of so many numbers stands now."""
        places = np.arange(count)
        places[self.numbers] = self.rows
        return places


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

    @property
    def next_number(self) -> int:
        """What the next fork will be called."""
        return self._first_number + len(self._parents)

    def fork(self, parent: int) -> int:
        """A copy of the row is needed in a new one; returns its number for now."""
        number = self.next_number
        self._parents.append(parent)
        return number

    def fork_all(self, parents: Sequence[int]) -> None:
        """Copies of all these rows are needed: their numbers follow each other from ``next_number`` on."""
        self._parents += parents

    def replace(self, parents: Ints, targets: Ints) -> None:
        """Copy rows, all of them live on, to rows that other hypotheses of their own requests have left."""
        self._replaced.append((parents, targets))

    def apply(self, rows: RowTable) -> tuple[list[Moves], Relocation | None]:
        """Change the tables; returns the copies that the caches need, and what has a new place where anything has.

        The copies are carried out one after the other; within one, no row is both read and written.
        """
        table = self._table
        copies = [
            Moves(parents, targets, table.replace(parents, targets), siblings=True)
            for parents, targets in self._replaced
        ]
        if not (self._freed or self._parents):
            return copies, None
        used, parents = rows.used, self._parents
        new, sources, targets = rows.rearrange(self._freed, parents)
        if not (sources or parents):
            table.release(rows.used, used)
            return copies, None
        numbers = np.array(sources + list(range(self._first_number, self._first_number + len(parents))))
        moves = Moves(np.array(sources + parents), np.array(targets + new), np.zeros(len(numbers), np.int64))
        table.copy(moves.sources, moves.targets)
        table.release(rows.used, used)
        copies.append(moves)
        return copies, Relocation(numbers, moves.targets)
