"""How hypotheses that grow independently of each other pick their next token: the likeliest, or a draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dragoman_server.decoding.draws import Truncations, draw_columns
from dragoman_server.decoding.options import DecodingOptions
from dragoman_server.decoding.sampling import distribution, draw, uniforms
from dragoman_server.decoding.step import Step
from dragoman_server.decoding.table import Ints

Choices = tuple[Ints, npt.NDArray[np.floating[Any]]]
"""Each (hypotheses,): tokens and their log-probabilities; minus infinity: there is no such token."""


class Chooser(Protocol):
    """Picks what comes next for some hypotheses, and keeps what it needs to know of each."""

    def add(self, options: DecodingOptions) -> int:
        """A request begins; returns as how many hypotheses, all of them in one row at first."""

    def keep(self, indices: list[int]) -> None:
        """Only these hypotheses go on."""

    def choose(self, rows: Ints, step: Step) -> Choices:
        """Of the hypotheses in these rows."""


class Likeliest:
    """Greedy; with alternatives, each of the likeliest first tokens begins a hypothesis."""

    def __init__(self) -> None:
        self._ranks: Ints = np.zeros(0, np.int64)

    def add(self, options: DecodingOptions) -> int:
        """As ``Chooser`` says."""
        count = max(1, options.alternatives)
        self._ranks = np.append(self._ranks, np.arange(count))
        return count

    def keep(self, indices: list[int]) -> None:
        """As ``Chooser`` says."""
        self._ranks = self._ranks[indices]

    def choose(self, rows: Ints, step: Step) -> Choices:
        """As ``Chooser`` says."""
        choices = step.candidates.ids[rows, self._ranks], step.candidates.log_probs[rows, self._ranks]
        self._ranks[:] = 0
        return choices


class _Numbers:
    """The random numbers of each sample, one for each step."""

    def __init__(self) -> None:
        self._series: list[npt.NDArray[np.float64]] = []

    def add(self, options: DecodingOptions) -> int:
        assert options.sampling
        seed, count = options.sampling.seed, options.num_hypotheses
        first, end = options.sampling.first, options.sampling.first + options.max_length
        self._series += [uniforms(seed, sample, end)[first:] for sample in range(count)]
        return count

    def keep(self, indices: list[int]) -> None:
        self._series = [self._series[index] for index in indices]

    def at(self, steps: Sequence[int]) -> list[float]:
        return [series[step] for series, step in zip(self._series, steps, strict=True)]


class CandidateSampler:
    """Draws from no more than the ``top_k`` candidates that the graph gives, for all hypotheses at one time."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._numbers = _Numbers()
        self._truncations = Truncations()

    def add(self, options: DecodingOptions) -> int:
        """As ``Chooser`` says."""
        assert options.sampling
        count = self._numbers.add(options)
        self._truncations.add(options.sampling, count)
        return count

    def keep(self, indices: list[int]) -> None:
        """As ``Chooser`` says."""
        self._numbers.keep(indices)
        self._truncations.keep(indices)

    def choose(self, rows: Ints, step: Step) -> Choices:
        """As ``Chooser`` says."""
        # Always of the same width, whoever else is there: sums are rounded by it.
        ids = step.candidates.ids[rows, : self._top_k]
        log_probs = step.candidates.log_probs[rows, : self._top_k]
        numbers = np.array(self._numbers.at(step.table.steps[rows].tolist()))
        columns = draw_columns(ids, log_probs, self._truncations, numbers)
        at = np.arange(len(rows))
        return ids[at, columns], log_probs[at, columns]


class VocabularySampler:
    """Draws from the whole vocabulary, one hypothesis after the other."""

    def __init__(self) -> None:
        self._options: list[DecodingOptions] = []
        self._numbers = _Numbers()

    def add(self, options: DecodingOptions) -> int:
        """As ``Chooser`` says."""
        count = self._numbers.add(options)
        self._options += [options] * count
        return count

    def keep(self, indices: list[int]) -> None:
        """As ``Chooser`` says."""
        self._numbers.keep(indices)
        self._options = [self._options[index] for index in indices]

    def choose(self, rows: Ints, step: Step) -> Choices:
        """As ``Chooser`` says."""
        ids, log_probs = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
        numbers = self._numbers.at(step.table.steps[rows].tolist())
        for index, (row, options, number) in enumerate(zip(rows.tolist(), self._options, numbers, strict=True)):
            assert options.sampling
            logits, offset = step.candidates.vocabulary(row)
            ids[index] = drawn = draw(distribution(logits, options.sampling), number)
            log_probs[index] = logits[drawn] + offset
        return ids, log_probs
