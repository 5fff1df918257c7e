"""The requests of one beam size as arrays, and what a step of their search has to do, whoever computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.ending import Ending
from dragoman_server.decoding.step import Step
from dragoman_server.decoding.table import HypothesisTable, Ints
from dragoman_server.rows import Moves

if TYPE_CHECKING:
    from dragoman_server.runtime import StepOutput

Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

LIMITS = LAST, MISSING, WORST, DIVISOR, EXPONENT, WU, WANTED, LEAST = tuple(range(8))
"""Columns of the limits."""


class BeamState:
    """Request i is row i of every array, of which the first ``count`` are there.

    A column is a place in a beam of ``width``, best first. A place without a hypothesis, as all but one are at first,
    has a score of minus infinity.
    """

    def __init__(self, width: int, capacity: int) -> None:
        self.width = width
        self.capacity = capacity
        """The most requests."""
        self.count = 0
        self.steps = 0
        self.all_rows: Ints = np.zeros((capacity, width), np.int64)
        self.all_scores: Doubles = np.zeros((capacity, width))
        self.all_limits: Doubles = np.zeros((capacity, len(LIMITS)))

    @property
    def rows(self) -> Ints:
        """(requests, width). Of a place without a hypothesis: that of the first place."""
        return self.all_rows[: self.count]

    @property
    def scores(self) -> Doubles:
        """(requests, width): sums of log-probabilities."""
        return self.all_scores[: self.count]

    @property
    def limits(self) -> Doubles:
        """(requests, limits), column by column: the group's step that is the last; how many more answers are enough;
        where the search may stop early, what the least of the wanted answers ranks; what the score of the longest
        hypothesis is divided by; the length penalty's exponent, and whether it is that of Wu et al.; how many answers
        are wanted; and what the least of so many ranks. What does not exist yet is minus infinity.
        """
        return self.all_limits[: self.count]

    def add(self, row: int, score: float, limits: Sequence[float]) -> None:
        """One request more, with one hypothesis, in this row."""
        at = self.count
        self.all_rows[at] = row
        self.all_scores[at] = -np.inf
        self.all_scores[at, 0] = score
        self.all_limits[at] = limits
        self.count += 1

    def keep(self, stay: Bools) -> None:
        """Only these requests go on."""
        kept = int(stay.sum())
        for array in (self.all_rows, self.all_scores, self.all_limits):
            array[:kept] = array[: self.count][stay]
        self.count = kept

    def relocate(self, places: Ints) -> None:
        """Row i is now row ``places[i]``."""
        self.all_rows[: self.count] = places[self.rows]


class Found(NamedTuple):
    """The 2 x beam_size best continuations of each request, best first: each (requests, 2 x beam_size)."""

    parents: Ints
    """Places in the beam."""
    ids: Ints
    log_probs: npt.NDArray[np.floating[Any]]
    scores: Doubles
    possible: Bools
    """False where there were fewer than there are columns: the others are anything there."""
    ends: Bools

    def map(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Found:
        """The same change of each."""
        return Found(*map(change, self))


class Advanced(NamedTuple):
    """What came of a step that was taken at once."""

    ended: list[tuple[int, Ending]]
    """As ``BeamSearch.ended`` says."""
    done: list[int]
    """The requests that have left the state, in order."""
    replaced: Moves
    """From rows to those of their own requests that they replace. Views, which the next step overwrites."""
    forked: list[int]
    """Rows of which copies are needed, which have the numbers from the first one up."""
    freed: list[int]
    """Rows that are nobody's any more. Where there are forks or these, neither histories nor tokens stand yet."""


class BeamSearch(Protocol):
    """Takes the steps of a ``BeamState``, each at once or in three parts.

    ``found`` may be changed between the first two: what ends.
    """

    @property
    def found(self) -> Found:
        """Of this step; changing ``ends`` counts."""

    def advance(self, output: StepOutput, table: HypothesisTable, eos: int) -> Advanced | None:
        """All of a step, where all rows are of these requests, and what ends has no say in who is done.

        Where no row is forked or freed, rows that are replaced have their new histories, and all have grown. None where
        the step has to be taken in its three parts, and then nothing has changed.
        """

    def choose(self, step: Step) -> None:
        """Find the best continuations; of equals the better parent's comes first, then the better token.

        Those end that are end-of-sentence, and all at a request's last step.
        """

    def ended(self, step: Step) -> list[tuple[int, Ending]]:
        """Those that end among the first beam_size of each request: whose, and what.

        A request's stand side by side, best first. Such as are certainly worse than what is wanted may be missing.
        """

    def place(self, step: Step) -> list[int]:
        """The first beam_size that do not end live on, and get their rows; returns which requests are done, in order.

        Those leave the state, and their rows are free.
        """
