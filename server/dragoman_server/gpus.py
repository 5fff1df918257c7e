"""The GPUs of this machine, as NVIDIA's management library tells: no CUDA is started for it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_LONGEST = 96


@dataclass(frozen=True)
class Gpu:
    """One GPU; memory in bytes."""

    name: str
    driver: str
    total: int
    free: int


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def gpus(load: Callable[[str], Any] = ctypes.CDLL, environment: Mapping[str, str] = os.environ) -> list[Gpu]:
    """The GPUs that CUDA will see, by its numbers; empty where there is no driver, or it does not answer.

    Empty, too, where ``CUDA_VISIBLE_DEVICES`` names them otherwise than by number.
    """
    found = _all(load)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    numbers = [name.strip() for name in visible.split(",")]
    known = {str(number): gpu for number, gpu in enumerate(found)}
    return [known[name] for name in numbers] if set(numbers) <= known.keys() else []


def _all(load: Callable[[str], Any]) -> list[Gpu]:
    try:
        library = load(_LIBRARY)
    except OSError:
        return []
    if library.nvmlInit_v2():
        return []
    try:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return []
        driver = _text(library.nvmlSystemGetDriverVersion)
        found = [_gpu(library, number, driver) for number in range(count.value)]
        return [gpu for gpu in found if gpu is not None]
    finally:
        library.nvmlShutdown()


def _gpu(library: Any, number: int, driver: str) -> Gpu | None:
    handle, memory = ctypes.c_void_p(), _Memory()
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(number), ctypes.byref(handle)):
        return None
    if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
        return None
    name = _text(lambda buffer, size: library.nvmlDeviceGetName(handle, buffer, size))
    return Gpu(name, driver, memory.total, memory.free)


def _text(ask: Callable[[Any, Any], int]) -> str:
    buffer = ctypes.create_string_buffer(_LONGEST)
    return "unknown" if ask(buffer, ctypes.c_uint(_LONGEST)) else buffer.value.decode("utf-8", "replace")
