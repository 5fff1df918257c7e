"""What one step does to the rows of a lane, gathered over its requests and then carried out together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dragoman_server.decoding.table import HypothesisTable
from dragoman_server.rows import Ints, Moves, RowTable


class Relocation(NamedTuple):
    """What has another row now, each (moved,): rows, or forks by their numbers."""

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
        """Change the tables; returns the copies that the caches need, and the rows that forks have where there are any.

        The copies are carried out one after the other; within one, no row is both read and written.
        """
        table, parents = self._table, self._parents
        copies = [
            Moves(sources, targets, table.replace(sources, targets), siblings=True)
            for sources, targets in self._replaced
        ]
        if self._freed:
            rows.free(self._freed)
            table.release(self._freed)
        if not parents:
            return copies, None
        moves = _copies(parents, [rows.allocate() for _ in parents])
        table.copy(moves.sources, moves.targets)
        copies.append(moves)
        return copies, Relocation(np.arange(self._first_number, self.next_number), moves.targets)


def settle(rows: RowTable, table: HypothesisTable) -> tuple[list[Moves], Relocation | None]:
    """Make the live rows a prefix; returns as ``RowChanges.apply`` does, of rows that have moved."""
    sources, targets = rows.settle()
    if not sources:
        return [], None
    moves = _copies(sources, targets)
    table.copy(moves.sources, moves.targets)
    table.release(sources)
    return [moves], Relocation(moves.sources, moves.targets)


def _copies(sources: Sequence[int], targets: Sequence[int]) -> Moves:
    """Of rows to others that have nothing of them yet."""
    return Moves(np.array(sources), np.array(targets), np.zeros(len(sources), np.int64))
