"""What the .proto files say of each message, field, value and method: the comment that stands right before it.

The modules that protoc writes leave comments out; the files lie beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources

_FILES = ("bundle.proto", "inference.proto", "models.proto")
_PACKAGE = re.compile(r"package ([\w.]+);")
_COMMENT = re.compile(r"// ?(.*)")
_BLOCK = re.compile(r"(?:message|enum|service) (\w+) \{(\})?")
_ONE_OF = re.compile(r"oneof \w+ \{")
_METHOD = re.compile(r"rpc (\w+)\(")
_FIELD = re.compile(r"(?:.* )?(\w+) = \d+;")


@cache
def proto_comments() -> dict[str, str]:
    """By full name, a value's with that of its enum before it. Empty where the files are not installed."""
    folder = resources.files("dragoman_protos") / "v1"
    found: dict[str, str] = {}
    for name in _FILES:
        file = folder / name
        if file.is_file():
            found.update(_comments(file.read_text(encoding="utf-8").splitlines()))
    return found


def _comments(lines: list[str]) -> Iterator[tuple[str, str]]:
    scope: list[str] = []
    pending: list[str] = []
    for line in map(str.strip, lines):
        if comment := _COMMENT.fullmatch(line):
            pending.append(comment[1])
            continue
        if package := _PACKAGE.fullmatch(line):
            scope = [package[1]]
        elif line == "}":
            scope.pop()
        elif _ONE_OF.fullmatch(line):
            scope.append("")  # its fields are the message's
        elif named := _BLOCK.fullmatch(line) or _METHOD.match(line) or _FIELD.fullmatch(line):
            if pending:
                yield ".".join(filter(None, [*scope, named[1]])), "\n".join(pending)
            if named.re is _BLOCK and not named[2]:
                scope.append(named[1])
        pending = []
