"""A step of plain greedy search over all rows of a lane at one time: by numpy, or by one compiled call."""

from __future__ import annotations

import ctypes
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dragoman_server.decoding.table import HypothesisTable, Ints

if TYPE_CHECKING:
    from dragoman_server.runtime import StepOutput


class Growth(Protocol):
    """Works on one table."""

    def grow(self, output: StepOutput, count: int) -> list[int] | None:
        """Each of the rows ``0 .. count - 1`` grows by its likeliest token, but those that end with it.

        Returns these; None where a score is no number, and then nothing is changed.
        """


class ArrayGrowth:
    """By numpy."""

    def __init__(self, table: HypothesisTable, eos: int) -> None:
        self._table, self._eos = table, eos

    def grow(self, output: StepOutput, count: int) -> list[int] | None:
        """As ``Growth`` says."""
        table, ids, log_probs = self._table, output.top_ids[:, 0], output.top_log_probs[:, 0]
        if not isfinite(np.add.reduce(log_probs)):
            return None
        table.next_ids[:count], table.next_log_probs[:count] = ids, log_probs
        ends = ids == self._eos
        ends |= table.steps[:count] == table.last[:count]
        ended: list[int] = ends.nonzero()[0].tolist()
        if ended:
            table.append_to((~ends).nonzero()[0])
        else:
            table.append(count)
        return ended


class CompiledGrowth:
    """By the library of compiled operators. The interpreter's lock is kept: taking it again would cost more."""

    def __init__(self, table: HypothesisTable, eos: int, library: Path) -> None:
        self._call = ctypes.PyDLL(str(library)).dragoman_grow_greedily
        self._call.argtypes, self._call.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_int64
        self._table = table
        numbers = table.numbers
        self._ended: Ints = np.zeros(len(numbers), np.int64)
        # As the function reads it, the places of the last output in the middle.
        self._lane = np.array(
            [numbers.ctypes.data, numbers.shape[1], table.first, 0, 0, 0, 0, eos, self._ended.ctypes.data], np.int64
        )
        self._place = self._lane.ctypes.data
        self._output: StepOutput | None = None

    def grow(self, output: StepOutput, count: int) -> list[int] | None:
        """As ``Growth`` says."""
        if output is not self._output:
            self._read(output)
        ended = self._call(self._place, count)
        if ended > 0:
            rows: list[int] = self._ended[:ended].tolist()
            return rows
        return None if ended else []

    def _read(self, output: StepOutput) -> None:
        """Its arrays are read from now on; a runtime gives the same ones for as long as the rows are as many."""
        ids, log_probs = output.top_ids, output.top_log_probs
        assert ids.dtype == np.int64
        assert log_probs.dtype == np.float32
        self._lane[3:7] = (
            ids.ctypes.data,
            ids.strides[0] // ids.itemsize,
            log_probs.ctypes.data,
            log_probs.strides[0] // log_probs.itemsize,
        )
        self._output = output


def growth_of(table: HypothesisTable, eos: int, library: Path | None) -> Growth:
    """The library's where there is one."""
    return ArrayGrowth(table, eos) if library is None else CompiledGrowth(table, eos, library)
