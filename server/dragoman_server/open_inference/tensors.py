"""Tensors of the Open Inference Protocol: texts read from messages, results written into them.

A message holds all its tensors raw (``raw_input_contents``, ``raw_output_contents``) or all of them in typed fields.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np

from dragoman_protos.open_inference import open_inference_pb2
from dragoman_server.errors import Violation
from dragoman_server.service.texts import shortened

MOST_RANK = 2
_LENGTH = struct.Struct("<I")
_Input = open_inference_pb2.ModelInferRequest.InferInputTensor


class Datatype(Enum):
    """The protocol's names of the datatypes that are used here."""

    BYTES = "BYTES"
    FP32 = "FP32"
    BOOL = "BOOL"
    UINT32 = "UINT32"


_RAW = {Datatype.FP32: "<f4", Datatype.BOOL: "?", Datatype.UINT32: "<u4"}
_FIELDS = {
    Datatype.BYTES: "bytes_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.BOOL: "bool_contents",
    Datatype.UINT32: "uint_contents",
}


@dataclass(frozen=True)
class Strings:
    """A tensor of texts, flat; ``shape`` as it was sent, of rank 1 or 2."""

    values: list[str]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Output:
    """A tensor to be sent; ``values`` flat, in row-major order."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    values: Sequence[bytes] | Sequence[float] | Sequence[int] | Sequence[bool]


def strings_of(request: open_inference_pb2.ModelInferRequest, most: int) -> tuple[dict[str, Strings], list[Violation]]:
    """The request's tensors by name, each of at most ``most`` texts, and all that is wrong with them."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        limit = f"one for each of the {len(request.inputs)} inputs"
        return {}, [Violation("raw_input_contents", f"{len(raw)} tensors", limit)]
    tensors: dict[str, Strings] = {}
    violations: list[Violation] = []
    for number, given in enumerate(request.inputs):
        field = f"inputs[{number}]"
        if given.name in tensors:
            violations.append(Violation(f"{field}.name", shortened(given.name), "each input once"))
            continue
        tensor = _strings(field, given, raw[number] if raw else None, most)
        if isinstance(tensor, Strings):
            tensors[given.name] = tensor
        else:
            violations += tensor
    return tensors, violations


def write(response: open_inference_pb2.ModelInferResponse, outputs: Sequence[Output], *, raw: bool) -> None:
    """Put the tensors into the answer, raw or in typed fields."""
    for output in outputs:
        message = response.outputs.add(name=output.name, datatype=output.datatype.value, shape=output.shape)
        if not raw:
            getattr(message.contents, _FIELDS[output.datatype]).extend(output.values)
        elif output.datatype is Datatype.BYTES:
            elements = [value for value in output.values if isinstance(value, bytes)]
            response.raw_output_contents.append(b"".join(_LENGTH.pack(len(one)) + one for one in elements))
        else:
            response.raw_output_contents.append(np.asarray(output.values, _RAW[output.datatype]).tobytes())


def _strings(field: str, given: _Input, raw: bytes | None, most: int) -> Strings | list[Violation]:
    violations = []
    if given.datatype != Datatype.BYTES.value:
        violations.append(Violation(f"{field}.datatype", shortened(given.datatype), "BYTES: UTF-8 texts"))
    shape = tuple(given.shape)
    if not 1 <= len(shape) <= MOST_RANK or any(size < 0 for size in shape):
        violations.append(Violation(f"{field}.shape", shortened(str(list(shape))), "[n] or [n, 1]"))
    elif prod(shape) > most:
        violations.append(Violation(f"{field}.shape", str(list(shape)), f"at most {most} texts"))
    if given.parameters:
        violations.append(Violation(f"{field}.parameters", f"{len(given.parameters)} of them", "none is known"))
    if violations:
        return violations
    if raw is not None and given.HasField("contents"):
        return [Violation(f"{field}.contents", "given", "empty where raw_input_contents is given")]
    elements = list(given.contents.bytes_contents) if raw is None else _elements(raw, prod(shape))
    if elements is None or len(elements) != prod(shape):
        where = f"{field}.contents.bytes_contents" if raw is None else f"raw_input_contents of {field}"
        value = "other bytes" if elements is None else f"{len(elements)} elements"
        limit = f"{prod(shape)} elements, as the shape says"
        if raw is not None:
            limit += ", each after its length as a little-endian uint32"
        return [Violation(where, value, limit)]
    values = []
    for place, element in enumerate(elements):
        try:
            values.append(element.decode("utf-8"))
        except UnicodeDecodeError:
            violations.append(Violation(f"{field}[{place}]", f"{len(element)} bytes", "UTF-8"))
    return violations or Strings(values, shape)


def _elements(raw: bytes, count: int) -> list[bytes] | None:
    """``count`` byte strings, each after its length; None where there are more, fewer, or parts of one."""
    elements = []
    place = 0
    for _ in range(count):
        if len(raw) - place < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size
        if length > len(raw) - place:
            return None
        elements.append(raw[place : place + length])
        place += length
    return elements if place == len(raw) else None
