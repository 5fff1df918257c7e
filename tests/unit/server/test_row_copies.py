"""Copies between rows of the caches: numpy's and the compiled ones do the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman_server.row_copies import copies_of
from dragoman_server.row_memory import HostVectors
from dragoman_server.rows import Moves

CACHES, ROWS, HEADS, TIME = 3, 9, 2, 7
Copies = list[tuple[int, int, int, int]]


def caches(head_dim: int, dtype: npt.DTypeLike, heads: int = HEADS) -> npt.NDArray[Any]:
    return np.random.default_rng(1).integers(-128, 128, (CACHES, ROWS, heads, TIME, head_dim)).astype(dtype)


@st.composite
def copies(draw: st.DrawFn) -> Copies:
    """(source, target, begin, end): no row is both source and target, and no target comes twice."""
    rows = draw(st.permutations(range(ROWS)))
    targets = draw(st.integers(0, ROWS - 1))
    found = []
    for target in rows[:targets]:
        begin = draw(st.integers(0, TIME))
        found.append((draw(st.sampled_from(rows[targets:])), target, begin, draw(st.integers(begin, TIME))))
    return found


@pytest.mark.parametrize(("head_dim", "dtype"), [(16, np.int8), (5, np.float32)])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=copies())
def test_rows_are_copied(compiled: Path, head_dim: int, dtype: npt.DTypeLike, wanted: Copies) -> None:
    expected = caches(head_dim, dtype)
    for source, target, begin, end in wanted:
        expected[:, target, :, begin:end] = expected[:, source, :, begin:end]
    sources, targets, begins, ends = np.array(wanted, np.int64).reshape(-1, 4).T
    for library in (None, compiled):
        found = caches(head_dim, dtype)
        copies_of(found, library).copy(sources, targets, begins, ends.astype(np.int32))
        np.testing.assert_array_equal(found, expected)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=copies(), known=st.booleans())
@pytest.mark.parametrize("heads", [HEADS, 200])  # with and without the interpreter's lock
def test_siblings_get_what_they_do_not_have(compiled: Path, heads: int, wanted: Copies, known: bool) -> None:
    lengths = np.random.default_rng(5).integers(0, TIME + 1, ROWS).astype(np.int32)
    expected = caches(16, np.int8, heads)
    kept = [min(begin, lengths[source]) for source, _, begin, _ in wanted]
    for begin, (source, target, _, _) in zip(kept, wanted, strict=True):
        expected[:, target, :, begin : lengths[source]] = expected[:, source, :, begin : lengths[source]]
    sources, targets = np.array(wanted, np.int64).reshape(-1, 4).T[:2].copy()
    begins = np.array(kept, np.int64)
    addresses = sources.ctypes.data, targets.ctypes.data, begins.ctypes.data
    moves = Moves(sources, targets, begins, siblings=True, addresses=addresses if known else None)
    for library in (None, compiled):
        found = caches(16, np.int8, heads)
        copies_of(found, library).copy_siblings(moves, lengths)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("head_dim", "dtype"), [(16, np.int8), (5, np.float32)])
def test_rows_are_written_from_packed_tokens(compiled: Path, head_dim: int, dtype: npt.DTypeLike) -> None:
    rows, begins, lengths = [4, 0, 8], np.array([0, 5, 6]), np.array([5, 1, 7])
    values = np.random.default_rng(2).integers(-128, 128, (CACHES, HEADS, 13, head_dim)).astype(dtype)
    expected = caches(head_dim, dtype)
    for row, begin, length in zip(rows, begins, lengths, strict=True):
        expected[:, row, :, :length] = values[:, :, begin : begin + length]
    # Values may lie in any order of axes, as an encoder's output does.
    turned = np.ascontiguousarray(values.transpose(2, 0, 1, 3)).transpose(1, 2, 0, 3)
    for library in (None, compiled):
        for given_values in (values, turned):
            found = caches(head_dim, dtype)
            copies_of(found, library).write(rows, begins, lengths, given_values)
            np.testing.assert_array_equal(found, expected)


def test_vectors_are_copied(compiled: Path) -> None:
    given_values = np.random.default_rng(3).normal(size=(CACHES, ROWS, 1, 12)).astype(np.float32)
    sources, targets = np.array([2, 5, 2]), np.array([7, 0, 1])
    expected = given_values.copy()
    expected[:, targets] = given_values[:, sources]
    for library in (None, compiled):
        found = given_values.copy()
        HostVectors(found, library).copy(sources, targets)
        np.testing.assert_array_equal(found, expected)
