"""glibc's heaps: their free ends are bounded, and their holes are given back."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_MIB = 1 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of <malloc.h>."""
_LONGEST_END = 8 * _MIB
_MAPPED = 32 * _MIB
"""The most that glibc takes: what a step frees and allocates again is not to be mapped each time."""


def bound_heap() -> None:
    """Let the free end of a thread's heap be 8 MiB at most; nothing without glibc, or where the environment says how.

    By itself glibc raises that bound to twice the largest block that was ever freed, and ``trim`` does not reach the
    ends of heaps other than the first: each of a dozen would keep what was once loaded by its thread.
    """
    _set(_M_MMAP_THRESHOLD, _MAPPED)
    _set(_M_TRIM_THRESHOLD, _LONGEST_END)


@contextlib.contextmanager
def ends_going_back() -> Iterator[None]:
    """What is freed meanwhile at the end of a thread's heap goes back at once, where ``bound_heap`` has effect.

    For a moment only: a step that allocates and frees the logits of all rows would take their memory anew each time.
    """
    _set(_M_TRIM_THRESHOLD, 0)
    try:
        yield
    finally:
        _set(_M_TRIM_THRESHOLD, _LONGEST_END)


def _set(parameter: int, value: int) -> None:
    if any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(parameter, value)


def trim() -> None:
    """Give every free page of the heap back; a few milliseconds for a hundred MiB. Nothing without glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
