"""What does not fit the type of a message's field: all of it is told, where protobuf would raise at the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from google.protobuf.descriptor import FieldDescriptor

from dragoman.errors import Violation
from dragoman_protos.v1 import inference_pb2

_SHOWN = 60
NORMALISATIONS = {
    "plain": inference_pb2.LENGTH_NORMALISATION_PLAIN,
    "wu": inference_pb2.LENGTH_NORMALISATION_WU,
}
SEGMENTATIONS = {
    "auto": inference_pb2.SEGMENTATION_AUTO,
    "sentences": inference_pb2.SEGMENTATION_SENTENCES,
    "none": inference_pb2.SEGMENTATION_NONE,
}
_OPTIONS = inference_pb2.DecodingOptions.DESCRIPTOR.fields_by_name


def string_faults(field: str, value: object) -> list[Violation]:
    """The fault of what is no text."""
    if not isinstance(value, str):
        return [Violation(field, shown(value), "a string")]
    try:
        value.encode()
    except UnicodeEncodeError:
        return [Violation(field, shown(value), "text without lone surrogates")]
    return []


def choice_faults(field: str, value: object, choices: Collection[str]) -> list[Violation]:
    """The fault of what is none of the choices, nor None."""
    if value is None or (isinstance(value, str) and value in choices):
        return []
    return [Violation(field, shown(value), " or ".join(map(repr, choices)))]


def priority_faults(value: object) -> list[Violation]:
    """The fault of what no priority can be; which may be is the server's to judge."""
    fits = value is None or _is_whole(value, 32)
    return [] if fits else [Violation("priority", shown(value), "a whole number from 0 to 9")]


def whole_faults(field: str, value: object) -> list[Violation]:
    """The fault of what is no unsigned number of 32 bits, nor None."""
    fits = value is None or _is_whole(value, 32)
    return [] if fits else [Violation(field, shown(value), "a whole number from 0 to 2^32 - 1")]


def number_faults(field: str, value: object) -> list[Violation]:
    """The fault of what is no finite number, nor None."""
    fits = value is None or _is_number(value)
    return [] if fits else [Violation(field, shown(value), "a finite number")]


def option_faults(name: str, value: object) -> list[Violation]:
    """The faults of a value that does not fit the type of an option's field."""
    field, path = _OPTIONS[name], f"options.{name}"
    if field.default_value == []:
        if isinstance(value, str | bytes) or not isinstance(value, Collection):
            return [Violation(path, shown(value), "a list of strings")]
        return [fault for i, item in enumerate(value) for fault in string_faults(f"{path}[{i}]", item)]
    if field.type == FieldDescriptor.TYPE_STRING:
        return string_faults(path, value)
    fits, limit = _SCALARS[field.type]
    return [] if fits(value) else [Violation(path, shown(value), limit)]


def _is_whole(value: object, bits: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << bits


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


_SCALARS: dict[int, tuple[Callable[[object], bool], str]] = {
    FieldDescriptor.TYPE_UINT32: (lambda value: _is_whole(value, 32), "a whole number from 0 to 2^32 - 1"),
    FieldDescriptor.TYPE_UINT64: (lambda value: _is_whole(value, 64), "a whole number from 0 to 2^64 - 1"),
    FieldDescriptor.TYPE_FLOAT: (_is_number, "a finite number"),
    FieldDescriptor.TYPE_BOOL: (lambda value: isinstance(value, bool), "True or False"),
    FieldDescriptor.TYPE_ENUM: (lambda value: isinstance(value, str) and value in NORMALISATIONS, "'plain' or 'wu'"),
}


def shown(value: object) -> str:
    """A value as it is shown in an error: escaped and cut."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
