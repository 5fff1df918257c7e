"""Messages of the protos as JSON, under the protos' own field names.

Messages are read field by field along their descriptors, so that every fault is named by its path, and no caller
decides how deep the reading goes (json_format by itself follows any depth, and stops at the first fault).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from dragoman_server.errors import InvalidArgument, Violation
from dragoman_server.service.texts import shortened

MessageT = TypeVar("MessageT", bound=Message)
Json = dict[str, Any]
"""An object, as the json module reads it."""

_DEEPEST: Final = 16
_LONGEST_LIST: Final = 4096
"""More than any field of a request may hold."""
_MOST_FAULTS: Final = 32
"""That are listed: a hostile body may have millions."""
_OBJECT: Final = "one JSON object in UTF-8"
_KINDS = {
    FieldDescriptor.CPPTYPE_STRING: "a string",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number from 0 to 4294967295",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number from 0 to 18446744073709551615",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
}


def parsed(body: bytes) -> Json:
    """The object that the body holds; raises InvalidArgument for whatever else it is."""
    try:
        found = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise _unreadable("nested deeper than can be read", f"at most {_DEEPEST} levels") from None
    except json.JSONDecodeError as error:
        raise _unreadable(f"no JSON at character {error.pos + 1}", _OBJECT) from None
    except UnicodeDecodeError as error:
        raise _unreadable(f"no UTF-8 at byte {error.start + 1}", _OBJECT) from None
    except ValueError:  # Python reads no number of thousands of digits
        raise _unreadable("a number that is too long", _OBJECT) from None
    if not isinstance(found, dict):
        raise _unreadable(_kind(found), _OBJECT)
    if _deeper_than(found, _DEEPEST):
        raise _unreadable(f"more than {_DEEPEST} levels", f"at most {_DEEPEST} levels")
    return found


def read_message(given: Mapping[str, object], kind: type[MessageT]) -> MessageT:
    """The message that the object stands for; raises InvalidArgument with every fault."""
    message = kind()
    if violations := list(islice(_fill(message, given, ""), _MOST_FAULTS)):
        raise InvalidArgument(violations)
    return message


def written(message: Message) -> Json:
    """The message as an object; fields that may not be absent are always there."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def encoded(value: object) -> bytes:
    """Any value as JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _fill(message: Message, given: Mapping[str, object], path: str) -> Iterator[Violation]:
    fields = cast(Mapping[str, FieldDescriptor], message.DESCRIPTOR.fields_by_name)
    for name, value in given.items():
        where = f"{path}{name}"
        field = fields.get(name)
        if field is None:
            yield Violation(_printable(where), "unknown", f"one of {', '.join(fields)}")
        elif value is None:  # proto's JSON: as if it were absent
            continue
        elif field.message_type is not None and not field.is_repeated:
            if isinstance(value, dict):
                yield from _fill(getattr(message, name), value, f"{where}.")
                getattr(message, name).SetInParent()
            else:
                yield Violation(where, _shown(value), "an object")
        elif field.is_repeated:
            yield from _set_list(message, field, value, where)
        elif not _is_scalar(value) or not _takes(message, field, value):
            yield Violation(where, _shown(value), _limit(field))


def _set_list(message: Message, field: FieldDescriptor, value: object, where: str) -> Iterator[Violation]:
    if not isinstance(value, list):
        yield Violation(where, _shown(value), "a list")
    elif len(value) > _LONGEST_LIST:
        yield Violation(where, f"{len(value)} elements", f"at most {_LONGEST_LIST}")
    elif not all(map(_is_scalar, value)) or not _takes(message, field, value):
        for number, each in enumerate(value):
            if not _is_scalar(each) or not _takes(message, field, [each]):
                yield Violation(f"{where}[{number}]", _shown(each), _limit(field))


def _takes(message: Message, field: FieldDescriptor, value: object) -> bool:
    """Whether the value was set."""
    try:
        json_format.ParseDict({field.name: value}, message)
    except (json_format.ParseError, ValueError, OverflowError):  # the last: 1e999, which Python reads as infinite
        return False
    return True


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int, float))


def _limit(field: FieldDescriptor) -> str:
    kind: EnumDescriptor | None = field.enum_type
    return f"one of {', '.join(kind.values_by_name)}" if kind is not None else _KINDS[field.cpp_type]


def _object(pairs: list[tuple[str, object]]) -> Json:
    made = dict(pairs)
    if len(made) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        doubled = (name for name, times in counts.items() if times > 1)
        faults = [Violation(_printable(name), "given twice", "once") for name in islice(doubled, _MOST_FAULTS)]
        raise InvalidArgument(faults)
    return made


def _no_constant(name: str) -> None:
    raise _unreadable(name, "a number")


def _unreadable(value: str, limit: str) -> InvalidArgument:
    return InvalidArgument([Violation("body", value, limit)])


def _deeper_than(value: object, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from (inner for inner in value.values() if isinstance(inner, (dict, list)))
    elif isinstance(value, list):
        yield from (inner for inner in value if isinstance(inner, (dict, list)))


def _shown(value: object) -> str:
    return shortened(value) if isinstance(value, str) else _kind(value)


def _kind(value: object) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case None | bool():
            return json.dumps(value)
        case _:
            return json.dumps(value)[:40]


def _printable(name: str) -> str:
    return name if name.isascii() and name.isprintable() and len(name) <= 80 else shortened(name)
