"""Copies positions between the rows of caches that are numpy's arrays: piece by piece, or by one compiled call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dragoman_server.rows import Moves

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64] | npt.NDArray[np.int32]
Lengths = npt.NDArray[np.int32]


_FEW_PIECES = 512
"""Pieces of memory whose copies take less time than a wait for the interpreter's lock may: it is kept for them."""


class RowCopies(Protocol):
    """Works on one array (caches, rows, num_heads, time, head_dim)."""

    def copy(self, sources: Ints, targets: Ints, begins: Ints, ends: Ints) -> None:
        """Copy positions ``begins[i]`` to ``ends[i]`` of row ``sources[i]`` to ``targets[i]``; no row is both."""

    def copy_siblings(self, moves: Moves, lengths: Lengths) -> None:
        """Copy what is not kept of rows to their siblings, which are as long: ``lengths`` (rows,) in one piece."""

    def write(self, rows: Sequence[int], begins: Ints, lengths: Ints, values: Array) -> None:
        """Each row's first positions become those from ``begins[i]`` on of ``values`` (caches, heads, tokens, dim)."""


class SlicedCopies:
    """By numpy, piece by piece."""

    def __init__(self, array: Array) -> None:
        # A position of a head is one thing to copy, whatever it holds: numpy then has an axis less to walk along.
        self._positions = _whole(array)  # (caches, rows, num_heads, time)

    def copy(self, sources: Ints, targets: Ints, begins: Ints, ends: Ints) -> None:
        """As ``RowCopies`` says."""
        positions = self._positions
        copies = (array.tolist() for array in (sources, targets, begins, ends))
        # One by one: an index over all would copy twice, by way of a temporary array, and costs more for long rows.
        for source, target, begin, end in zip(*copies, strict=True):
            positions[:, target, :, begin:end] = positions[:, source, :, begin:end]

    def copy_siblings(self, moves: Moves, lengths: Lengths) -> None:
        """As ``RowCopies`` says."""
        self.copy(moves.sources, moves.targets, moves.kept, lengths[moves.sources])

    def write(self, rows: Sequence[int], begins: Ints, lengths: Ints, values: Array) -> None:
        """As ``RowCopies`` says."""
        positions, given = self._positions, _whole(values)
        for row, begin, length in zip(rows, begins.tolist(), lengths.tolist(), strict=True):
            positions[:, row, :, :length] = given[:, :, begin : begin + length]


class CompiledCopies:
    """By the library of compiled operators; the interpreter's lock is free meanwhile, unless little is copied."""

    def __init__(self, array: Array, library: Path) -> None:
        functions = ctypes.CDLL(str(library))
        self._copy, self._write = functions.dragoman_copy_positions, functions.dragoman_write_positions
        self._copy_siblings = functions.dragoman_copy_siblings
        self._copy_few_siblings = ctypes.PyDLL(str(library)).dragoman_copy_siblings
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._copy.restype = self._write.restype = None
        for function in (self._copy_siblings, self._copy_few_siblings):
            function.restype, function.argtypes = None, [pointer, pointer, size, pointer, pointer, pointer, pointer]
        self._copy.argtypes = [pointer, pointer, size, pointer, pointer, pointer, pointer]
        self._write.argtypes = [pointer, pointer, size, pointer, ctypes.c_int64, pointer, pointer, pointer]
        assert array.flags.c_contiguous
        *axes, head_dim = array.shape
        self._array, self._item = array, array.itemsize
        self._shape = np.array([*axes, head_dim * array.itemsize], np.int64)
        self._data, self._shape_data = array.ctypes.data, self._shape.ctypes.data
        self._few = _FEW_PIECES // (array.shape[0] * array.shape[2])
        self._lengths: Lengths | None = None
        self._lengths_data = 0
        # No row is copied to twice, so there are as many copies as rows at most.
        self._copies = np.zeros((4, array.shape[1]), np.int64)
        self._places = [copies.ctypes.data for copies in self._copies]

    def copy(self, sources: Ints, targets: Ints, begins: Ints, ends: Ints) -> None:
        """As ``RowCopies`` says."""
        count, copies = len(sources), self._copies
        copies[0, :count], copies[1, :count], copies[2, :count], copies[3, :count] = sources, targets, begins, ends
        self._copy(self._data, self._shape_data, count, *self._places)

    def copy_siblings(self, moves: Moves, lengths: Lengths) -> None:
        """As ``RowCopies`` says."""
        if lengths is not self._lengths:  # a runtime has the same ones all the time
            assert lengths.dtype == np.int32
            assert lengths.flags.c_contiguous
            self._lengths, self._lengths_data = lengths, lengths.ctypes.data
        count, addresses = len(moves), moves.addresses
        if addresses is None:
            copies = self._copies
            copies[0, :count], copies[1, :count], copies[2, :count] = moves.sources, moves.targets, moves.kept
            addresses = self._places[0], self._places[1], self._places[2]
        call = self._copy_few_siblings if count <= self._few else self._copy_siblings
        call(self._data, self._shape_data, count, *addresses, self._lengths_data)

    def write(self, rows: Sequence[int], begins: Ints, lengths: Ints, values: Array) -> None:
        """As ``RowCopies`` says."""
        places = np.array((rows, begins, lengths), np.int64)
        given = np.ascontiguousarray(values, self._array.dtype)
        first, step = places.ctypes.data, places.strides[0]
        self._write(
            self._data,
            self._shape_data,
            len(rows),
            given.ctypes.data,
            given.shape[2],
            first,
            first + step,
            first + 2 * step,
        )


def copies_of(array: Array, library: Path | None) -> RowCopies:
    """The library's where there is one."""
    return SlicedCopies(array) if library is None else CompiledCopies(array, library)


def _whole(array: Array) -> Array:
    """The array with its last axis, which is contiguous, as one element: (..., size) -> (...)."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))[..., 0]
