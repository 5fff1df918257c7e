"""How many rows a GPU has memory for, and what its sessions may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from dragoman_server.device import Device
from dragoman_server.gpus import Gpu, gpus
from dragoman_server.memory_budget import MIB, MemoryShort, memory_need
from dragoman_server.settings import Settings

if TYPE_CHECKING:
    from dragoman_server.bundle import LoadedBundle

WORKING = 512 * MIB
"""What a lane's sessions may take beside their weights: activations, logits, and the libraries' workspaces."""

_log = structlog.get_logger(__name__)


def fitted(
    bundle: LoadedBundle, settings: Settings, device: Device, find: Callable[[], Sequence[Gpu]] = gpus
) -> tuple[Settings, Device]:
    """``max_rows`` made to fit the GPU's free memory less the reserve, and the device with a bound for its sessions.

    The caches are taken when the model is loaded and never grow, so what runs later cannot take the memory of another.
    Raises MemoryShort where not even one row fits. Where nobody says how much memory there is, nothing is changed.
    """
    lanes = settings.lanes
    one, two = (memory_need(bundle, lanes=lanes, max_rows=rows) for rows in (1, 2))
    bounded = replace(device, arena_bytes=one.weights + WORKING)
    found = find()
    if device.number >= len(found):
        return settings, bounded
    gpu = found[device.number]
    room = gpu.free - round(gpu.total * settings.gpu_reserve)
    row = two.caches - one.caches
    spare = room - lanes * (one.weights + one.caches + WORKING)
    arithmetic = (
        f"{gpu.free / MIB:.0f} MiB free - {settings.gpu_reserve:.0%} of {gpu.total / MIB:.0f} MiB in reserve, "
        f"{lanes} x ({one.weights / MIB:.1f} MiB of weights + {WORKING / MIB:.0f} MiB to compute with + "
        f"{max(row, one.caches) / MIB:.2f} MiB a row)"
    )
    if spare < 0:
        raise MemoryShort(f"not enough memory on {device}: {arithmetic}")
    rows = settings.max_rows if not row else min(settings.max_rows, 1 + spare // (lanes * row))
    if rows < settings.max_rows:
        _log.warning("fewer rows than asked for fit the GPU", max_rows=settings.max_rows, rows=rows, memory=arithmetic)
    return settings.model_copy(update={"max_rows": rows}), bounded
