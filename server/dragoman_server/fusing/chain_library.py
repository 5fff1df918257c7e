"""Hands chains of linear maps to the library of compiled operators, which packs their weights once for all lanes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_server.fusing.graph_view import Constant
from dragoman_server.fusing.linear_units import LinearMap, Unit

_NOTHING, _SECOND_INPUT = -2, -1
"""What a unit adds, besides an earlier unit's result: as ``kernels/chain.h`` says."""


class ChainLibrary:
    """The library's C functions for building chains. It is loaded once for each process and never let go."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
        self._begin, self._unit = library.dragoman_chain_begin, library.dragoman_chain_unit
        self._linear, self._release = library.dragoman_chain_linear, library.dragoman_chain_release
        self._begin.restype, self._begin.argtypes = number, []
        self._unit.restype = self._linear.restype = self._release.restype = None
        self._unit.argtypes = [number, pointer, pointer, size, ctypes.c_float, number, ctypes.c_int]
        self._linear.argtypes = [number, pointer, size, size, ctypes.c_float, ctypes.c_int32, pointer, pointer]
        self._release.argtypes = [number]
        self.has_chains = bool(library.dragoman_has_chains())
        """Whether the processor has the instructions that chains are made of."""

    def build(self, units: Sequence[Unit], kept: Sequence[bool]) -> int:
        """A chain's number, under which it is known until it is released; ``kept`` are the units whose results are
        read."""
        chain: int = self._begin()
        outputs = {unit.output: place for place, unit in enumerate(units)}
        for unit, keep in zip(units, kept, strict=True):
            addend = _NOTHING if unit.addend is None else outputs.get(unit.addend, _SECOND_INPUT)
            norm = unit.norm
            scales, biases = (None, None) if norm is None else (_floats(norm.scales), _floats(norm.biases))
            epsilon = 0.0 if norm is None else norm.epsilon
            self._unit(chain, _address(scales), _address(biases), unit.depth, epsilon, addend, keep)
            for linear in unit.linears:
                self._add_linear(chain, linear)
        return chain

    def release(self, chain: int) -> None:
        """Sessions that were made with the chain keep it."""
        self._release(chain)

    def _add_linear(self, chain: int, linear: LinearMap) -> None:
        weights, scales = np.ascontiguousarray(linear.weights), _floats(linear.scales)
        bias = None if linear.bias is None else _floats(linear.bias)
        scale, zero_point = float(linear.scale.item()), int(linear.zero_point.item())
        self._linear(
            chain, _address(weights), *linear.weights.shape, scale, zero_point, _address(scales), _address(bias)
        )


def _floats(values: Constant) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)


def _address(array: npt.NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
