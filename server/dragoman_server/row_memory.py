"""The memory of a lane's rows: caches, and what a step reads and gives. Here that of the processor, numpy's arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnxruntime as ort

from dragoman_server.row_copies import Array, Ints, Lengths, copies_of
from dragoman_server.rows import Moves

__all__ = ["Array", "Binding", "HostCaches", "HostMemory", "Ints", "Part", "RowCaches", "RowMemory", "RowVectors"]


class RowCaches(Protocol):
    """The caches of all layers as one array (caches, rows, num_heads, time, head_dim), zeroed at first."""

    def copy(self, sources: Ints, targets: Ints, begins: Ints, ends: Ints) -> None:
        """Copy positions of rows to others, each (copies,), the positions of each its own; no row is both.

        Positions before ``begins`` must be alike already: they may be copied too.
        """

    def copy_siblings(self, moves: Moves, lengths: Lengths) -> None:
        """Copy what siblings do not have in common; ``lengths`` (rows,) are those of all rows."""

    def write(self, rows: Sequence[int], begins: Ints, lengths: Ints, values: Any) -> None:
        """Each row starts with its positions, which begin there in ``values`` (caches, num_heads, time, head_dim)."""

    def take(self, row: int, staging: RowCaches, length: int) -> None:
        """The row starts with the first positions of row 0 of other caches of the same memory."""

    def read(self, row: int, length: int) -> Array:
        """A copy of a row's first positions, for comparing: (caches, num_heads, length, head_dim)."""


class RowVectors(Protocol):
    """A vector of each row and layer, (vectors, rows, 1, size), zeroed at first."""

    def copy(self, sources: Ints, targets: Ints) -> None:
        """Copy those of rows to others, each (copies,); no row is both."""

    def write(self, rows: Sequence[int], values: Any) -> None:
        """Those of the rows are ``values`` (vectors, len(rows), 1, size)."""

    def read(self, row: int) -> Array:
        """A copy of a row's, for comparing: (vectors, 1, size)."""


class Part(NamedTuple):
    """One of the caches or vectors that a step reads, and the graph's names for that."""

    past: str
    present: str | None
    """None: it is not written."""
    whole: RowCaches | RowVectors
    """Of the memory that binds it."""
    number: int
    """Which of them."""


class Binding(Protocol):
    """A step over so many rows, with all that it reads and writes."""

    def run(self) -> None:
        """Run it: the bound arrays of the outputs are rewritten."""

    def run_for(self, name: str) -> Array:
        """Run it, and return one output more, in an array as large as that turns out to be."""


class RowMemory(Protocol):
    """Makes the caches of one kind of memory, and runs sessions over them."""

    @property
    def fixed_lengths(self) -> bool:
        """Whether the longest row is always said to be as long as a row may be, so that nothing but row counts vary."""

    def caches(self, shape: tuple[int, int, int, int, int], element: str) -> RowCaches:
        """Of that shape; ``element`` is numpy's name of their type."""

    def vectors(self, shape: tuple[int, int, int, int], element: str) -> RowVectors:
        """Of that shape; ``element`` is numpy's name of their type."""

    def bind(
        self,
        session: Any,
        rows: int,
        inputs: Mapping[str, Array],
        parts: Iterable[Part],
        outputs: Mapping[str, Array],
        *,
        steady: bool = True,
    ) -> Binding:
        """A step over the first ``rows`` rows. Arrays are the host's: their contents are read and written by each run.

        Caches are bound as input and output, so written in place. ``steady``: scalars are the same in
        each run, so that runs may be captured, by the first of them.
        """

    def run(self, session: Any, names: Sequence[str], feeds: dict[str, Array]) -> list[Any]:
        """Outputs of a session, as ``write`` of this memory's caches and vectors takes them."""


class HostCaches:
    """``RowCaches`` in an array of the host; ``library`` has compiled copies, None: numpy copies."""

    def __init__(self, array: Array, library: Path | None = None) -> None:
        self.array = array
        self._copies = copies_of(array, library)

    def copy(self, sources: Ints, targets: Ints, begins: Ints, ends: Ints) -> None:
        """As ``RowCaches`` says."""
        self._copies.copy(sources, targets, begins, ends)

    def copy_siblings(self, moves: Moves, lengths: Lengths) -> None:
        """As ``RowCaches`` says."""
        self._copies.copy_siblings(moves, lengths)

    def write(self, rows: Sequence[int], begins: Ints, lengths: Ints, values: Array) -> None:
        """As ``RowCaches`` says."""
        self._copies.write(rows, begins, lengths, values)

    def take(self, row: int, staging: RowCaches, length: int) -> None:
        """As ``RowCaches`` says."""
        assert isinstance(staging, HostCaches)
        self.array[:, row, :, :length] = staging.array[:, 0, :, :length]

    def read(self, row: int, length: int) -> Array:
        """As ``RowCaches`` says."""
        return self.array[:, row, :, :length].copy()


class HostVectors:
    """``RowVectors`` in an array of the host; ``library`` as above."""

    def __init__(self, array: Array, library: Path | None = None) -> None:
        self.array = array
        # To the library they are caches of one head and one position.
        self._copies = None if library is None else copies_of(array[:, :, None], library)
        self._begins, self._ends = np.zeros(array.shape[1], np.int64), np.ones(array.shape[1], np.int64)

    def copy(self, sources: Ints, targets: Ints) -> None:
        """As ``RowVectors`` says."""
        if self._copies is None:
            self.array[:, targets] = self.array[:, sources]
        else:
            count = len(sources)
            self._copies.copy(sources, targets, self._begins[:count], self._ends[:count])

    def write(self, rows: Sequence[int], values: Array) -> None:
        """As ``RowVectors`` says."""
        if len(rows) == 1:
            self.array[:, rows[0]] = values[:, 0]
        else:
            self.array[:, np.array(rows)] = values

    def read(self, row: int) -> Array:
        """As ``RowVectors`` says."""
        return self.array[:, row].copy()


class HostBinding:
    """A binding to the memory of numpy's arrays."""

    def __init__(self, session: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        self.session, self.values = session, session.io_binding()
        for name, array in inputs.items():
            self.values.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            self.values.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))

    def run(self) -> None:
        """As ``Binding`` says."""
        self.session.run_with_iobinding(self.values)

    def run_for(self, name: str) -> Array:
        """As ``Binding`` says."""
        # Bound anew for each run: what the run before has allocated may not fit. Comes after all others.
        self.values.bind_output(name, "cpu")
        self.session.run_with_iobinding(self.values)
        found: Array = self.values.get_outputs()[-1].numpy()
        return found


class HostMemory:
    """The processor's memory."""

    fixed_lengths = False

    def __init__(self, library: Path | None = None) -> None:
        self._library = library

    def caches(self, shape: tuple[int, int, int, int, int], element: str) -> HostCaches:
        """As ``RowMemory`` says. A row takes memory when it is first written."""
        return HostCaches(np.zeros(shape, element), self._library)

    def vectors(self, shape: tuple[int, int, int, int], element: str) -> HostVectors:
        """As ``RowMemory`` says."""
        return HostVectors(np.zeros(shape, element), self._library)

    def bind(
        self,
        session: Any,
        rows: int,
        inputs: Mapping[str, Array],
        parts: Iterable[Part],
        outputs: Mapping[str, Array],
        *,
        steady: bool = True,
    ) -> HostBinding:
        """As ``RowMemory`` says."""
        binding = HostBinding(session, inputs, outputs)
        for past, present, whole, number in parts:
            assert isinstance(whole, HostCaches | HostVectors)
            value = ort.OrtValue.ortvalue_from_numpy(whole.array[number, :rows])
            binding.values.bind_ortvalue_input(past, value)
            if present is not None:
                binding.values.bind_ortvalue_output(present, value)
        return binding

    def run(self, session: Any, names: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
        """As ``RowMemory`` says: arrays."""
        values: list[Array] = session.run(list(names), feeds)
        return values
