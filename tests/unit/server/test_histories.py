"""Copies of what came so far: numpy's and the compiled ones do the same, and say the same of what both had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman_server.decoding.histories import BEGINS, STEPS, TOKENS, histories_of

ROWS, FIRST, CAPACITY = 8, 6, 10
NOTHING = np.zeros(0, np.int64)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.permutations(range(ROWS)), count=st.integers(1, ROWS // 2), seed=st.integers(0, 1000))
def test_what_came_so_far_is_copied(compiled: Path, pairs: list[int], count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    numbers = np.zeros((ROWS, FIRST + CAPACITY), np.int64)
    halves = numbers[:, FIRST:].view(np.int32).reshape(ROWS, CAPACITY, 2)
    halves[:, :, 0] = random.integers(0, 2, (ROWS, CAPACITY))
    halves[:, :, 1] = random.integers(-(1 << 31), 1 << 31, (ROWS, CAPACITY))
    sources, targets = np.array(pairs[:count]), np.array(pairs[count : 2 * count])
    for source, target in zip(sources, targets, strict=True):
        steps, begin = random.integers(1, CAPACITY + 1), random.integers(0, 30)
        for row in (source, target):
            numbers[row, [STEPS, BEGINS]] = steps, begin
        at = random.integers(steps)  # one is not alike
        halves[source, at, 0] = 1 - halves[target, at, 0]
    expected = numbers.copy()
    kept = []
    for source, target in zip(sources, targets, strict=True):
        steps, begin = numbers[source, [STEPS, BEGINS]]
        same = [bool(alike) for alike in halves[source, :steps, 0] == halves[target, :steps, 0]].index(False)
        kept.append(same + begin + 1)
        expected[target, FIRST : FIRST + steps] = numbers[source, FIRST : FIRST + steps]
    for library in (None, compiled):
        found = numbers.copy()
        assert histories_of(found, FIRST, NOTHING, library).replace(sources, targets).tolist() == kept
        for row in range(ROWS):
            used = FIRST + numbers[row, STEPS]
            np.testing.assert_array_equal(found[row, :used], expected[row, :used])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.permutations(range(ROWS)), count=st.integers(1, ROWS // 2), seed=st.integers(0, 1000))
def test_rows_are_copied(compiled: Path, pairs: list[int], count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    numbers = random.integers(-(1 << 63), 1 << 63, (ROWS, FIRST + CAPACITY), dtype=np.int64)
    numbers[:, STEPS] = random.integers(0, CAPACITY + 1, ROWS)
    sources, targets = pairs[:count], pairs[count : 2 * count]
    for library in (None, compiled):
        found = numbers.copy()
        histories_of(found, FIRST, NOTHING, library).copy(np.array(sources), np.array(targets))
        for row in range(ROWS):
            origin = sources[targets.index(row)] if row in targets else row
            used = FIRST + numbers[origin, STEPS]
            np.testing.assert_array_equal(found[row, :used], numbers[origin, :used])


@pytest.mark.parametrize("count", [0, 1, 5, ROWS])
def test_rows_grow_by_a_token(compiled: Path, count: int) -> None:
    random = np.random.default_rng(count)
    numbers = random.integers(-(1 << 63), 1 << 63, (ROWS, FIRST + CAPACITY), dtype=np.int64)
    numbers[:, STEPS] = random.integers(0, CAPACITY, ROWS)
    following = random.integers(-(1 << 63), 1 << 63, 2 * ROWS, dtype=np.int64)
    expected = numbers.copy()
    for row, number in enumerate(following[:count].tolist()):
        expected[row, FIRST + numbers[row, STEPS]] = number
        expected[row, STEPS] += 1
        expected[row, TOKENS] = (number + (1 << 31)) % (1 << 32) - (1 << 31)  # its lower half
    for library in (None, compiled):
        found = numbers.copy()
        histories_of(found, FIRST, following, library).append(count)
        np.testing.assert_array_equal(found, expected)
