"""Whether there is memory for one model more: what it needs by its shape, and what is not taken or promised."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragoman_protos.v1.bundle_pb2 import Bundle
from dragoman_server import machine

if TYPE_CHECKING:
    from dragoman_server.bundle import LoadedBundle
    from dragoman_server.model_host import ModelHost

MIB = 1 << 20
_FLOAT_BYTES = 4
WORKING = 16 * MIB
"""Of a lane, tokenizer and allocator included. Two lanes of deu-eng with 64 rows, 54 MiB of weights and caches, gave
80 to 85 MiB back after they had been busy."""
_ITEM_BYTES = {"int8": 1, "float16": 2, "float32": 4}


class MemoryShort(Exception):
    """The model does not fit; the message has the arithmetic."""


@dataclass(frozen=True)
class MemoryNeed:
    """What a model takes, in bytes: each lane has caches of its own."""

    weights: int
    """Once for all lanes."""
    caches: int
    working: int
    """What the graphs compute with."""
    lanes: int

    @property
    def total(self) -> int:
        """Of all lanes."""
        return self.weights + self.lanes * (self.caches + self.working)

    def __str__(self) -> str:
        each = f"{_mib(self.caches)} of caches + {_mib(self.working)} to compute with"
        lanes = "1 lane" if self.lanes == 1 else f"{self.lanes} lanes"
        return f"{_mib(self.weights)} of weights + {lanes} x ({each}) = {_mib(self.total)}"


def memory_need(bundle: LoadedBundle, *, lanes: int, max_rows: int, resident: bool = False) -> MemoryNeed:
    """What the bundle's sessions and caches take; graphs take what their files do.

    ``resident``: of the host's memory, where caches are a device's. Weights pass through it.

    A lane's caches: keys and values for each decoder layer, row, head and position of target and source, and the logits
    of each row.
    """
    from dragoman_server.graphs import cache_type, external_locations  # noqa: PLC0415  (onnxruntime)

    weights = 0
    for graph in bundle.graphs.values():
        outside = external_locations(graph.read_bytes())
        weights += sum(path.stat().st_size for path in (graph, *(graph.parent / name for name in outside)))
    manifest = bundle.manifest
    if manifest.family == Bundle.FAMILY_ENCODER:
        return MemoryNeed(weights, 0, WORKING, lanes)
    shape, limits = manifest.dimensions, manifest.limits
    # A decoder alone has one row more, where prompts are staged.
    rows = max_rows + (manifest.family == Bundle.FAMILY_DECODER)
    positions = 2 * shape.decoder_layers * rows * (limits.target_tokens + limits.source_tokens)
    item = 0 if resident else _ITEM_BYTES[cache_type(bundle.decoder)]
    caches = positions * shape.num_heads * shape.head_dim * item
    return MemoryNeed(weights, caches + max_rows * shape.vocabulary * _FLOAT_BYTES, WORKING, lanes)


class MemoryBudget:
    """Keeps account of what was promised to models, since memory is taken when it is first written.

    Threads may share it. ``limit`` in bytes is of the whole process; None: as much as the machine has. ``available``
    and ``resident`` give bytes, or None where the system does not say; then only what can be known is looked at.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        available: Callable[[], int | None] = machine.available_memory,
        resident: Callable[[], int | None] = machine.resident_memory,
    ) -> None:
        self._limit = limit
        self._available, self._resident = available, resident
        self._before = resident() or 0
        self._lock = threading.Lock()
        self._loading: list[MemoryNeed] = []
        self._promised: list[tuple[weakref.ref[ModelHost], MemoryNeed]] = []

    @contextlib.contextmanager
    def loading(self, need: MemoryNeed) -> Iterator[None]:
        """Hold the memory while a model is loaded. Raises MemoryShort."""
        with self._lock:
            if self._shortage(need):
                gc.collect()  # a model that was not loaded after all may still be there
            if short := self._shortage(need):
                raise MemoryShort(short)
            self._loading.append(need)
        try:
            yield
        finally:
            with self._lock:
                self._loading.remove(need)

    def promise(self, host: ModelHost, need: MemoryNeed) -> None:
        """The memory is the host's for as long as the host exists."""
        with self._lock:
            self._promised = [(one, its) for one, its in self._promised if one() is not None]
            self._promised.append((weakref.ref(host), need))

    def _shortage(self, need: MemoryNeed) -> str:
        """Why it does not fit, empty where it does."""
        resident, available = self._resident() or 0, self._available()
        promised = sum(its.total for one, its in self._promised if one() is not None)
        promised += sum(its.total for its in self._loading)
        untouched = max(0, promised - max(0, resident - self._before))
        room = [size for size in (available, self._limit and self._limit - resident) if size is not None]
        if not room or need.total <= min(room) - untouched:
            return ""
        limit = "" if self._limit is None else f"; the limit is {_mib(self._limit)}, {_mib(resident)} are in use"
        machines = "" if available is None else f"; the machine has {_mib(available)} available"
        others = f"; {_mib(untouched)} more are promised to other models" if untouched else ""
        return f"not enough memory: {need}{limit}{machines}{others}"


def _mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"
