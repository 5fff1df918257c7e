"""The libraries that onnxruntime's CUDA provider needs: in Python's packages, PyTorch's among them, or the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

_FOLDERS = "nvidia/*/lib", "torch/lib"
"""Within a folder of Python's packages: NVIDIA's own, and those that PyTorch brings with it."""


def library_names(major: int) -> Sequence[str]:
    """What has to be there for CUDA of that version, whatever is needed by others before them."""
    return (
        "libcuda.so.1",  # the driver's
        f"libcudart.so.{major}",
        f"libcublasLt.so.{major}",
        f"libcublas.so.{major}",
        "libcurand.so.10",
        # The provider loads it late: without it a session is made, and its first normalisation fails.
        "libcudnn.so.9",
    )


def load_libraries(names: Iterable[str], paths: Iterable[str], load: Callable[[str], Any] = ctypes.CDLL) -> list[str]:
    """Load them, and return the names of those that cannot be; ``paths`` are those of Python's packages.

    What is loaded already is found by its name, so that onnxruntime gets the same. It would look in the system, and
    beside itself: not in other folders of Python's packages.
    """
    folders = [folder for path in paths for pattern in _FOLDERS for folder in sorted(Path(path).glob(pattern))]
    return [name for name in names if not _loaded(name, folders, load)]


def _loaded(name: str, folders: Iterable[Path], load: Callable[[str], Any]) -> bool:
    for place in (*(str(folder / name) for folder in folders if (folder / name).is_file()), name):
        try:
            load(place)
        except OSError:
            continue
        return True
    return False
