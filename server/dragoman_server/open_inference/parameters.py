"""Parameters of an inference request: fields of the task's own request, by their names."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from dragoman_protos.open_inference.open_inference_pb2 import InferParameter
from dragoman_server.errors import Violation
from dragoman_server.service.texts import shortened

_OPTIONS = "options"
_Value = bool | int | float | str
_UNSIGNED = {FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64}


def names_of(message: Message, without: Collection[str]) -> list[str]:
    """What parameters there are for a request like ``message``."""
    return sorted(_fields(message, without))


def fill(message: Message, parameters: Mapping[str, InferParameter], without: Collection[str]) -> list[Violation]:
    """Set the message's fields, and those of its ``options``; returns all faults of names and types.

    ``without`` are fields that are no parameters. Ranges are left to those who check the message itself.
    """
    fields = _fields(message, without)
    violations = []
    for name, parameter in sorted(parameters.items()):
        if name not in fields:
            limit = f"one of {', '.join(sorted(fields))}"
            violations.append(Violation("parameters", shortened(name), limit))
            continue
        owner, field = fields[name]
        kind = parameter.WhichOneof("parameter_choice")
        value = None if kind is None else _value(getattr(parameter, kind), field)
        if value is None:
            sent = "nothing" if kind is None else shortened(str(getattr(parameter, kind)))
            violations.append(Violation(f"parameters.{name}", sent, _wanted(field)))
        else:
            setattr(owner, name, value)
    return violations


def _fields(message: Message, without: Collection[str]) -> dict[str, tuple[Message, FieldDescriptor]]:
    owners = [message]
    if _OPTIONS in message.DESCRIPTOR.fields_by_name:
        owners.append(getattr(message, _OPTIONS))
    return {
        field.name: (owner, cast(FieldDescriptor, field))
        for owner in owners
        for field in owner.DESCRIPTOR.fields
        if not field.is_repeated and field.message_type is None and field.name not in without
    }


def _value(sent: _Value, field: FieldDescriptor) -> _Value | None:
    """What the field is set to; None where it cannot be."""
    kind = field.cpp_type
    value: _Value | None = None
    if kind == FieldDescriptor.CPPTYPE_STRING:
        value = sent if isinstance(sent, str) else None
    elif kind == FieldDescriptor.CPPTYPE_BOOL:
        value = sent if isinstance(sent, bool) else None
    elif kind == FieldDescriptor.CPPTYPE_ENUM:
        value = _numbers(field).get(sent) if isinstance(sent, str) else None
    elif isinstance(sent, bool):
        value = None
    elif kind in _UNSIGNED:
        value = sent if isinstance(sent, int) and 0 <= sent < 1 << _UNSIGNED[kind] else None
    elif kind == FieldDescriptor.CPPTYPE_FLOAT:
        value = _number(sent)
    return value


def _numbers(field: FieldDescriptor) -> dict[str, int]:
    """Of an enum's names."""
    assert field.enum_type is not None, "it is an enum"
    return {value.name: value.number for value in field.enum_type.values}


def _number(sent: int | float | str) -> float | None:
    """Also of a string: some clients send no floating point numbers."""
    try:
        value = float(sent)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _wanted(field: FieldDescriptor) -> str:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return f"one of {', '.join(_numbers(field))}"
    if kind in _UNSIGNED:
        return f"int64_param or uint64_param: 0 to {(1 << _UNSIGNED[kind]) - 1}"
    return {
        FieldDescriptor.CPPTYPE_STRING: "string_param",
        FieldDescriptor.CPPTYPE_BOOL: "bool_param",
    }.get(kind, "double_param, or a number as string_param")
