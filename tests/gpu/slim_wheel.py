"""Makes a wheel with CUDA code small, for one kind of GPU: code for others becomes zeros, which compress to nothing.

``python -m tests.gpu.slim_wheel WHEEL ARCHITECTURE TARGET``, with 90 for compute capability 9.0. Nothing moves: a
library's parts stay where they are. Only for a machine that is hard to reach; figures should say that it was done.
"""

from __future__ import annotations

import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_MAGIC = struct.pack("<I", 0xBA55ED50)
"""Of a fat binary: code of the same kernels for several architectures."""
_BINARY_HEADER = struct.Struct("<4xHHQ")
"""Version, size of the header, size of what follows."""
_ENTRY_HEADER = struct.Struct("<HHIQ12xI")
"""Kind, version, size of the header, size of the code, architecture."""
_PTX, _ELF = 1, 2
_UNUSED = ("libonnxruntime.so", "libonnxruntime_providers_tensorrt.so")
"""What onnxruntime's Python module does not load for CUDA."""


class Entry(NamedTuple):
    """Code for one architecture."""

    kind: int
    architecture: int
    begin: int
    end: int


def slimmed(library: bytes, architecture: int) -> bytes:
    """The library with zeros for the code of other architectures, where there is machine code for this one."""
    slim = bytearray(library)
    for entries in fat_binaries(library):
        if not any(entry.kind == _ELF and entry.architecture == architecture for entry in entries):
            continue
        for entry in entries:
            if entry.architecture != architecture:
                slim[entry.begin : entry.end] = bytes(entry.end - entry.begin)
    return bytes(slim)


def fat_binaries(library: bytes) -> Iterator[list[Entry]]:
    """The entries of each; a place that only looks like one is passed over."""
    at = library.find(_MAGIC)
    while at >= 0:
        entries, end = _entries(library, at)
        if entries:
            yield entries
        at = library.find(_MAGIC, end)


def _entries(library: bytes, at: int) -> tuple[list[Entry], int]:
    """Of the fat binary there, and where it ends."""
    nothing: list[Entry] = []
    version, header, size = _BINARY_HEADER.unpack_from(library, at)
    end = at + header + size
    if version != 1 or header != _BINARY_HEADER.size or end > len(library):
        return nothing, at + len(_MAGIC)
    entries, place = [], at + header
    while place < end:
        kind, _, own, code, architecture = _ENTRY_HEADER.unpack_from(library, place)
        begin = place + own
        if kind not in (_PTX, _ELF) or own < _ENTRY_HEADER.size or begin + code > end:
            return nothing, at + len(_MAGIC)
        entries.append(Entry(kind, architecture, begin, begin + code))
        place = begin + code
    return entries, end


def main(wheel: str, architecture: str, target: str) -> None:
    """Write the wheel anew, its other files as they are; those that are not used here are left out."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as slim:
        for file in source.infolist():
            if Path(file.filename).name.startswith(_UNUSED):
                continue
            content = source.read(file)
            if file.filename.endswith("_cuda.so"):
                content = slimmed(content, int(architecture))
            slim.writestr(file, content, zipfile.ZIP_DEFLATED, 9)
    sizes = (Path(path).stat().st_size >> 20 for path in (wheel, target))
    print("{} MiB are {} MiB now".format(*sizes))


if __name__ == "__main__":
    main(*sys.argv[1:])
