"""The library of compiled operators that stand in for onnxruntime's own, where there is one.

Without it everything works, with onnxruntime's operators: docs/decisions/0005-compiled-kernels.md tells the difference.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from dragoman_server.device import Device
from dragoman_server.kernels.build import LIBRARY

Kernels = Literal["auto", "builtin", "compiled"]
"""Whose operators run: the compiled ones where they help (auto), onnxruntime's (builtin), or the compiled ones."""

PORTABLE = "portable"
"""What the library calls its kernels for processors that it has no others for."""
_MULTIPLE, _LONGEST_HEAD = 16, 256

_NEWEST = ("dragoman_grow_greedily", "dragoman_advance_beams", "dragoman_append", "dragoman_copy_siblings")
"""Functions that a library of older sources lacks: it would fail in a lane."""


class KernelsUnavailableError(Exception):
    """The compiled operators cannot be had; the message says why, and what would help."""


@dataclass(frozen=True)
class KernelLibrary:
    """A library that this process can load, and the instruction set that its kernels use here."""

    path: Path
    instructions: str


def takes_heads(head_dim: int) -> bool:
    """Whether the compiled attention takes heads of so many numbers."""
    return head_dim % _MULTIPLE == 0 and 0 < head_dim <= _LONGEST_HEAD


def open_library(path: Path = LIBRARY) -> KernelLibrary:
    """Load the library; raises KernelsUnavailableError."""
    if not path.exists():
        raise KernelsUnavailableError("not compiled: with a C++ compiler, python -m dragoman_server.kernels.build")
    try:
        library = ctypes.CDLL(str(path))
        name = library.dragoman_instruction_set
        for function in _NEWEST:
            getattr(library, function)
    except (OSError, AttributeError) as error:
        raise KernelsUnavailableError(
            f"{path.name} does not load ({error}): compile it here, python -m dragoman_server.kernels.build"
        ) from error
    name.restype = ctypes.c_char_p
    return KernelLibrary(path, (name() or b"").decode())


@cache
def chosen_library(kernels: Kernels) -> Path | None:
    """The library for this setting; None: onnxruntime's operators. KernelsUnavailableError for "compiled" alone.

    "auto" leaves processors without AVX2 to onnxruntime, whose own operators are the faster ones there.
    """
    if kernels == "builtin":
        return None
    try:
        library = open_library()
    except KernelsUnavailableError:
        if kernels == "compiled":
            raise
        return None
    return library.path if kernels == "compiled" or library.instructions != PORTABLE else None


def library_for(kernels: Kernels, device: Device) -> Path | None:
    """``chosen_library`` on the processor; None on a GPU, which has onnxruntime's operators alone."""
    return chosen_library(kernels) if device.kind == "cpu" else None
