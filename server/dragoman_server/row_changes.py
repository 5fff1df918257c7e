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
    _placed: list[tuple[Hypothesis, int]] = field(default_factory=list)
    """Forks that took a row which another hypothesis of their request has left, and the positions they share."""

    def note(self, before: Sequence[Hypothesis], survivors: Sequence[Hypothesis]) -> None:
        """What became of one request: who lived, and who lives on. The request's own rows are used first."""
        kept = {hypothesis.row for hypothesis in survivors}
        left = {hypothesis.row: hypothesis for hypothesis in before if hypothesis.row not in kept}
        for hypothesis in survivors:
            if hypothesis.row != UNPLACED:
                continue
            if left:
                # A parent that has ended leaves its row to its first fork, so that the others still find it there.
                row = hypothesis.parent_row if hypothesis.parent_row in left else next(iter(left))
                hypothesis.row = row
                self._placed.append((hypothesis, _common_positions(hypothesis, left.pop(row))))
            else:
                self._forks.append(hypothesis)
        self.freed += left

    def apply(self, rows: RowTable, live: list[Hypothesis]) -> list[list[Move]]:
        """Give every live hypothesis its row, and bring ``live`` (by row) up to date.

        Returns the copies to carry out, list by list; within a list, no row is both read and written.
        """
        copies = []
        for fork, _ in self._placed:
            live[fork.row] = fork
        if placed := [Move(h.parent_row, h.row, kept) for h, kept in self._placed if h.row != h.parent_row]:
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


def _common_positions(one: Hypothesis, other: Hypothesis) -> int:
    """How many positions of the caches are the same: begin-of-sentence's, and those of the tokens both begin with."""
    common = 1
    for a, b in zip(one.token_ids, other.token_ids, strict=False):
        if a != b:
            break
        common += 1
    return common
