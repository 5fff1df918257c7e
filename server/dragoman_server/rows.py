"""Who owns which row of the caches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Addresses = tuple[int, int, int]


class Move(NamedTuple):
    """The state of row ``source`` has to be copied into row ``target``."""

    source: int
    target: int
    kept: int = 0
    """Leading positions that the target has already, since both come from one hypothesis."""


class Moves(Sequence[Move]):
    """Moves as arrays, each (moves,): a step of beams has many, and an object for each would cost more than its copy.

    They are carried out at one time: no row is both source and target. ``siblings``: each pair comes from one
    beginning and is equally long, so that nothing but the positions that are not kept has to be copied. ``addresses``:
    where the arrays lie in memory, each in one piece, if that is known; to ask takes as long as to copy a row.
    """

    __slots__ = ("addresses", "kept", "siblings", "sources", "targets")

    def __init__(
        self, sources: Ints, targets: Ints, kept: Ints, *, siblings: bool = False, addresses: Addresses | None = None
    ) -> None:
        self.sources, self.targets, self.kept, self.siblings = sources, targets, kept, siblings
        self.addresses = addresses

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
    """Rows that are given out and given back; those that came back first, so that who joins then moves nobody.

    Once settled, rows ``0 .. used - 1`` are live, and a step takes a prefix of the buffers, without a copy.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity = {capacity}: at least 1")
        self.capacity = capacity
        self.end = 0
        """Behind the last live row."""
        self._holes: list[int] = []
        """Rows before it that are free, descending."""

    @property
    def used(self) -> int:
        """How many rows are live."""
        return self.end - len(self._holes)

    @property
    def free_rows(self) -> int:
        """How many more rows can be allocated."""
        return self.capacity - self.used

    @property
    def settled(self) -> bool:
        """Whether the live rows are a prefix."""
        return not self._holes

    def allocate(self) -> int:
        """Make a row live and return it."""
        if self._holes:
            return self._holes.pop()
        assert self.end < self.capacity, "no free row"
        self.end += 1
        return self.end - 1

    def free(self, rows: Sequence[int]) -> None:
        """Give live rows back."""
        holes = sorted([*self._holes, *rows], reverse=True)
        assert len(set(holes)) == len(holes), f"rows {sorted(rows)}: one is freed twice"
        assert not holes or 0 <= holes[-1] <= holes[0] < self.end, "a row is not live"
        self._holes = holes

    def settle(self) -> tuple[list[int], list[int]]:
        """Returns the live rows that would else stand outside the prefix, and where each goes.

        The caller must copy them before the next step: at one time, in any order, since no row is read that is written.
        """
        used, holes = self.used, set(self._holes)
        movers = [row for row in range(used, self.end) if row not in holes]
        targets = [hole for hole in self._holes if hole < used]
        assert len(movers) == len(targets), "each mover has a hole"
        self.end, self._holes = used, []
        return movers, targets

    def clear(self) -> None:
        """Give every row back."""
        self.end, self._holes = 0, []
