"""Which device the models run on: what was asked for, or the reasons why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from dragoman_server import machine
from dragoman_server.device import CPU, CUDA_PROVIDER, Device, DeviceError
from dragoman_server.errors import Violation
from dragoman_server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from dragoman_server.row_memory import RowMemory

GPU_PRECISION = "fp16"
"""Attention over caches has no other kernels in the CUDA provider: GroupQueryAttention of float32 does not exist there,
and the matrix products of the int8 graphs neither."""
_GPU_LANES = 1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What a machine has, asked for when it is needed."""

    providers: Callable[[], Sequence[str]]
    """onnxruntime's execution providers."""
    probe: Callable[[Device], None]
    """Run something on the device; DeviceError where that fails."""
    has_gpu: Callable[[], bool] = machine.has_nvidia_gpu


def choose_device(settings: Settings, around: Surroundings | None = None) -> Device:
    """The device that the settings ask for.

    ``cuda`` is that or SettingsError with every reason why not. ``auto`` is the GPU where it can be used, else the
    processor, with a warning where the machine has a GPU.
    """
    if settings.device == "cpu":
        return CPU
    around = around or Surroundings(_providers, probe)
    gpu = Device("cuda", resident=True, cuda_graphs=settings.cuda_graphs)
    faults = list(_faults(gpu, settings, around))
    if not faults:
        return gpu
    if settings.device == "cuda":
        raise SettingsError(faults)
    if around.has_gpu():
        reasons = "; ".join(f"{fault.field} = {fault.value}: {fault.limit}" for fault in faults)
        _log.warning("this machine has a GPU, and models run on the processor", reasons=reasons)
    return CPU


def settings_for(settings: Settings, device: Device) -> Settings:
    """The settings with what has another default on a GPU: one lane, unless somebody has said how many."""
    if device.kind == "cpu" or "lanes" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"lanes": _GPU_LANES})


def _faults(gpu: Device, settings: Settings, around: Surroundings) -> Iterator[Violation]:
    available = around.providers()
    if settings.precision != GPU_PRECISION:
        yield Violation(
            "precision", settings.precision, f"{GPU_PRECISION} on a GPU: attention has no other kernels there"
        )
    if settings.kernels == "compiled":
        yield Violation("kernels", settings.kernels, "auto or builtin on a GPU: the compiled ones are the processor's")
    if CUDA_PROVIDER not in available:
        offered = ", ".join(available)
        yield Violation(
            "device",
            settings.device,
            f"{CUDA_PROVIDER} is missing: onnxruntime offers {offered}; pip install 'dragoman[server-gpu]'",
        )
        return
    try:
        around.probe(gpu)
    except DeviceError as error:
        yield Violation("device", settings.device, str(error))


def probe(device: Device, memory: Callable[[Device], RowMemory] | None = None) -> None:
    """Send numbers to the device, have a graph move them there, and fetch them. DeviceError where that fails.

    ``memory`` makes the device's; None: the real one.
    """
    import numpy as np  # noqa: PLC0415  (slow to import, as is what follows)
    import onnxruntime as ort  # noqa: PLC0415

    from dragoman_server.device_memory import DeviceMemory  # noqa: PLC0415

    # Not zeros, which a device that computes nothing would give back too.
    sent = np.arange(1, 17, dtype=np.float16).reshape(2, 1, 2, 4)  # (caches, heads, positions, head_dim)
    try:
        caches = (memory or DeviceMemory)(device).caches((2, 2, 1, 2, 4), "float16")
        given = ort.OrtValue.ortvalue_from_numpy(sent, device.kind, device.number)
        caches.write([0], np.zeros(1, np.int64), np.full(1, 2), given)
        caches.copy(*np.array([[0], [1], [0], [2]]))  # row 0 to row 1, positions 0 and 1
        found = caches.read(1, 2)
    except DeviceError:
        raise
    except Exception as error:  # onnxruntime raises many types that share no base of their own
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise DeviceError(f"device = {device}: {first[0]}") from error
    if not np.array_equal(found, sent):
        raise DeviceError(f"device = {device}: numbers that were copied there came back as others")


def _providers() -> Sequence[str]:
    import onnxruntime  # noqa: PLC0415  (slow, and needed here alone)

    found: list[str] = onnxruntime.get_available_providers()
    return found
