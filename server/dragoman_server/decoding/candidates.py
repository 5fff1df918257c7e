"""What may come next in each row, likeliest first: the graph's own candidates, or the logits after the filters."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.filters import penalise, restrict
from dragoman_server.decoding.hypothesis import NonFiniteScoreError
from dragoman_server.decoding.table import HypothesisTable, Ints

if TYPE_CHECKING:
    from dragoman_server.runtime import StepOutput

Floats = npt.NDArray[np.floating[Any]]

_NO_LOGITS = np.zeros((0, 0), np.float32)
_NO_OFFSETS = np.zeros((0, 1))


class Candidates:
    """Of each row the likeliest tokens that may come, and their log-probabilities; of equals the lower id comes first.

    ``reading`` are the rows that need the logits. Only their own are read for them, so that whatever a row gets depends
    on no other row. Where fewer tokens may come than there are columns, the rest have a log-probability of minus
    infinity. ``faults`` are the rows whose scores are no numbers: they are made to end at once.
    """

    def __init__(self, output: StepOutput, table: HypothesisTable, reading: Ints, eos: int) -> None:
        self.ids: Ints = output.top_ids  # (rows, candidates)
        self.log_probs: Floats = output.top_log_probs  # (rows, candidates)
        self._reading = reading
        self._logits: Floats = _NO_LOGITS  # (reading, vocabulary)
        self._offsets: Floats = _NO_OFFSETS  # (reading, 1)
        """What makes a logit a log-probability."""
        if len(reading):
            self._read(output, table, eos)
        self.faults: dict[int, NonFiniteScoreError] = {}
        if not isfinite(np.add.reduce(self.log_probs[:, 0])):
            self._exclude(table, eos)

    def vocabulary(self, row: int) -> tuple[Floats, float]:
        """Logits (vocabulary,), minus infinity where a token must not come, and what makes them log-probabilities."""
        at = int(np.searchsorted(self._reading, row))
        return self._logits[at], float(self._offsets[at, 0])

    def of(self, row: int, token_id: int) -> float:
        """The log-probability of a token that is forced: nothing was restricted then."""
        logits, offset = self.vocabulary(row)
        return float(np.float32(logits[token_id] + offset))

    def _read(self, output: StepOutput, table: HypothesisTable, eos: int) -> None:
        assert output.logits is not None, "the step was run without logits"
        rows = self._reading
        logits = self._logits = output.logits[rows]  # a copy
        options = [task.options for task in table.owners[rows].tolist()]
        history, lengths = table.produced(rows)
        # The graph has normalised what nobody has changed.
        likeliest = logits[np.arange(len(rows)), output.top_ids[rows, 0]].astype(np.float64)
        self._offsets = (output.top_log_probs[rows, 0] - likeliest)[:, None]
        some = [at for at, given in enumerate(options) if given.penalises]
        if some:
            changed = _some(logits, some)
            penalise(changed, history[some], lengths[some], [options[at] for at in some])
            self._offsets[some] = -log_sums(changed)
            if changed is not logits:
                logits[some] = changed
        some = [
            at
            for at, (given, length) in enumerate(zip(options, table.steps[rows].tolist(), strict=True))
            if (given.restricts or length < given.min_length) and length >= len(given.prefix)
        ]
        if some:
            changed = _some(logits, some)
            restrict(changed, history[some], lengths[some], [options[at] for at in some], eos)
            if changed is not logits:
                logits[some] = changed
        count = max(given.columns(output.top_ids.shape[1]) for given in options)
        ids, values = likeliest_of(logits, count)
        self._replace(ids, (values + self._offsets).astype(np.float32))

    def _replace(self, ids: Ints, log_probs: Floats) -> None:
        """Put the candidates of the rows that are read in the place of the graph's."""
        rows, columns = len(self.ids), max(ids.shape[1], self.ids.shape[1])
        graph = self.ids, self.log_probs
        self.ids, self.log_probs = np.zeros((rows, columns), np.int64), np.full((rows, columns), -np.inf, np.float32)
        for theirs, ours in zip(graph, (self.ids, self.log_probs), strict=True):
            ours[:, : theirs.shape[1]] = theirs
        self.log_probs[self._reading] = -np.inf
        self.ids[self._reading, : ids.shape[1]] = ids
        self.log_probs[self._reading, : ids.shape[1]] = log_probs

    def _exclude(self, table: HypothesisTable, eos: int) -> None:
        greatest = self.log_probs[:, 0]
        broken = np.flatnonzero(~np.isfinite(greatest))
        self.faults = {
            row: NonFiniteScoreError(f"score = {greatest[row]} at step {table.steps[row] + 1}")
            for row in broken.tolist()
        }
        # A NaN or infinite logit makes the log-softmax of its whole row NaN, so the best score shows it.
        self.ids, self.log_probs = self.ids.copy(), self.log_probs.copy()  # the runtime's own, else
        self.ids[broken, 0], self.log_probs[broken], self.log_probs[broken, 0] = eos, -np.inf, 0
        if mended := np.flatnonzero(np.isin(self._reading, broken)).tolist():
            self._logits[mended], self._offsets[mended] = -np.inf, 0
            self._logits[mended, eos] = 0


def _some(logits: Floats, rows: list[int]) -> Floats:
    """A copy of these rows; where they are all, what was given."""
    return logits if len(rows) == len(logits) else logits[rows]


def log_sums(logits: Floats) -> Floats:
    """(rows, 1): ln of the sum of exp of each row (vocabulary,) for itself; no number where a logit is none."""
    with np.errstate(invalid="ignore"):
        greatest = logits.max(axis=1, keepdims=True)
        shifted = logits - greatest
        np.exp(shifted, out=shifted)
        sums: Floats = np.log(shifted.sum(axis=1, keepdims=True, dtype=np.float64)) + greatest
        return sums


def likeliest_of(values: Floats, count: int) -> tuple[Ints, Floats]:
    """The ``count`` greatest of each row of (rows, vocabulary), greatest first, of equals the first; and which.

    Looking for the greatest again and again: of few it is several times as fast as a partition. ``values`` is changed
    meanwhile.
    """
    rows = np.arange(len(values))
    ids, greatest = np.zeros((len(values), count), np.int64), np.empty((len(values), count), values.dtype)
    for column in range(count):
        at = values.argmax(axis=1)
        ids[:, column], greatest[:, column] = at, values[rows, at]
        if column + 1 < count:
            values[rows, at] = -np.inf
    if count > 1:
        taken, column_of = np.nonzero(greatest > -np.inf)
        values[taken, ids[taken, column_of]] = greatest[taken, column_of]
    return ids, greatest
