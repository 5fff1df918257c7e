"""Where a model's graphs run and its caches lie: the processor, or one GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CUDA_PROVIDER, CPU_PROVIDER = "CUDAExecutionProvider", "CPUExecutionProvider"

Provider = tuple[str, dict[str, str]]
"""An execution provider of onnxruntime, and its options."""


@dataclass(frozen=True)
class Device:
    """The processor, or the GPU of that number."""

    kind: Literal["cpu", "cuda"] = "cpu"
    number: int = 0
    resident: bool = False
    """Whether caches are read and written by graphs alone, never by the host: always so on a GPU, and on the processor
    for tests of the very same code."""
    cuda_graphs: bool = False
    """Whether a step is captured once for each number of rows and then launched whole. Nothing on the processor."""
    arena_bytes: int | None = None
    """Most bytes of the GPU that one session may take for weights and to compute with; None: as many as there are."""

    def __post_init__(self) -> None:
        if self.kind == "cuda" and not self.resident:
            raise ValueError("resident = False: caches of a GPU cannot be reached by the host")

    def providers(self, *, captured: bool = False) -> list[Provider]:
        """What a session is made with, the preferred one first; ``captured``: its runs may become CUDA graphs."""
        if self.kind == "cpu":
            return [(CPU_PROVIDER, {})]
        options = {
            "device_id": str(self.number),
            # Take what is asked for: doubling at each need would run into the memory that caches are to have.
            "arena_extend_strategy": "kSameAsRequested",
            # float32 means float32.
            "use_tf32": "0",
        }
        if self.arena_bytes is not None:
            options["gpu_mem_limit"] = str(self.arena_bytes)
        if captured and self.cuda_graphs:
            options["enable_cuda_graph"] = "1"
        return [(CUDA_PROVIDER, options), (CPU_PROVIDER, {})]

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.number}"


CPU = Device()
"""The processor: caches are numpy's arrays, and a step reads and writes them where they are."""


class DeviceError(ValueError):
    """The device cannot be used; the message says why."""
