"""Arrays in huge pages, for what is walked all over: fewer entries of the processor's address cache are needed."""

from __future__ import annotations

import contextlib
import mmap
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

_HUGE_PAGE = 2 << 20


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any], *, huge_pages: bool = True) -> npt.NDArray[Any]:
    """A zeroed array, in huge pages where the system has them: a step walks all over the caches."""
    size = prod(shape) * dtype.itemsize
    if not huge_pages or size < _HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros(shape, dtype)
    # Private, since shared memory has no huge pages unless the system is told to give it some.
    memory = mmap.mmap(-1, size + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them: ordinary pages do
        memory.madvise(mmap.MADV_HUGEPAGE)
    base = np.frombuffer(memory, np.uint8)
    start = -base.ctypes.data % _HUGE_PAGE
    return base[start : start + size].view(dtype).reshape(shape)
