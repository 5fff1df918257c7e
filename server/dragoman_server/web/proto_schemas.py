"""JSON Schemas of messages, as json_messages reads and writes them."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from dragoman_server.web.json_messages import Json
from dragoman_server.web.proto_comments import proto_comments

_UINT32, _UINT64 = (1 << 32) - 1, (1 << 64) - 1
_ANSWERED: dict[int, Json] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": _UINT32},
    # Not every reader of JSON keeps all digits of such a number.
    FieldDescriptor.TYPE_UINT64: {"type": "string", "pattern": "^[0-9]+$"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
}
_ASKED = _ANSWERED | {
    FieldDescriptor.TYPE_UINT64: {
        "oneOf": [{"type": "integer", "minimum": 0, "maximum": _UINT64}, {"type": "string", "pattern": "^[0-9]+$"}]
    }
}


def schema_name(descriptor: Descriptor | EnumDescriptor) -> str:
    """Under which a schema stands: the message's name without the package."""
    return descriptor.full_name.removeprefix(f"{descriptor.file.package}.")


def reference(descriptor: Descriptor | EnumDescriptor) -> Json:
    """To the schema of a message or an enum."""
    return {"$ref": f"#/components/schemas/{schema_name(descriptor)}"}


def message_schemas(messages: Iterable[Descriptor], *, asked: bool) -> dict[str, Json]:
    """Schemas of the messages and of all that they hold, by name.

    ``asked``: they are sent to the server, which refuses what it does not know; otherwise they come from it, with every
    field that cannot be absent.
    """
    schemas: dict[str, Json] = {}
    left: list[Descriptor | EnumDescriptor] = list(messages)
    while left:
        descriptor = left.pop()
        name = schema_name(descriptor)
        if name in schemas:
            continue
        if isinstance(descriptor, EnumDescriptor):
            schemas[name] = _enum(descriptor)
            continue
        schemas[name] = _message(descriptor, asked=asked)
        for field in _fields(descriptor):
            found = _entry_value(field) if _is_map(field) else field
            if inner := found.message_type or found.enum_type:
                left.append(inner)
    return schemas


def _message(descriptor: Descriptor, *, asked: bool) -> Json:
    fields = _fields(descriptor)
    schema: Json = {"type": "object", **_described(descriptor.full_name)}
    schema["properties"] = {field.name: _property(field, asked=asked) for field in fields}
    if asked:
        schema["additionalProperties"] = False
    elif required := [field.name for field in fields if not field.has_presence]:
        schema["required"] = required
    return schema


def _property(field: FieldDescriptor, *, asked: bool) -> Json:
    described = _described(field.full_name)
    if _is_map(field):
        value = _value(_entry_value(field), asked=asked)
        return {"type": "object", "additionalProperties": value, **described}
    value = _value(field, asked=asked)
    return {"type": "array", "items": value, **described} if field.is_repeated else {**value, **described}


def _value(field: FieldDescriptor, *, asked: bool) -> Json:
    if inner := field.message_type or field.enum_type:
        return reference(inner)
    return dict((_ASKED if asked else _ANSWERED)[field.type])


def _enum(descriptor: EnumDescriptor) -> Json:
    comments = proto_comments()
    names = [value.name for value in descriptor.values]
    said = [f"`{name}`: {text}" for name in names if (text := comments.get(f"{descriptor.full_name}.{name}"))]
    parts = filter(None, [comments.get(descriptor.full_name), *said])
    text = "\n\n".join(parts)
    return {"type": "string", "enum": names, **({"description": text} if text else {})}


def _described(full_name: str) -> Json:
    text = proto_comments().get(full_name)
    return {} if text is None else {"description": text}


def field_message(descriptor: Descriptor, name: str) -> Descriptor:
    """The type of a field that is a message."""
    found = descriptor.fields_by_name[name].message_type
    assert found is not None
    return found


def _fields(descriptor: Descriptor) -> list[FieldDescriptor]:
    return list(descriptor.fields)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _entry_value(field: FieldDescriptor) -> FieldDescriptor:
    assert field.message_type is not None
    return field.message_type.fields_by_name["value"]
