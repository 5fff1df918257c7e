"""Moves cells from one tensor of a device to another, or within one, by a graph: the host never sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dragoman_server.device import Device
from dragoman_server.onnx_program import Operation, Tensor, program
from dragoman_server.sessions import lane_session

Ints = npt.NDArray[np.int64] | npt.NDArray[np.int32]


class Cells(NamedTuple):
    """Memory of a device seen as so many cells of one width: nothing else of its shape matters."""

    address: int
    number: int
    width: int


class Places(NamedTuple):
    """Cells by sums: each ``items[i] + layers[j]``, item by item, and from there as many on as a move says."""

    items: Sequence[int] | Ints
    """Of each row or token that is moved: where it begins within a layer's part."""
    layers: Ints
    """Of each cache and head: where its part begins."""


class CellMover:
    """Moves cells of one element type; ``element`` is numpy's name of it."""

    def __init__(self, device: Device, element: str) -> None:
        self._device, self._element = device, np.dtype(element)
        self._session = lane_session(_moving(element), device)
        self._zeroing = lane_session(_zeroing(element), device)

    def move(self, source: Cells, target: Cells, origins: Places, goals: Places, run: tuple[int, int] = (0, 1)) -> None:
        """Copy the cells at ``origins`` of ``source`` to ``goals`` of ``target``, which may be the same memory.

        At each place those from ``run[0]`` up to ``run[1]``, one after the other. None that is read may be written.
        """
        binding = self._session.io_binding()
        binding.bind_cpu_input("run", np.arange(*run))
        for name, (items, layers) in (("origin", origins), ("goal", goals)):
            binding.bind_cpu_input(f"{name}_items", np.array(items, np.int64)[:, None, None])
            binding.bind_cpu_input(f"{name}_layers", layers[:, None])
        self._bind(binding.bind_input, "source", source)
        self._bind(binding.bind_input, "target", target)
        self._bind(binding.bind_output, "moved", target)
        self._session.run_with_iobinding(binding)

    def zero(self, cells: Cells) -> None:
        """Make them all zeros."""
        binding = self._zeroing.io_binding()
        binding.bind_cpu_input("shape", np.array([cells.number, cells.width]))
        self._bind(binding.bind_output, "zeros", cells)
        self._zeroing.run_with_iobinding(binding)

    def _bind(self, bind: Any, name: str, cells: Cells) -> None:
        shape = [cells.number, cells.width]
        bind(name, self._device.kind, self._device.number, self._element, shape, cells.address)


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
