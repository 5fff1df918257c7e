"""Who owns which row of the caches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Move(NamedTuple):
    """The state of row ``source`` has to be copied into row ``target``."""

    source: int
    target: int
    kept: int = 0
    """Leading positions that the target has already, since both come from one hypothesis."""


class Moves(Sequence[Move]):
    """Moves as arrays, each (moves,): a step of beams has many, and an object for each would cost more than its copy.

    They are carried out at one time: no row is both source and target. ``siblings``: each pair comes from one
    beginning and is equally long, so that nothing but the positions that are not kept has to be copied.
    """

    __slots__ = ("kept", "siblings", "sources", "targets")

    def __init__(self, sources: Ints, targets: Ints, kept: Ints, *, siblings: bool = False) -> None:
        self.sources, self.targets, self.kept, self.siblings = sources, targets, kept, siblings

    @classmethod
    def of(cls, moves: Sequence[Move]) -> Moves:
        """The same as arrays."""
        return moves if isinstance(moves, cls) else cls(*np.array(moves, np.int64).reshape(-1, 3).T)

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[Move]:
        return map(Move, self.sources.tolist(), self.targets.tolist(), self.kept.tolist())

    @overload
    def __getitem__(self, index: int) -> Move: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Move]: ...

    def __getitem__(self, index: int | slice) -> Move | Sequence[Move]:
        return list(self)[index]

    def __repr__(self) -> str:
        return f"Moves({list(self)})"


def row_buckets(max_rows: int) -> list[int]:
    """Row counts that a step is bound for: 1, 2, 3, 4, 6, 8, ... 64, 68, ... 128, 136, ... and ``max_rows``.

    A step takes as long as its bucket is large: wide gaps would cost more than the bindings, which are made once.
    """
    sixteenths = {size << shift for size in range(16, 32) for shift in range(1, max_rows.bit_length())}
    sizes = {1, 2, 3, *range(4, 32, 2), max_rows} | sixteenths
    return sorted(size for size in sizes if size <= max_rows)


class RowTable:
    """Rows ``0 .. used - 1`` are live, the rest are free: a step takes a prefix of the buffers, without a copy."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity = {capacity}: at least 1")
        self.capacity = capacity
        self.used = 0

    @property
    def free_rows(self) -> int:
        """How many more rows can be allocated."""
        return self.capacity - self.used

    def allocate(self) -> int:
        """Make the next row live and return it."""
        assert self.used < self.capacity, "no free row"
        self.used += 1
        return self.used - 1

    def rearrange(self, freed: Sequence[int], copied: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        """Give live rows back and take one new row for each of ``copied``, the rows whose state they start from.

        Returns the new rows; then the live rows that would else stand outside the prefix, and where each goes. The
        caller must copy both before the next step: at one time, in any order, since no row is read that is written.
        """
        gone = set(freed)
        assert len(gone) == len(freed), f"rows {sorted(freed)}: one is freed twice"
        touched = [*freed, *copied]
        assert not touched or (min(touched) >= 0 and max(touched) < self.used), "a row is not live"
        assert gone.isdisjoint(copied), "a freed row cannot be copied"
        used = self.used - len(freed) + len(copied)
        assert used <= self.capacity, "no free row"
        holes = [row for row in freed if row < used]
        holes += range(self.used, used)
        movers = [row for row in range(used, self.used) if row not in gone]
        self.used = used
        new, targets = holes[: len(copied)], holes[len(copied) :]
        assert len(movers) == len(targets), "each mover has a hole"
        return new, movers, targets

    def clear(self) -> None:
        """Give every row back."""
        self.used = 0
