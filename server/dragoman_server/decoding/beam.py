"""Beam search: all requests of one beam size at one time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import compress
from math import ceil
from operator import itemgetter, methodcaller
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
        return _Continuations(*map(change, self))


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
        self._best = itemgetter(np.s_[:, :width])
        self.tasks: list[Task] = []
        self._rows: Ints = np.zeros((0, width), np.int64)
        """Of a place without a hypothesis: that of the first place."""
        self._scores: Doubles = np.zeros((0, width))
        """Sums of log-probabilities."""
        self._limits = np.zeros((0, 4))
        self._steps = 0
        self._full = True
        """Whether all places are taken."""
        self._stop = False
        """Whether there was ever a request with stop sequences."""
        self._early = False
        """Whether there was ever a request that may stop early."""
        self._grown = False
        """Whether requests were added since the last step."""
        self._view()

    def _view(self) -> None:
        """Each (requests,): the group's step that is the last; how many more answers are enough; where the search may
        stop early, what the least of the wanted answers ranks; and what the score of the longest hypothesis is divided
        by. What follows from how many requests there are, and from their limits, is worked out here too."""
        self._last, self._missing, self._worst, self._divisors = self._limits.T
        self._next_last = int(self._last.min()) if self.tasks else 0
        self._ranked = self._early and bool((self._worst > -np.inf).any())
        """Whether some search may stop early."""
        self._grown = False
        self._places = np.arange(self._rows.size)
        self._firsts = self._places[:: self._width, None]
        """The first place of each beam: (requests, 1)."""

    def add(self, task: Task, row: int, score: float) -> None:
        """As ``Group`` says."""
        options = task.options
        last = self._steps + options.max_length - len(options.prefix)
        enough = max(ceil(options.patience * options.beam_size), options.num_hypotheses)
        divisor = options.length_penalty.divisor(options.max_length)
        self.tasks.append(task)
        self._rows = np.concatenate([self._rows, [[row] * self._width]])
        self._scores = np.concatenate([self._scores, [[score] + [-np.inf] * (self._width - 1)]])
        self._limits = np.concatenate([self._limits, [[last, enough, -np.inf, divisor]]])
        self._full = False
        self._stop |= options.stop is not None
        self._early |= options.early_stopping
        self._grown = True

    def drop(self, gone: set[Task]) -> None:
        """As ``Group`` says."""
        if not gone.isdisjoint(self.tasks):
            self._keep(np.array([task not in gone for task in self.tasks]))

    def relocate(self, places: Ints) -> None:
        """As ``Group`` says."""
        self._rows = places[self._rows]

    def advance(self, step: Step) -> None:
        """As ``Group`` says."""
        if self._grown:
            self._view()
        width = self._width
        found = self._continuations(step)
        ends = self._ends(step, found)
        goes = found.possible & ~ends
        if not self._ranked and goes[:, :width].all():
            self._place(step, found.map(self._best), all_go=True)
            return
        self._answer(step, found, (ends & found.possible)[:, :width])
        first = (~goes).argsort(axis=1, kind="stable")[:, :width] + 2 * self._firsts
        found = found._replace(possible=goes).map(methodcaller("take", first))
        going = self._finish(step, found)
        if len(self.tasks) < len(found.ids):
            found = found.map(itemgetter(going))
        if self.tasks:
            self._place(step, found, all_go=bool(found.possible.all()))

    def _continuations(self, step: Step) -> _Continuations:
        """The 2 x beam_size best; of equals the better parent's first, then the better token."""
        count = 2 * self._width
        # (requests, places, candidates)
        ids = step.candidates.ids.take(self._rows, axis=0)[:, :, :count]
        log_probs = step.candidates.log_probs.take(self._rows, axis=0)[:, :, :count]
        scores = (self._scores[:, :, None] + log_probs).reshape(len(ids), -1)
        order = (-scores).argsort(axis=1, kind="stable")[:, :count]
        best = order + count * self._firsts
        scores = scores.take(best)
        return _Continuations(order // count, ids.take(best), log_probs.take(best), scores, scores > -np.inf)

    def _ends(self, step: Step, found: _Continuations) -> Bools:
        ends: Bools = found.ids == step.eos
        self._steps += 1
        if self._steps == self._next_last:
            ends[self._last == self._steps] = True
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
        indices, places = ended.nonzero()
        if not len(indices):
            return
        rows = self._rows[indices, found.parents[indices, places]].tolist()
        step.answer(rows, found.ids[indices, places].tolist(), found.log_probs[indices, places].tolist())
        self._missing -= ended.sum(axis=1)
        for index in indices.tolist() if self._early else ():
            answers, options = self.tasks[index].answers, self.tasks[index].options
            if options.early_stopping and len(answers) >= options.num_hypotheses:
                self._ranked = True
                self._worst[index] = n_best(answers, options.num_hypotheses)[-1].rank_score

    def _finish(self, step: Step, found: _Continuations) -> Bools:
        """Which requests go on."""
        goes: Bools = found.possible[:, 0] & (self._missing > 0)
        if self._ranked:
            # Log-probabilities only add up to less, the longest is penalised least, and nothing covers more than all.
            goes &= found.scores[:, 0] / self._divisors > self._worst
        if not goes.all():
            done = ~goes
            step.finished += compress(self.tasks, done.tolist())
            step.changes.free(self._rows[done][self._scores[done] > -np.inf].tolist())
            self._keep(goes)
        return goes

    def _keep(self, stay: Bools) -> None:
        self.tasks = list(compress(self.tasks, stay.tolist()))
        self._rows, self._scores, self._limits = self._rows[stay], self._scores[stay], self._limits[stay]
        self._view()

    def _place(self, step: Step, chosen: _Continuations, *, all_go: bool) -> None:
        """What was chosen, as many as there are places, is from now on the beam; everybody gets a row."""
        rows, goes = self._rows.reshape(-1), chosen.possible
        parents = (chosen.parents + self._firsts).reshape(-1)
        children = self._places if all_go else np.flatnonzero(goes)
        families = parents if all_go else parents[children]
        heirs = np.empty(len(rows), np.int64)
        heirs[families[::-1]] = children[::-1]  # the first child is written last, and so stands
        new = rows[parents]
        copied = children[heirs[families] != children]
        if not (self._full and all_go):
            self._balance(step, parents, copied.tolist(), self._left_by(families).tolist(), new)
        elif len(copied):
            targets = rows[self._left_by(families)]
            step.changes.replace(new[copied], targets)
            new[copied] = targets
        self._rows, self._scores, self._full = new.reshape(goes.shape), chosen.scores, all_go
        if all_go:
            step.ids[self._rows], step.log_probs[self._rows] = chosen.ids, chosen.log_probs
            return
        self._rows = np.where(goes, self._rows, self._rows[:, :1])
        self._scores = np.where(goes, self._scores, -np.inf)
        step.ids[self._rows[goes]], step.log_probs[self._rows[goes]] = chosen.ids[goes], chosen.log_probs[goes]

    def _left_by(self, parents: Ints) -> Ints:
        """The places whose hypothesis is nobody's parent."""
        left = (self._scores > -np.inf).reshape(-1)
        left[parents] = False
        return left.nonzero()[0]

    def _balance(self, step: Step, parents: Ints, copied: list[int], left: list[int], new: Ints) -> None:
        """Copies go to rows that their own request has left; further copies fork, further rows are freed."""
        rows, width = self._rows.reshape(-1), self._width
        pairs: list[tuple[int, int]] = []
        freed: list[int] = []
        spare = deque(left)
        for place in copied:
            while spare and spare[0] // width < place // width:
                freed.append(spare.popleft())
            if spare and spare[0] // width == place // width:
                pairs.append((place, spare.popleft()))
            else:
                new[place] = step.changes.fork(int(rows[parents[place]]))
        step.changes.free(rows[[*freed, *spare]].tolist())
        if pairs:
            places, targets = np.array(pairs).T
            targets = rows[targets]
            step.changes.replace(new[places], targets)
            new[places] = targets
