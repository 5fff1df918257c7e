"""What this process may use of the machine, read from the operating system."""

from __future__ import annotations

import ctypes
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and what of it can be given up: of cgroup version 2 and 1."""
_INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8")


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may run on: its affinity, and its container's CPU quota if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or the quota reads "max"
        return cores


def available_memory(cgroup: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that may be allocated without swapping, in a container within its limit; None where nobody says."""
    known = [size for size in (_left_in_container(cgroup), _left_in_machine(meminfo)) if size is not None]
    return min(known, default=None)


def _left_in_machine(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _left_in_container(cgroup: Path) -> int | None:
    """What is left to the limit of the cgroup; pages of files that nobody has used lately are given up at need."""
    for most, used, key in _MEMORY_FILES:
        try:
            left = int((cgroup / most).read_text()) - int((cgroup / used).read_text())
            lines = (cgroup / Path(used).with_name("memory.stat")).read_text().splitlines()
            return max(0, left + sum(int(line.split()[1]) for line in lines if line.split()[0] == key))
        except (OSError, ValueError, IndexError):  # no such file, or the limit reads "max"
            continue
    return None


def resident_memory() -> int | None:
    """Bytes of memory that this process holds; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


class Heap(NamedTuple):
    """Bytes of what the C library's malloc manages, of all its arenas."""

    used: int
    """Allocated, and not freed."""
    free: int
    """Freed, and not given back to the system: holes between what is used."""


def heap() -> Heap | None:
    """What this process has allocated by malloc, which is numpy's and onnxruntime's; None for another C library.

    Resident memory wanders by the holes, which come and go; what is used does not.
    """
    try:
        read = ctypes.CDLL(None).mallinfo2  # glibc from 2.33 on
    except (OSError, AttributeError):
        return None
    read.restype = _MallInfo
    found = read()
    return Heap(found.uordblks + found.hblkhd, found.fordblks)


class _MallInfo(ctypes.Structure):
    """``struct mallinfo2``."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def int8_instructions() -> list[str] | None:
    """Which instructions for 8-bit products the processor has; None where the system does not say."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                flags = set(line.partition(":")[2].split())
                return [flag for flag in _INT8_FLAGS if flag in flags]
    except OSError:
        pass
    return None


def processor() -> str | None:
    """The processor's name; None where the system does not say."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return None


def has_nvidia_gpu() -> bool:
    """Whether the driver of an NVIDIA GPU is loaded, so that a GPU would be expected to be used."""
    return Path("/proc/driver/nvidia/version").exists()


def process_age() -> float | None:
    """Seconds since this process was started, the interpreter's own start included; None where it is not told."""
    try:
        # The name in field 2 may hold blanks: count the fields from behind its closing parenthesis.
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
