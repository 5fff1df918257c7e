"""grpc.health.v1 over the reference servicer, which by itself starts as SERVING."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

SERVICE_NAME = health.SERVICE_NAME


class Health:
    """NOT_SERVING for the whole server ("") and for each service, until ``serving`` and again after ``drain``."""

    def __init__(self, services: Sequence[str]) -> None:
        self._names = ("", *services)
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs know the threaded one alone

    async def attach(self, server: grpc.aio.Server) -> None:
        """Register with the server; call before it listens."""
        await self._set(HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def serving(self) -> None:
        """Tell that requests are answered."""
        await self._set(HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Tell, for good, that no request is taken any more."""
        await self._servicer.enter_graceful_shutdown()

    async def _set(self, status: int) -> None:
        for name in self._names:
            await self._servicer.set(name, status)
