"""Beam search: all requests of one beam size at one time."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.ranking import n_best
from dragoman_server.decoding.step import Step
from dragoman_server.decoding.table import Ints, Task

Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]


class _Continuations(NamedTuple):
    """Each (requests, count), best first."""

    parents: Ints
    """Places in the beam."""
    ids: Ints
    log_probs: npt.NDArray[np.floating[Any]]
    scores: Doubles
    possible: Bools
    """False where there were fewer than there are columns."""

    def map(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> _Continuations:
        """The same change of each."""
        return _Continuations(
            change(self.parents), change(self.ids), change(self.log_probs), change(self.scores), change(self.possible)
        )


class Beams:
    """Each step: of a request's 2 x beam_size best continuations of all its live hypotheses, those that end among the
    first beam_size have ended, and the first beam_size of the others live on.

    Of 2 x beam_size at most beam_size can be end-of-sentence (one for each hypothesis), so enough are left to go on.
    A row of an array is a request, a column a place in its beam, best first. A place without a hypothesis, as all but
    one are at first, has a score of minus infinity. The first continuation of a hypothesis stays in its row; only
    further ones are copies.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self.tasks: list[Task] = []
        self._rows: Ints = np.zeros((0, width), np.int64)
        """Of a place without a hypothesis: that of the first place."""
        self._scores: Doubles = np.zeros((0, width))
        """Sums of log-probabilities."""
        self._limits = np.zeros((0, 4))
        self._full = True
        """Whether all places are taken."""
        self._stop = False
        """Whether there was ever a request with stop sequences."""
        self._view()

    def _view(self) -> None:
        """Each (requests,): tokens left to come; how many more answers are enough; where the search may stop early,
        what the least of the wanted answers ranks; and what the score of the longest hypothesis is divided by."""
        self._left, self._missing, self._worst, self._divisors = self._limits.T

    def add(self, task: Task, row: int, score: float) -> None:
        """As ``Group`` says."""
        options = task.options
        left = options.max_length - len(options.prefix)
        enough = max(ceil(options.patience * options.beam_size), options.num_hypotheses)
        divisor = options.length_penalty.divisor(options.max_length)
        self.tasks.append(task)
        self._rows = np.vstack([self._rows, np.full(self._width, row)])
        self._scores = np.vstack([self._scores, [score] + [-np.inf] * (self._width - 1)])
        self._limits = np.vstack([self._limits, [left, enough, -np.inf, divisor]])
        self._full = False
        self._stop |= options.stop is not None
        self._view()

    def drop(self, gone: set[Task]) -> None:
        """As ``Group`` says."""
        self._keep([index for index, task in enumerate(self.tasks) if task not in gone])

    def relocate(self, places: Ints) -> None:
        """As ``Group`` says."""
        self._rows = places[self._rows]

    def advance(self, step: Step) -> None:
        """As ``Group`` says."""
        width = self._width
        found = self._continuations(step)
        ends = self._ends(step, found)
        goes = found.possible & ~ends
        if goes[:, :width].all() and not self._worst.max() > -np.inf:
            self._place(step, found.map(lambda array: array[:, :width]))
            return
        self._answer(step, found, (ends & found.possible)[:, :width])
        first = (~goes).argsort(axis=1, kind="stable")[:, :width] + _begins(goes)
        found = found._replace(possible=goes).map(lambda array: array.reshape(-1)[first])
        going = self._finish(step, found)
        if len(going) < len(found.ids):
            found = found.map(lambda array: array[going])
        if going:
            self._place(step, found)

    def _continuations(self, step: Step) -> _Continuations:
        """The 2 x beam_size best; of equals the better parent's first, then the better token."""
        count = 2 * self._width
        ids = step.candidates.ids[:, :count][self._rows]  # (requests, places, candidates)
        log_probs = step.candidates.log_probs[:, :count][self._rows]
        scores = (self._scores[:, :, None] + log_probs).reshape(len(ids), -1)
        order = (-scores).argsort(axis=1, kind="stable")[:, :count]
        best = order + _begins(scores)
        scores = scores.reshape(-1)[best]
        return _Continuations(
            order // count, ids.reshape(-1)[best], log_probs.reshape(-1)[best], scores, scores > -np.inf
        )

    def _ends(self, step: Step, found: _Continuations) -> Bools:
        ends: Bools = found.ids == step.eos
        self._left -= 1
        if not self._left.all():
            ends[self._left == 0] = True
        for index, task in enumerate(self.tasks if self._stop else ()):
            if task.options.stop is None:
                continue
            going = 0
            for place in np.flatnonzero(found.possible[index] & ~ends[index]).tolist():
                row = int(self._rows[index, found.parents[index, place]])
                ends[index, place] = step.stopped(row, int(found.ids[index, place]))
                going += not ends[index, place]
                if going == self._width:  # the others are not looked at
                    break
        return ends

    def _answer(self, step: Step, found: _Continuations, ended: Bools) -> None:
        for index, place in zip(*(array.tolist() for array in ended.nonzero()), strict=True):
            task, row = self.tasks[index], int(self._rows[index, found.parents[index, place]])
            step.answer(row, int(found.ids[index, place]), float(found.log_probs[index, place]))
            self._missing[index] -= 1
            options = task.options
            if options.early_stopping and len(task.answers) >= options.num_hypotheses:
                self._worst[index] = n_best(task.answers, options.num_hypotheses)[-1].rank_score

    def _finish(self, step: Step, found: _Continuations) -> list[int]:
        """Which requests go on, by their indices until now."""
        # Log-probabilities only add up to less, the longest is penalised least, and nothing covers more than all.
        beaten = found.scores[:, 0] / self._divisors <= self._worst
        done = ~found.possible[:, 0] | (self._missing <= 0) | beaten
        for index in np.flatnonzero(done).tolist():
            step.finished.append(self.tasks[index])
            step.changes.free(self._rows[index, self._scores[index] > -np.inf].tolist())
        going: list[int] = np.flatnonzero(~done).tolist()
        self._keep(going)
        return going

    def _keep(self, indices: list[int]) -> None:
        if len(indices) < len(self.tasks):
            self.tasks = [self.tasks[index] for index in indices]
            self._rows, self._scores, self._limits = self._rows[indices], self._scores[indices], self._limits[indices]
            self._view()

    def _place(self, step: Step, chosen: _Continuations) -> None:
        """What was chosen, as many as there are places, is from now on the beam; everybody gets a row."""
        rows, goes = self._rows.reshape(-1), chosen.possible
        all_go = bool(goes.all())
        parents = (chosen.parents + _begins(self._rows)).reshape(-1)
        children = np.arange(len(rows)) if all_go else np.flatnonzero(goes)
        heirs = np.full(len(rows), -1)
        heirs[parents[children[::-1]]] = children[::-1]  # the first child is written last, and so stands
        new = rows[parents]
        copied = children[heirs[parents[children]] != children]
        left = np.flatnonzero(heirs < 0) if self._full else np.flatnonzero((heirs < 0) & (self._scores > -np.inf).flat)
        if not (self._full and all_go):
            copied, left = self._balance(step, parents, copied, left, new)
        if len(copied):
            step.changes.replace(new[copied], rows[left])
            new[copied] = rows[left]
        self._rows, self._scores, self._full = new.reshape(goes.shape), chosen.scores, all_go
        if all_go:
            step.ids[self._rows], step.log_probs[self._rows] = chosen.ids, chosen.log_probs
            return
        self._rows = np.where(goes, self._rows, self._rows[:, :1])
        self._scores = np.where(goes, self._scores, -np.inf)
        step.ids[self._rows[goes]], step.log_probs[self._rows[goes]] = chosen.ids[goes], chosen.log_probs[goes]

    def _balance(self, step: Step, parents: Ints, copied: Ints, left: Ints, new: Ints) -> tuple[Ints, Ints]:
        """As many copies as rows that are left, request by request; other copies fork, other rows are freed."""
        rows, requests = self._rows.reshape(-1), len(self._rows)
        needed, there = (np.bincount(places // self._width, minlength=requests) for places in (copied, left))
        keep_copied, keep_left = np.ones(len(copied), np.bool_), np.ones(len(left), np.bool_)
        for request in np.flatnonzero(needed != there).tolist():
            fewer = min(needed[request], there[request])
            forks = np.flatnonzero(copied // self._width == request)[fewer:]
            keep_copied[forks] = False
            for place in copied[forks].tolist():
                new[place] = step.changes.fork(int(rows[parents[place]]))
            freed = np.flatnonzero(left // self._width == request)[fewer:]
            keep_left[freed] = False
            step.changes.free(rows[left[freed]].tolist())
        return copied[keep_copied], left[keep_left]


def _begins(array: npt.NDArray[np.generic]) -> Ints:
    """Where each row of a matrix begins when it is flattened: (rows, 1)."""
    rows, columns = array.shape
    begins: Ints = np.arange(0, rows * columns, columns)[:, None]
    return begins
