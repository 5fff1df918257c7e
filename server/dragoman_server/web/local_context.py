"""What the services' methods use of a gRPC call, for a call that came over HTTP and is answered in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import grpc

from dragoman_protos.v1 import inference_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class LocalContext:
    """The deadline goes in, the receipt comes out. ``deadline`` is on the monotonic clock; None: there is none."""

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._trailing: dict[str, str] = {}

    def as_grpc(self) -> Context:
        """Itself, for a method of a service: of a context the services use what is here, and nothing else."""
        return cast(Context, self)

    def time_remaining(self) -> float | None:
        """Seconds until the deadline."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Keep what an answered call has gone through."""
        self._trailing = dict(metadata)

    def receipt(self) -> inference_pb2.Receipt | None:
        """What an answered call has gone through; None for one that has no receipt."""
        found = self._trailing
        if "dragoman-queue-ms" not in found:
            return None
        return inference_pb2.Receipt(
            queue_ms=float(found["dragoman-queue-ms"]),
            encode_ms=float(found["dragoman-encode-ms"]),
            steps=int(found["dragoman-steps"]),
            batch_mean=float(found["dragoman-batch-mean"]),
            precision=found["dragoman-precision"],
            lane=int(found["dragoman-lane"]),
        )
