"""What one step does to the rows of a lane, gathered over its requests and then carried out together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dragoman_server.decoding.hypothesis import UNPLACED, Hypothesis
from dragoman_server.rows import Move, RowTable


@dataclass
class RowChanges:
    """Rows that are given back, and hypotheses that need one."""

    freed: list[int] = field(default_factory=list)
    _forks: list[Hypothesis] = field(default_factory=list)
    _placed: list[Hypothesis] = field(default_factory=list)
    """Forks that took a row which another hypothesis of their request has left."""

    def note(self, before: Sequence[int], survivors: Sequence[Hypothesis]) -> None:
        """What became of one request: the rows it held, and who lives on. The request's own rows are used first."""
        kept = {hypothesis.row for hypothesis in survivors}
        free = [row for row in before if row not in kept]
        for hypothesis in survivors:
            if hypothesis.row != UNPLACED:
                continue
            if free:
                # A parent that has ended leaves its row to its first fork, so that the others still find it there.
                row = hypothesis.parent_row if hypothesis.parent_row in free else free[-1]
                free.remove(row)
                hypothesis.row = row
                self._placed.append(hypothesis)
            else:
                self._forks.append(hypothesis)
        self.freed += free

    def apply(self, rows: RowTable, live: list[Hypothesis]) -> list[list[Move]]:
        """Give every live hypothesis its row, and bring ``live`` (by row) up to date.

        Returns the copies to carry out, list by list; within a list, no row is both read and written.
        """
        copies = []
        for fork in self._placed:
            live[fork.row] = fork
        if placed := [Move(fork.parent_row, fork.row) for fork in self._placed if fork.row != fork.parent_row]:
            copies.append(placed)
        if not (self.freed or self._forks):
            return copies
        targets, moves = rows.rearrange(self.freed, [fork.parent_row for fork in self._forks])
        moved = [*moves, *(Move(fork.parent_row, target) for fork, target in zip(self._forks, targets, strict=True))]
        newcomers = [*(live[move.source] for move in moves), *self._forks]
        live += newcomers[: max(0, rows.used - len(live))]  # the places are filled just below
        for hypothesis, move in zip(newcomers, moved, strict=True):
            hypothesis.row = move.target
            live[move.target] = hypothesis
        del live[rows.used :]
        if moved:
            copies.append(moved)
        return copies
