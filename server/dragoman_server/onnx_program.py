"""Writes small ONNX graphs as bytes: a server has no ``onnx``, and moves what lies on a device by graphs of its own.

The fields are those of onnx.proto, whose numbers have been stable since IR version 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_IR_VERSION, _OPSET = 8, 17
_ELEMENTS = {"float32": 1, "int8": 3, "int32": 6, "int64": 7, "float16": 10}
"""numpy's names of element types, and ONNX's numbers."""
_INT, _TENSOR = 2, 4
"""Kinds of attributes."""


class Operation(NamedTuple):
    """One node of the default domain, with attributes that are integers or tensors of one integer."""

    operator: str
    inputs: Sequence[str]
    output: str
    attributes: Mapping[str, int | npt.NDArray[np.generic]] = {}


class Tensor(NamedTuple):
    """An input or output of a graph: numpy's name of its element type, and a shape with None where it is open."""

    name: str
    element: str
    shape: Sequence[int | None]


def program(
    operations: Sequence[Operation],
    inputs: Sequence[Tensor],
    output: Tensor,
    constants: Mapping[str, npt.NDArray[np.int64]],
) -> bytes:
    """An ONNX model that carries out the operations, in their order."""
    graph = b"".join(_field(1, _node(operation)) for operation in operations) + _field(2, b"program")
    graph += b"".join(_field(5, _constant(name, value)) for name, value in constants.items())
    graph += b"".join(_field(11, _port(tensor)) for tensor in inputs) + _field(12, _port(output))
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, _OPSET))


def _node(operation: Operation) -> bytes:
    node = b"".join(_field(1, name.encode()) for name in operation.inputs)
    node += _field(2, operation.output.encode()) + _field(3, operation.output.encode())
    node += _field(4, operation.operator.encode())
    return node + b"".join(_field(5, _attribute(name, value)) for name, value in operation.attributes.items())


def _attribute(name: str, value: int | npt.NDArray[np.generic]) -> bytes:
    if isinstance(value, int):
        return _field(1, name.encode()) + _field(3, value) + _field(20, _INT)
    return _field(1, name.encode()) + _field(5, _constant("", value)) + _field(20, _TENSOR)


def _constant(name: str, value: npt.NDArray[np.generic]) -> bytes:
    dimensions = b"".join(_field(1, size) for size in value.shape)
    return dimensions + _field(2, _ELEMENTS[value.dtype.name]) + _field(8, name.encode()) + _field(9, value.tobytes())


def _port(tensor: Tensor) -> bytes:
    dimensions = [
        _field(2, f"{tensor.name}_{axis}".encode()) if size is None else _field(1, size)
        for axis, size in enumerate(tensor.shape)
    ]
    shape = b"".join(_field(1, dimension) for dimension in dimensions)
    kind = _field(1, _ELEMENTS[tensor.element]) + _field(2, shape)
    return _field(1, tensor.name.encode()) + _field(2, _field(1, kind))


def _field(number: int, value: int | bytes) -> bytes:
    """One field of a message: a number that is not negative, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
