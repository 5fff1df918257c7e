"""Changing what a server serves: ``load_model`` and ``unload_model`` of both clients."""

from __future__ import annotations

from dragoman import models_wire, wire
from dragoman.async_caller import AsyncCaller
from dragoman.caller import Caller
from dragoman.errors import InvalidArgument
from dragoman.faults import string_faults
from dragoman.values import Model
from dragoman_protos.v1 import models_pb2


class Administration(Caller):
    """The blocking client's part that changes what is served; the server must allow it, and so must the token."""

    def load_model(
        self, name: str, *, version: str | int | None = None, timeout: float | None = None
    ) -> tuple[Model, ...]:
        """Serve a version of a model in the server's repository; None: what its version policy chooses now.

        Returns what is then served of it, once it answers. What the server gives up for it ends its requests first.
        Loading goes on when ``timeout`` passes; calling again waits for it. Raises NotFound where there is no such
        version, FailedPrecondition with every reason why it cannot be served; what was served goes on.
        """
        request = models_pb2.LoadModelRequest(**_fields(name, version))
        return self._call(self._models.LoadModel, request, timeout, models_wire.models)

    def unload_model(self, name: str, *, version: str | int | None = None, timeout: float | None = None) -> None:
        """Serve a version of a model no more, None: all of it. Returns when its requests have ended and it is gone.

        Raises NotFound where it is not served.
        """
        request = models_pb2.UnloadModelRequest(**_fields(name, version))
        self._call(self._models.UnloadModel, request, timeout, _nothing)


class AsyncAdministration(AsyncCaller):
    """The asyncio client's part that changes what is served."""

    async def load_model(
        self, name: str, *, version: str | int | None = None, timeout: float | None = None
    ) -> tuple[Model, ...]:
        """As ``Client.load_model``."""
        request = models_pb2.LoadModelRequest(**_fields(name, version))
        return await self._call(self._models.LoadModel, request, timeout, models_wire.models)

    async def unload_model(self, name: str, *, version: str | int | None = None, timeout: float | None = None) -> None:
        """As ``Client.unload_model``."""
        request = models_pb2.UnloadModelRequest(**_fields(name, version))
        await self._call(self._models.UnloadModel, request, timeout, _nothing)


def _fields(name: str, version: str | int | None) -> dict[str, str]:
    """Of either request; raises InvalidArgument for what is no text."""
    wanted = "" if version is None else str(version) if isinstance(version, int) else version
    if faults := [*string_faults("name", name), *string_faults("version", wanted)]:
        raise InvalidArgument(faults)
    return {"name": name, "version": wanted}


def _nothing(response: models_pb2.UnloadModelResponse, trailing: wire.Metadata) -> None:
    """An answer that says nothing."""
