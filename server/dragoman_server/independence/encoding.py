"""Whether a source's encoding depends on the sources that are encoded with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from dragoman_server.independence.comparison import Comparison


class EncodingRuntime(Protocol):
    """The part of a runtime that encodes, and shows what it has written."""

    @property
    def max_rows(self) -> int:
        """Rows of the caches."""

    @property
    def source_capacity(self) -> int:
        """Longest source, in tokens."""

    def encode(self, rows: Sequence[int], sources: Sequence[Sequence[int]]) -> None:
        """Encode ``sources[i]`` into row ``rows[i]``."""

    def encoded(self, row: int) -> list[npt.NDArray[Any]]:
        """Copies of what the row holds of its source."""


def sources_of_every_length(words: Sequence[int], *, first: int, last: int, longest: int, seed: int) -> list[list[int]]:
    """Two sources for each length from 1 to ``longest``, of random ``words`` between ``first`` and ``last``."""
    chance = random.Random(seed)
    return [
        [first, *chance.choices(words, k=length - 2), last] if length > 1 else [last]
        for length in range(1, longest + 1)
        for _ in range(2)
    ]


def compare_encodings(
    runtime: EncodingRuntime, sources: Sequence[Sequence[int]], *, seed: int, advance: Callable[[int], None]
) -> Comparison:
    """Encode each source by itself into row 0, then all in random company into random rows, until every row was used.

    Compared is all that the caches hold of a source: its keys and values in every layer.
    """
    comparison = Comparison()
    expected = []
    for source in sources:
        runtime.encode([0], [source])
        expected.append(runtime.encoded(0))
        advance(1)
    chance = random.Random(seed)
    for _ in range(3):
        order = list(range(len(sources)))
        chance.shuffle(order)
        while order:
            count = chance.randint(1, runtime.max_rows)
            batch, order = order[:count], order[count:]
            rows = chance.sample(range(runtime.max_rows), len(batch))
            runtime.encode(rows, [sources[index] for index in batch])
            for row, index in zip(rows, batch, strict=True):
                _compare(comparison, expected[index], runtime.encoded(row))
                comparison.tokens += len(sources[index])
            advance(len(batch))
    return comparison


def _compare(comparison: Comparison, alone: Sequence[npt.NDArray[Any]], together: Sequence[npt.NDArray[Any]]) -> None:
    comparison.requests += 1
    for one, two in zip(alone, together, strict=True):
        comparison.add_scores(one, two)
