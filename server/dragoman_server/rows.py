"""Who owns which row of the caches."""

from __future__ import annotations

from typing import NamedTuple


class Move(NamedTuple):
    """The last live row, ``source``, has to be copied into the hole ``target``."""

    source: int
    target: int


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

    def free(self, row: int) -> Move | None:
        """Give a live row back; the caller must carry out the move that is returned before the next step."""
        assert 0 <= row < self.used, f"row {row} is not live"
        self.used -= 1
        return None if row == self.used else Move(self.used, row)

    def clear(self) -> None:
        """Give every row back."""
        self.used = 0
