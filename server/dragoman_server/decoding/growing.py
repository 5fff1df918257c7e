"""A step of plain greedy search over all rows of a lane at one time: by numpy, or by one compiled call."""

from __future__ import annotations

import ctypes
from itertools import accumulate
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from dragoman_server.decoding.table import HypothesisTable, Ints

if TYPE_CHECKING:
    from dragoman_server.runtime import StepOutput


class Ended(NamedTuple):
    """The rows that end with a step; everything by row."""

    rows: list[int]
    pasts: list[tuple[list[int], list[float]]]
    """Tokens and log-probabilities of the steps before."""
    token_ids: list[int]
    """What each ends with."""
    log_probs: list[float]


_NOBODY = Ended([], [], [], [])
"""Never changed."""


class Growth(Protocol):
    """Works on one table."""

    def grow(self, output: StepOutput, count: int) -> Ended | None:
        """Each of the rows ``0 .. count - 1`` grows by its likeliest token, but those that end with it.

        Returns these; None where a score is no number, and then nothing is changed.
        """


class ArrayGrowth:
    """By numpy."""

    def __init__(self, table: HypothesisTable, eos: int) -> None:
        self._table, self._eos = table, eos

    def grow(self, output: StepOutput, count: int) -> Ended | None:
        """As ``Growth`` says."""
        table, ids, log_probs = self._table, output.top_ids[:, 0], output.top_log_probs[:, 0]
        if not isfinite(np.add.reduce(log_probs)):
            return None
        table.next_ids[:count], table.next_log_probs[:count] = ids, log_probs
        ends = ids == self._eos
        ends |= table.steps[:count] == table.last[:count]
        rows: list[int] = ends.nonzero()[0].tolist()
        if not rows:
            table.append(count)
            return _NOBODY
        table.append_to((~ends).nonzero()[0])
        return Ended(rows, table.pasts(rows), ids[rows].tolist(), log_probs[rows].tolist())


class CompiledGrowth:
    """By the library of compiled operators. The interpreter's lock is kept: taking it again would cost more."""

    def __init__(self, table: HypothesisTable, eos: int, library: Path) -> None:
        self._call = ctypes.PyDLL(str(library)).dragoman_grow_greedily
        self._call.argtypes, self._call.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_int64
        self._table = table
        address, width, _, first = table.layout
        rows = len(table.steps)
        self._ended: Ints = np.zeros(2 * rows, np.int64)
        # As long as all of them may be; most of it is never touched.
        self._ids: Ints = np.zeros(rows * (width - first), np.int64)
        self._log_probs = np.zeros(len(self._ids))
        written = [array.ctypes.data for array in (self._ended, self._ids, self._log_probs)]
        # As the function reads it; the places of an output are written when there is another.
        self._lane = np.array([address, width, first, 0, 0, 0, 0, eos, *written], np.int64)
        self._place = self._lane.ctypes.data
        self._output: StepOutput | None = None

    def grow(self, output: StepOutput, count: int) -> Ended | None:
        """As ``Growth`` says."""
        if output is not self._output:
            self._read(output)
        found = self._call(self._place, count)
        if found > 0:
            return self._those_ended(found)
        return None if found else _NOBODY

    def _those_ended(self, count: int) -> Ended:
        ended = self._ended[: 2 * count].tolist()
        rows, steps = ended[::2], ended[1::2]
        total = sum(steps)
        ids, log_probs = self._ids[:total].tolist(), self._log_probs[:total].tolist()
        ends = list(accumulate(steps))
        pasts = [
            (ids[end - count : end - 1], log_probs[end - count : end - 1])
            for end, count in zip(ends, steps, strict=True)
        ]
        return Ended(rows, pasts, [ids[end - 1] for end in ends], [log_probs[end - 1] for end in ends])

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
