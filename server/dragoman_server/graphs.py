"""What a bundle's graphs must look like, in terms that all families share, and whether a file does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime as ort

CACHE_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int8)": "int8"}
"""Element types that a cache may have: onnxruntime's name -> numpy's."""

INT64, INT32, FLOAT = ("tensor(int64)",), ("tensor(int32)",), ("tensor(float)",)
FLOATS = ("tensor(float)", "tensor(float16)")
CACHE = tuple(CACHE_TYPES)
"""Types of a ``Port``."""


class Port(NamedTuple):
    """An input or output: its allowed types, and its shape with None for a dimension that must stay dynamic."""

    types: tuple[str, ...]
    shape: tuple[int | None, ...]


class Signature(NamedTuple):
    """A graph's inputs and outputs by name."""

    inputs: dict[str, Port]
    outputs: dict[str, Port]


def check_graph(label: str, path: Path, signature: Signature, faults: list[str]) -> dict[str, str]:
    """Add the graph's faults; returns the type of each port by name, empty where the file cannot be read."""
    try:
        session = _ports_session(path)
    except Exception as error:  # onnxruntime raises many types that share no base of their own
        faults.append(f"{label} {path.name}: onnxruntime cannot load it: {error}")
        return {}
    types: dict[str, str] = {}
    sides = (("input", session.get_inputs(), signature.inputs), ("output", session.get_outputs(), signature.outputs))
    for side, ports, expected in sides:
        found = {port.name: port for port in ports}
        faults += [f"{label} {side} {name}: missing" for name in expected.keys() - found.keys()]
        faults += [f"{label} {side} {name}: unknown" for name in found.keys() - expected.keys()]
        for name in expected.keys() & found.keys():
            types[name] = found[name].type
            faults += [
                f"{label} {side} {name}: {fault}"
                for fault in _port_faults(found[name].type, found[name].shape, expected[name])
            ]
    return types


def cache_type(decoder: Path) -> str:
    """The element type of the caches of a decoder that was checked, by numpy's name."""
    types = {port.type for port in _ports_session(decoder).get_inputs() if port.name.startswith("past_key_")}
    return CACHE_TYPES[types.pop()]


def _ports_session(path: Path) -> Any:
    """Only the ports are wanted: no time for optimising, no memory for packing."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _port_faults(element: str, shape: list[int | str | None], expected: Port) -> Iterator[str]:
    if element not in expected.types:
        yield f"type {element}, expected {' or '.join(expected.types)}"
    if len(shape) != len(expected.shape):
        yield f"rank {len(shape)}, expected {len(expected.shape)}"
        return
    for axis, (size, wanted) in enumerate(zip(shape, expected.shape, strict=True)):
        if isinstance(size, int) and size != wanted:
            yield f"dimension {axis} is {size}, expected {'a dynamic one' if wanted is None else wanted}"


# Where tensors can stand in an ONNX file: message -> field number -> message (onnx.proto, stable since IR version 3).
_CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def external_locations(model: bytes) -> set[str]:
    """The paths of all files outside the ONNX file that it takes weights from, as written there.

    Reads the protobuf wire format directly, since a server has no ``onnx``. ValueError where the bytes are no protobuf.
    """
    locations: set[str] = set()
    stack = [("model", memoryview(model))]
    while stack:
        message, data = stack.pop()
        if message == "entry":
            entry = {number: bytes(value) for number, value in _fields(data)}
            if entry.get(1) == b"location":
                locations.add(entry.get(2, b"").decode("utf-8", "replace"))
            continue
        children = _CHILDREN[message]
        stack += [(children[number], value) for number, value in _fields(data) if number in children]
    return locations


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        match key & 7:
            case 0:
                _, position = _varint(data, position)
            case 1:
                position += 8
            case 2:
                size, position = _varint(data, position)
                if position + size > len(data):
                    raise ValueError("a field runs over the end of its message")
                yield key >> 3, data[position : position + size]
                position += size
            case 5:
                position += 4
            case wire_type:
                raise ValueError(f"unknown wire type {wire_type}")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number runs over the end of its message")
