"""Moves cells from one tensor of a device to another, or within one, by a graph: the host never sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dragoman_server.captures import CAPTURES, Captures
from dragoman_server.device import Device
from dragoman_server.onnx_program import Operation, Tensor, program
from dragoman_server.seldom_log import logger
from dragoman_server.sessions import lane_session

Ints = npt.NDArray[np.int64] | npt.NDArray[np.int32]

MOST_NUMBERS = (1 << 31) - 1
"""Of a tensor: CUDA's kernels count many things in 32 bits."""
SCRATCH = 64 << 20
"""Bytes that a move may compute with: one that needs more is made in parts."""
LEAST_SCRATCH = 1 << 20
"""Where not even that much is free, rows are not moved: parts that are smaller still would take for ever."""
_WIDEST = "int64"
_INDEX_BYTES = 48
"""Of each cell, for its places in source and target and what they are added up from."""


class Cells(NamedTuple):
    """Memory of a device seen as so many cells of one width: nothing else of its shape matters."""

    address: int
    number: int
    width: int
    """Numbers of the mover's type."""


class Places(NamedTuple):
    """Cells by sums: each ``items[i] + layers[j]``, item by item, and from there as many on as a move says."""

    items: Sequence[int] | Ints
    """Of each row or token that is moved: where it begins within a layer's part."""
    layers: Ints
    """Of each cache and head: where its part begins."""


class _Move(NamedTuple):
    """At each place the cells from ``begin`` up to ``end``, one after the other."""

    origins: Places
    goals: Places
    begin: int
    end: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """Items, layers, and cells at each place."""
        return len(self.origins.items), len(self.origins.layers), self.end - self.begin

    def halves(self) -> Iterator[_Move]:
        """The same in two parts."""
        counts = self.counts
        longest = counts.index(max(counts))
        middle = counts[longest] // 2
        if longest == 2:
            yield self._replace(end=self.begin + middle)
            yield self._replace(begin=self.begin + middle)
            return
        for part in (slice(middle), slice(middle, None)):
            origins, goals = (
                Places(places.items[part], places.layers) if longest == 0 else Places(places.items, places.layers[part])
                for places in (self.origins, self.goals)
            )
            yield self._replace(origins=origins, goals=goals)


def mover_type(size: int, element: str) -> str:
    """What numbers cells are moved as that hold so many of ``element``: those of 64 bits where they divide a cell.

    A kernel's thread then copies four of float16 at one time, and there are a quarter of them to count.
    """
    return _WIDEST if size * np.dtype(element).itemsize % np.dtype(_WIDEST).itemsize == 0 else element


class CellMover:
    """Moves cells of numbers of one type; ``element`` is numpy's name of it.

    ``scratch``: bytes that a move may compute with; at the least, where there are fewer, ``least_scratch``.
    ``captures``: those that its runs stay clear of. ``make`` makes the sessions.
    """

    def __init__(
        self,
        device: Device,
        element: str,
        *,
        scratch: int = SCRATCH,
        least_scratch: int = LEAST_SCRATCH,
        captures: Captures = CAPTURES,
        make: Callable[[bytes, Device], Any] = lane_session,
    ) -> None:
        self._device, self.element, self._captures = device, np.dtype(element), captures
        self._session = make(_moving(element), device)
        # What it makes is memory of its own that stays: the bound is that of what is computed with.
        self._zeroing = make(_zeroing(element), replace(device, arena_bytes=None))
        self._scratch, self._least_scratch = scratch, least_scratch

    def move(self, source: Cells, target: Cells, origins: Places, goals: Places, run: tuple[int, int] = (0, 1)) -> None:
        """Copy the cells at ``origins`` of ``source`` to ``goals`` of ``target``, which may be the same memory.

        At each place those from ``run[0]`` up to ``run[1]``, one after the other. None that is read may be written.
        """
        self._move(source, target, _Move(origins, goals, *run))

    def zeros(self, number: int, width: int) -> Any:
        """New memory of the device: so many cells of zeros, as a value (number, width)."""
        binding = self._zeroing.io_binding()
        binding.bind_cpu_input("shape", np.array([number, width]))
        binding.bind_output("zeros", self._device.kind, self._device.number)
        with self._captures.beside():
            self._zeroing.run_with_iobinding(binding)
        return binding.get_outputs()[0]

    def _move(self, source: Cells, target: Cells, move: _Move) -> None:
        number = prod(move.counts)
        size = number * (target.width * self.element.itemsize + _INDEX_BYTES)
        if size <= self._scratch or number == 1:
            try:
                self._run(source, target, move)
            except Exception as error:  # onnxruntime raises many types that share no base of their own
                if number == 1 or size // 2 < self._least_scratch:
                    raise
                # For want of memory, most likely. What was moved may be moved again, since nothing is both read and
                # written: better in many parts than that all who have rows fail.
                self._scratch = size // 2
                logger(__name__).warning("rows are moved in smaller parts", bytes=self._scratch, why=str(error))
            else:
                return
        for half in move.halves():
            self._move(source, target, half)

    def _run(self, source: Cells, target: Cells, move: _Move) -> None:
        binding = self._session.io_binding()
        binding.bind_cpu_input("run", np.arange(move.begin, move.end))
        for name, (items, layers) in (("origin", move.origins), ("goal", move.goals)):
            binding.bind_cpu_input(f"{name}_items", np.array(items, np.int64)[:, None, None])
            binding.bind_cpu_input(f"{name}_layers", layers[:, None])
        self._bind(binding.bind_input, "source", source)
        self._bind(binding.bind_input, "target", target)
        self._bind(binding.bind_output, "moved", target)
        with self._captures.beside():
            self._session.run_with_iobinding(binding)

    def _bind(self, bind: Any, name: str, cells: Cells) -> None:
        shape = [cells.number, cells.width]
        bind(name, self._device.kind, self._device.number, self.element, shape, cells.address)


def _moving(element: str) -> bytes:
    operations: list[Operation] = []
    for name, shape in (("origin", "list"), ("goal", "column")):
        operations += [
            Operation("Add", [f"{name}_items", f"{name}_layers"], f"{name}_places"),  # (items, layers, 1)
            Operation("Add", [f"{name}_places", "run"], f"{name}_cells"),  # (items, layers, run)
            Operation("Reshape", [f"{name}_cells", shape], f"{name}_indices"),
        ]
    operations += [
        Operation("Gather", ["source", "origin_indices"], "read", {"axis": 0}),  # (cells, width)
        # Bound to its own input, so that nothing but these cells is written.
        Operation("ScatterND", ["target", "goal_indices", "read"], "moved"),
    ]
    inputs = [Tensor(name, element, [None, None]) for name in ("source", "target")]
    for name in ("origin", "goal"):
        inputs += [Tensor(f"{name}_items", "int64", [None, 1, 1]), Tensor(f"{name}_layers", "int64", [None, 1])]
    inputs.append(Tensor("run", "int64", [None]))
    constants = {"list": np.array([-1]), "column": np.array([-1, 1])}
    return program(operations, inputs, Tensor("moved", element, [None, None]), constants)


def _zeroing(element: str) -> bytes:
    value: dict[str, int | npt.NDArray[np.generic]] = {"value": np.zeros(1, element)}
    fill = Operation("ConstantOfShape", ["shape"], "zeros", value)
    return program([fill], [Tensor("shape", "int64", [2])], Tensor("zeros", element, [None, None]), {})
