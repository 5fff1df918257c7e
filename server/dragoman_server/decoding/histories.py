"""Copies what came so far between hypotheses of one request: by numpy, or by one compiled call."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

STEPS, BEGINS = 1, 4
"""Columns of the numbers: how many tokens came so far; positions of the caches before that of the first fed one."""


class Histories(Protocol):
    """Of the numbers (rows, first + steps) of a table: what came in each step stands from column ``first`` on."""

    def replace(self, sources: Ints, targets: Ints) -> Ints:
        """Copy between rows of one task; both of a pair have the same number of tokens, and not all of them alike.

        Returns how many positions of the caches were the same: those up to the first token that was fed, and those of
        the same first tokens.
        """


class NumpyHistories:
    """All at one time."""

    def __init__(self, numbers: Ints, first: int) -> None:
        self._numbers, self._past = numbers, numbers[:, first:]
        self._ids = self._past.view(np.int32)[:, ::2]

    def replace(self, sources: Ints, targets: Ints) -> Ints:
        """As ``Histories`` says."""
        steps, begins = self._numbers[sources, STEPS], self._numbers[sources, BEGINS]
        longest = int(steps.max())
        given = self._past[sources, :longest]
        differ = given.view(np.int32)[:, ::2] != self._ids[targets, :longest]
        self._past[targets, :longest] = given
        same = np.minimum(differ.argmax(axis=1), steps) if longest else steps
        kept: Ints = same + begins + 1
        return kept


class CompiledHistories:
    """By a call so short that it keeps the interpreter's lock."""

    def __init__(self, numbers: Ints, first: int, library: Path) -> None:
        self._replace = ctypes.PyDLL(str(library)).dragoman_replace_histories
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        self._replace.argtypes = [pointer, *[size] * 5, *[pointer] * 3]
        self._replace.restype = None
        assert numbers.flags.c_contiguous
        self._numbers = numbers
        self._table = numbers.ctypes.data, numbers.shape[1], STEPS, BEGINS, first

    def replace(self, sources: Ints, targets: Ints) -> Ints:
        """As ``Histories`` says."""
        count = len(sources)
        rows = np.empty((3, count), np.int64)
        rows[0], rows[1] = sources, targets
        address, step = rows.ctypes.data, count * rows.itemsize
        self._replace(*self._table, count, address, address + step, address + 2 * step)
        kept: Ints = rows[2]
        return kept


def histories_of(numbers: Ints, first: int, library: Path | None) -> Histories:
    """The library's where there is one."""
    return NumpyHistories(numbers, first) if library is None else CompiledHistories(numbers, first, library)
