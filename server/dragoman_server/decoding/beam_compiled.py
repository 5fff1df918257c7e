"""Steps of beam search by the compiled library: few calls for all requests."""

from __future__ import annotations

import ctypes
from itertools import accumulate, pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dragoman_server.decoding.beam_state import Advanced, BeamState, Found
from dragoman_server.decoding.ending import Ending
from dragoman_server.decoding.histories import BEGINS, TOKENS
from dragoman_server.decoding.step import Step
from dragoman_server.decoding.table import HypothesisTable
from dragoman_server.rows import Moves

if TYPE_CHECKING:
    from dragoman_server.runtime import StepOutput

_ARRAYS = (
    *("rows", "scores", "limits", "parents", "ids", "log_probs", "totals", "possible", "ends", "done"),
    *("ended_requests", "ended_rows", "ended_ids", "ended_lengths", "ended_log_probs", "ended_totals"),
    *("pasts", "sources", "targets", "forked", "freed"),
)


class _Beams(ctypes.Structure):
    """kernels/beams.cc has the same."""

    _fields_ = [("width", ctypes.c_int64), *((name, ctypes.c_void_p) for name in _ARRAYS)]


class _Table(ctypes.Structure):
    """kernels/histories.h has the same."""

    _fields_ = (
        ("numbers", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("stride", "tokens", "steps", "begins", "first")),
    )


class _Lane(ctypes.Structure):
    """kernels/beams.cc has the same."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("beams", "table", "ids", "log_probs")),
        *((name, ctypes.c_int64) for name in ("columns", "eos", "first_number")),
        *((name, ctypes.c_void_p) for name in ("next", "kept", "counts")),
    )


class CompiledSearch:
    """``BeamSearch`` by calls so short that they keep the interpreter's lock: to give it away could cost a wait.

    ``longest`` is the most tokens of a hypothesis.
    """

    def __init__(self, state: BeamState, longest: int, library: Path) -> None:
        functions = ctypes.PyDLL(str(library))
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        self._choose, self._ended = functions.dragoman_choose, functions.dragoman_ended
        self._place = functions.dragoman_place
        self._advance = functions.dragoman_advance_beams
        self._choose.argtypes = [pointer, size, pointer, pointer, size, size, size]
        self._advance.argtypes = [pointer, size, size, size]
        self._ended.argtypes = [pointer, size, pointer, size, size, size]
        self._place.argtypes = [pointer, size, size, pointer, pointer]
        self._choose.restype = self._place.restype = None
        self._ended.restype = self._advance.restype = size
        self._state = state
        requests, places = state.capacity, state.capacity * state.width
        found = requests, 2 * state.width
        self._found = Found(
            np.zeros(found, np.int64),
            np.zeros(found, np.int64),
            np.zeros(found, np.float32),
            np.zeros(found),
            np.zeros(found, np.bool_),
            np.zeros(found, np.bool_),
        )
        self._done = np.zeros(requests, np.int64)
        self._ends = np.zeros((4, places), np.int64)
        self._log_probs, self._totals = np.zeros(places, np.float32), np.zeros(places)
        # Most of it is never written, and so takes no memory.
        pasts = np.zeros(places * longest, np.int64)
        self._past_ids, self._past_log_probs = pasts.view(np.int32)[::2], pasts.view(np.float32)[1::2]
        changes = np.zeros((4, places), np.int64)
        self._changes = tuple(changes)
        self._counts = np.zeros(4, np.int64)
        state_arrays = state.all_rows, state.all_scores, state.all_limits
        arrays = (
            *state_arrays,
            *self._found,
            self._done,
            *self._ends,
            self._log_probs,
            self._totals,
            pasts,
            *changes,
        )
        self._beams = _Beams(state.width, *(array.ctypes.data for array in arrays))
        self._address, self._counts_address = ctypes.addressof(self._beams), self._counts.ctypes.data
        self._kept = np.zeros(places, np.int64)
        sources, targets, *_ = self._changes
        self._addresses = sources.ctypes.data, targets.ctypes.data, self._kept.ctypes.data
        self._output: StepOutput | None = None
        self._table: HypothesisTable | None = None
        self._readable = False

    @property
    def found(self) -> Found:
        """As ``BeamSearch`` says."""
        return self._found.map(itemgetter(slice(self._state.count)))

    def advance(self, output: StepOutput, table: HypothesisTable, eos: int) -> Advanced | None:
        """As ``BeamSearch`` says."""
        if output is not self._output or table is not self._table:
            self._read(output, table, eos)
        if not self._readable:
            return None
        state = self._state
        ended = self._advance(self._lane_address, state.count, len(output.top_ids), state.steps)
        if ended < 0:
            return None
        done, replaced, forked, freed = self._counts.tolist()
        sources, targets, forks, frees = self._changes
        moves = Moves(
            sources[:replaced], targets[:replaced], self._kept[:replaced], siblings=True, addresses=self._addresses
        )
        if not (ended or done or forked or freed):
            return Advanced([], [], moves, [], [])
        state.count -= done
        return Advanced(
            self._endings(ended) if ended else [],
            self._done[:done].tolist(),
            moves,
            forks[:forked].tolist(),
            frees[:freed].tolist(),
        )

    def _read(self, output: StepOutput, table: HypothesisTable, eos: int) -> None:
        """Find out where these are: a runtime gives the same again and again, and asking takes longer than a step."""
        ids, log_probs = output.top_ids, output.top_log_probs
        self._output, self._table = output, table
        wide = ids.dtype == np.int64 and log_probs.dtype == np.float32
        self._readable = wide and ids.flags.c_contiguous and log_probs.flags.c_contiguous
        numbers, stride, steps, first = table.layout
        self._numbers = _Table(numbers, stride, TOKENS, steps, BEGINS, first)
        self._lane = _Lane(
            self._address,
            ctypes.addressof(self._numbers),
            ids.ctypes.data,
            log_probs.ctypes.data,
            ids.shape[1],
            eos,
            len(table.owners),
            table.next_address,
            self._kept.ctypes.data,
            self._counts_address,
        )
        self._lane_address = ctypes.addressof(self._lane)

    def choose(self, step: Step) -> None:
        """As ``BeamSearch`` says."""
        ids = np.ascontiguousarray(step.candidates.ids, np.int64)
        log_probs = np.ascontiguousarray(step.candidates.log_probs, np.float32)
        self._choose(
            self._address,
            self._state.count,
            ids.ctypes.data,
            log_probs.ctypes.data,
            ids.shape[1],
            step.eos,
            self._state.steps,
        )

    def ended(self, step: Step) -> list[tuple[int, Ending]]:
        """As ``BeamSearch`` says."""
        count = self._ended(self._address, self._state.count, *step.table.layout)
        return self._endings(count) if count else []

    def _endings(self, count: int) -> list[tuple[int, Ending]]:
        requests, rows, ids, lengths = self._ends[:, :count].tolist()
        bounds = list(accumulate(lengths, initial=0))
        past_ids, past_log_probs = self._past_ids[: bounds[-1]].tolist(), self._past_log_probs[: bounds[-1]].tolist()
        pasts = [(past_ids[begin:end], past_log_probs[begin:end]) for begin, end in pairwise(bounds)]
        what = rows, ids, self._log_probs[:count].tolist(), self._totals[:count].tolist(), pasts
        return list(zip(requests, map(Ending, *what), strict=True))

    def place(self, step: Step) -> list[int]:
        """As ``BeamSearch`` says."""
        changes, next_number = step.changes, step.changes.next_number
        sources, targets, forks, frees = self._changes
        self._place(self._address, self._state.count, next_number, step.table.next_address, self._counts_address)
        done, replaced, forked, freed = self._counts.tolist()
        if replaced:
            changes.replace(sources[:replaced].copy(), targets[:replaced].copy())
        if forked:
            changes.fork_all(forks[:forked].tolist())
        if freed:
            changes.free(frees[:freed].tolist())
        self._state.count -= done
        gone: list[int] = self._done[:done].tolist()
        return gone
