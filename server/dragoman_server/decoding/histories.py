"""Copies what came so far from row to row: by numpy, or by one compiled call."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

TOKENS, STEPS, BEGINS = 0, 1, 4
"""Columns of the numbers: what is fed next; how many tokens came so far; positions of the caches before that of the
first fed one."""


class Histories(Protocol):
    """Of the numbers (rows, first + steps) of a table: what came in each step stands from column ``first`` on.

    ``following`` (rows or more,) is what a step appends: token and log-probability side by side.
    """

    def copy(self, sources: Ints, targets: Ints) -> None:
        """Copy all numbers of some rows to others; no row is both."""

    def replace(self, sources: Ints, targets: Ints) -> Ints:
        """Copy between rows of one task; both of a pair have the same number of tokens, and not all of them alike.

        Returns how many positions of the caches were the same: those up to the first token that was fed, and those of
        the same first tokens.
        """

    def append(self, count: int) -> None:
        """Each of the first ``count`` rows grows by what follows; the tokens are fed next."""


class NumpyHistories:
    """All at one time."""

    def __init__(self, numbers: Ints, first: int, following: Ints) -> None:
        self._numbers, self._first, self._past = numbers, first, numbers[:, first:]
        self._ids = self._past.view(np.int32)[:, ::2]
        self._following, self._following_ids = following, following.view(np.int32)[::2]
        self._flat = numbers.reshape(-1)
        self._places = np.arange(len(numbers)) * numbers.shape[1] + first
        """Of each row's first token in it."""

    def copy(self, sources: Ints, targets: Ints) -> None:
        """As ``Histories`` says."""
        used = self._first + int(self._numbers[sources, STEPS].max())
        self._numbers[targets, :used] = self._numbers[sources, :used]

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

    def append(self, count: int) -> None:
        """As ``Histories`` says."""
        steps = self._numbers[:count, STEPS]
        self._flat[steps + self._places[:count]] = self._following[:count]
        steps += 1
        self._numbers[:count, TOKENS] = self._following_ids[:count]


class CompiledHistories:
    """By calls so short that they keep the interpreter's lock."""

    def __init__(self, numbers: Ints, first: int, following: Ints, library: Path) -> None:
        functions = ctypes.PyDLL(str(library))
        self._copy, self._replace = functions.dragoman_copy_histories, functions.dragoman_replace_histories
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        self._copy.argtypes = [pointer, *[size] * 4, *[pointer] * 2]
        self._replace.argtypes = [pointer, *[size] * 5, *[pointer] * 3]
        self._append = functions.dragoman_append
        self._append.argtypes = [pointer, *[size] * 5, pointer]
        self._copy.restype = self._replace.restype = self._append.restype = None
        assert numbers.flags.c_contiguous
        assert following.flags.c_contiguous
        self._numbers, self._following, self._first = numbers, following, first
        self._address, self._stride = numbers.ctypes.data, numbers.shape[1]
        self._following_address = following.ctypes.data
        # No row is a target twice.
        self._rows = np.zeros((3, len(numbers)), np.int64)
        self._places = [rows.ctypes.data for rows in self._rows]

    def copy(self, sources: Ints, targets: Ints) -> None:
        """As ``Histories`` says."""
        count, rows = len(sources), self._rows
        rows[0, :count], rows[1, :count] = sources, targets
        self._copy(self._address, self._stride, STEPS, self._first, count, *self._places[:2])

    def replace(self, sources: Ints, targets: Ints) -> Ints:
        """As ``Histories`` says."""
        count, rows = len(sources), self._rows
        rows[0, :count], rows[1, :count] = sources, targets
        self._replace(self._address, self._stride, STEPS, BEGINS, self._first, count, *self._places)
        kept: Ints = rows[2, :count].copy()
        return kept

    def append(self, count: int) -> None:
        """As ``Histories`` says."""
        self._append(self._address, self._stride, TOKENS, STEPS, self._first, count, self._following_address)


def histories_of(numbers: Ints, first: int, following: Ints, library: Path | None) -> Histories:
    """The library's where there is one."""
    if library is None:
        return NumpyHistories(numbers, first, following)
    return CompiledHistories(numbers, first, following, library)
