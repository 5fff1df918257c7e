"""Beam search: all requests of one beam size at one time."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np

from dragoman_server.decoding.beam_compiled import CompiledSearch
from dragoman_server.decoding.beam_numpy import NumpySearch
from dragoman_server.decoding.beam_state import WORST, BeamSearch, BeamState, Ended
from dragoman_server.decoding.ranking import n_best
from dragoman_server.decoding.step import Step
from dragoman_server.decoding.table import Ints, Task


class Beams:
    """Each step: of a request's 2 x beam_size best continuations of all its live hypotheses, those that end among the
    first beam_size have ended, and the first beam_size of the others live on.

    Of 2 x beam_size at most beam_size can be end-of-sentence (one for each hypothesis), so enough are left to go on.
    ``capacity`` is the most requests, and ``library`` has compiled steps; None: numpy takes them.
    """

    def __init__(self, width: int, capacity: int, library: Path | None = None) -> None:
        self.tasks: list[Task] = []
        self._state = BeamState(width, capacity)
        self._search: BeamSearch = NumpySearch(self._state) if library is None else CompiledSearch(self._state, library)
        self._stop = False
        """Whether there was ever a request with stop sequences."""
        self._early = False
        """Whether there was ever a request that may stop early."""

    def add(self, task: Task, row: int, score: float) -> None:
        """As ``Group`` says."""
        options = task.options
        last = self._state.steps + options.max_length - len(options.prefix)
        enough = max(ceil(options.patience * options.beam_size), options.num_hypotheses)
        divisor = options.length_penalty.divisor(options.max_length)
        self.tasks.append(task)
        self._state.add(row, score, (last, enough, -np.inf, divisor))
        self._stop |= options.stop is not None
        self._early |= options.early_stopping

    def drop(self, gone: set[Task]) -> None:
        """As ``Group`` says."""
        if not gone.isdisjoint(self.tasks):
            self._state.keep(np.array([task not in gone for task in self.tasks]))
            self.tasks = [task for task in self.tasks if task not in gone]

    def relocate(self, places: Ints) -> None:
        """As ``Group`` says."""
        self._state.relocate(places)

    def advance(self, step: Step) -> None:
        """As ``Group`` says."""
        self._state.steps += 1
        search = self._search
        search.choose(step)
        if self._stop:
            self._end_stopped(step)
        ended = search.ended()
        if ended.requests:
            self._answer(step, ended)
        if done := search.place(step):
            step.finished += [self.tasks[index] for index in done]
            for index in reversed(done):
                del self.tasks[index]

    def _end_stopped(self, step: Step) -> None:
        """Those that come to a stop sequence end as well."""
        state, found = self._state, self._search.found
        for index, task in enumerate(self.tasks):
            if task.options.stop is None:
                continue
            going = 0
            for place in np.flatnonzero(found.possible[index] & ~found.ends[index]).tolist():
                row = int(state.rows[index, found.parents[index, place]])
                found.ends[index, place] = step.stopped(row, int(found.ids[index, place]))
                going += not found.ends[index, place]
                if going == state.width:  # the others are not looked at
                    break

    def _answer(self, step: Step, ended: Ended) -> None:
        step.answer_best(ended.rows, ended.ids, ended.log_probs, ended.scores)
        for index in ended.requests if self._early else ():
            answers, options = self.tasks[index].answers, self.tasks[index].options
            if options.early_stopping and len(answers) >= options.num_hypotheses:
                self._state.limits[index, WORST] = n_best(answers, options.num_hypotheses)[-1].rank_score
