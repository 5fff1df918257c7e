"""Writes docs/api.md from the protos and their comments: ``python -m tests.docs.api_reference``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"
_FOLDER = "dragoman_protos/v1"
_PROTOS = (f"{_FOLDER}/inference.proto", f"{_FOLDER}/models.proto", f"{_FOLDER}/bundle.proto")
_PACKAGE = ".dragoman.v1."
_Kind = FieldDescriptorProto
# Where a descriptor's parts stand in its file's list of source locations (descriptor.proto).
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _NESTED_ENUMS, _METHODS, _VALUES = 2, 3, 4, 2, 2

_HEAD = """\
# API reference

Made from the [protos](../protos/dragoman_protos/v1) by `make proto`; their comments say what each field means, its
range, and what its absence means. The Python client has the same names ([README](../README.md)); the JSON API sends
the same messages as JSON ([HTTP](http.md)). Beside these services the port speaks `grpc.health.v1`, the [Open Inference
Protocol](open-inference.md) and, where it is switched on, reflection.

Every method can end with `UNAUTHENTICATED` and `PERMISSION_DENIED` ([security](security.md)), `UNAVAILABLE` (starting,
or draining), `DEADLINE_EXCEEDED`, `CANCELLED`, and `INTERNAL` with an incident id and nothing else.
"""


def reference() -> str:
    """The page."""
    parsed = _parsed()
    parts = [_HEAD]
    for file in parsed:
        comments = _Comments(file)
        for number, service in enumerate(file.service):
            parts.append(_service(service, comments, (_SERVICES, number)))
    for file in parsed:
        comments = _Comments(file)
        parts.append(f"## {Path(file.name).name}\n")
        for number, message in enumerate(file.message_type):
            parts += _message(message, comments, (_MESSAGES, number), "")
        for number, enum in enumerate(file.enum_type):
            parts.append(_enum(enum, comments, (_ENUMS, number), ""))
    return "\n".join(parts)


def _parsed() -> list[FileDescriptorProto]:
    """The files with their comments."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "protos"
        known = files("grpc_tools") / "_proto"
        arguments = ["protoc", f"-I{ROOT / 'protos'}", f"-I{known}", "--include_source_info"]
        status = protoc.main([*arguments, f"--descriptor_set_out={output}", *_PROTOS])
        assert status == 0, "protoc says why"
        found = {file.name: file for file in FileDescriptorSet.FromString(output.read_bytes()).file}
    return [found[name] for name in _PROTOS]


class _Comments:
    """By the place in the file's descriptor."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._texts = {
            tuple(location.path): f"{location.leading_comments}{location.trailing_comments}"
            for location in file.source_code_info.location
        }

    def lines(self, path: tuple[int, ...]) -> list[str]:
        return [line.removeprefix(" ").rstrip() for line in self._texts.get(path, "").strip().splitlines()]

    def text(self, path: tuple[int, ...]) -> str:
        """As running text."""
        return "\n".join(map(_escaped, self.lines(path)))

    def cell(self, path: tuple[int, ...]) -> str:
        """As the cell of a table."""
        return " ".join(map(_escaped, self.lines(path))).replace("|", "\\|")


def _service(service: ServiceDescriptorProto, comments: _Comments, path: tuple[int, ...]) -> str:
    rows = ["| method | takes | gives | |", "|---|---|---|---|"]
    for number, method in enumerate(service.method):
        takes = f"{'stream of ' if method.client_streaming else ''}{_link(method.input_type)}"
        gives = f"{'stream of ' if method.server_streaming else ''}{_link(method.output_type)}"
        rows.append(f"| `{method.name}` | {takes} | {gives} | {comments.cell((*path, _METHODS, number))} |")
    return "\n".join([f"## {service.name}\n", comments.text(path), "", *rows, ""])


def _message(message: DescriptorProto, comments: _Comments, path: tuple[int, ...], outer: str) -> Iterator[str]:
    if message.options.map_entry:
        return
    name = f"{outer}{message.name}"
    lines = [f"### {name}\n"]
    if text := comments.text(path):
        lines += [text, ""]
    if message.field:
        lines += ["| field | type | |", "|---|---|---|"]
        for number, field in enumerate(message.field):
            lines.append(f"| `{field.name}` | {_type(field, message)} | {comments.cell((*path, _FIELDS, number))} |")
        lines.append("")
    yield "\n".join(lines)
    for number, nested in enumerate(message.nested_type):
        yield from _message(nested, comments, (*path, _NESTED, number), f"{name}.")
    for number, enum in enumerate(message.enum_type):
        yield _enum(enum, comments, (*path, _NESTED_ENUMS, number), f"{name}.")


def _enum(enum: EnumDescriptorProto, comments: _Comments, path: tuple[int, ...], outer: str) -> str:
    lines = [f"### {outer}{enum.name}\n"]
    if text := comments.text(path):
        lines += [text, ""]
    lines += ["| value | number | |", "|---|---|---|"]
    for number, value in enumerate(enum.value):
        lines.append(f"| `{value.name}` | {value.number} | {comments.cell((*path, _VALUES, number))} |")
    return "\n".join([*lines, ""])


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if field.type in {_Kind.TYPE_MESSAGE, _Kind.TYPE_ENUM}:
        entry = next((one for one in message.nested_type if field.type_name.endswith(f".{one.name}")), None)
        if entry is not None and entry.options.map_entry:
            key, value = entry.field
            return f"map of {_type(key, entry)} to {_type(value, entry)}"
        name = _link(field.type_name)
    else:
        name = _Kind.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.HasField("oneof_index") and not field.proto3_optional:
        return f"{name}, one of `{message.oneof_decl[field.oneof_index].name}`"
    if field.label == _Kind.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def _link(full_name: str) -> str:
    name = full_name.removeprefix(_PACKAGE)
    return f"[{name}](#{name.lower().replace('.', '')})" if full_name.startswith(_PACKAGE) else f"`{name}`"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*").replace("[MASK]", "\\[MASK]").replace("[CLS]", "\\[CLS]")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    print(PAGE)
