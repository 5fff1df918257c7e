"""Beam search: all requests of one beam size at one time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dragoman_server.decoding.beam_compiled import CompiledSearch
from dragoman_server.decoding.beam_numpy import NumpySearch
from dragoman_server.decoding.beam_state import LEAST, WORST, Advanced, BeamSearch, BeamState
from dragoman_server.decoding.ending import Ending, answer_if_wanted
from dragoman_server.decoding.step import Step
from dragoman_server.decoding.table import HypothesisTable, Ints, Task

if TYPE_CHECKING:
    from dragoman_server.runtime import StepOutput


class Beams:
    """Each step: of a request's 2 x beam_size best continuations of all its live hypotheses, those that end among the
    first beam_size have ended, and the first beam_size of the others live on.

    Of 2 x beam_size at most beam_size can be end-of-sentence (one for each hypothesis), so enough are left to go on.
    ``capacity`` is the most requests, ``longest`` the most tokens of a hypothesis, and ``library`` has compiled steps;
    None: numpy takes them.
    """

    def __init__(self, width: int, capacity: int, longest: int, library: Path | None = None) -> None:
        self.tasks: list[Task] = []
        self._state = BeamState(width, capacity)
        self._search: BeamSearch = (
            NumpySearch(self._state) if library is None else CompiledSearch(self._state, longest, library)
        )
        self._stop = False
        """Whether there was ever a request with stop sequences."""
        self._in_parts = False
        """Whether there was one whose steps have to be taken in parts: what ends is looked at in between."""

    def add(self, task: Task, row: int, score: float) -> None:
        """As ``Group`` says."""
        options = task.options
        last = self._state.steps + options.max_length - len(options.prefix)
        enough = max(ceil(options.patience * options.beam_size), options.num_hypotheses)
        penalty = options.length_penalty
        # Coverage adds to a rank what the search does not know.
        wanted = np.inf if options.coverage_penalty else options.num_hypotheses
        self.tasks.append(task)
        self._state.add(
            row,
            score,
            (
                last,
                enough,
                -np.inf,
                penalty.divisor(options.max_length),
                penalty.exponent,
                penalty.wu,
                wanted,
                -np.inf,
            ),
        )
        self._stop |= options.stop is not None
        self._in_parts |= options.stop is not None or options.early_stopping or bool(options.coverage_penalty)

    def drop(self, gone: set[Task]) -> None:
        """As ``Group`` says."""
        if not gone.isdisjoint(self.tasks):
            self._state.keep(np.array([task not in gone for task in self.tasks]))
            self.tasks = [task for task in self.tasks if task not in gone]

    def relocate(self, places: Ints) -> None:
        """As ``Group`` says."""
        self._state.relocate(places)

    def advance_alone(self, output: StepOutput, table: HypothesisTable, eos: int) -> tuple[list[Task], Advanced] | None:
        """Take a step at once, where all rows of the table are this group's; returns whose answers are complete.

        None where ``advance`` has to take it.
        """
        if self._in_parts:
            return None
        self._state.steps += 1
        advanced = self._search.advance(output, table, eos)
        if advanced is None:
            self._state.steps -= 1
            return None
        if advanced.ended:
            self._answer(advanced.ended, partial(answer_if_wanted, table, eos=eos), advanced.done)
        return self._done(advanced.done), advanced

    def advance(self, step: Step) -> None:
        """As ``Group`` says."""
        self._state.steps += 1
        search = self._search
        search.choose(step)
        if self._stop:
            self._end_stopped(step)
        if ended := search.ended(step):
            self._answer(ended, step.answer_if_wanted)
        step.finished += self._done(search.place(step))

    def _done(self, done: list[int]) -> list[Task]:
        """These go, and are returned."""
        finished = [self.tasks[index] for index in done]
        for index in reversed(done):
            del self.tasks[index]
        return finished

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

    def _answer(
        self, ended: list[tuple[int, Ending]], answer: Callable[[Task, Ending], None], gone: Sequence[int] = ()
    ) -> None:
        """Their tasks have an answer more; requests in ``gone``, in order, have left the state already."""
        limits = self._state.limits
        for index, ending in ended:
            task = self.tasks[index]
            options, answers = task.options, task.answers
            answer(task, ending)
            if index in gone or len(answers) < options.num_hypotheses:
                continue
            at = index - bisect_left(gone, index)
            least = min([answer.rank_score for answer in answers])
            if options.early_stopping:
                limits[at, WORST] = least
            if not options.coverage_penalty:
                limits[at, LEAST] = least
