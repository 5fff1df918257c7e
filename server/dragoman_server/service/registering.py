"""Where the generated code registers services: their methods have one door together, not one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import grpc


class _OneDoor:
    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """The same handlers by their methods' names; the generic ones find them too."""


def one_door(server: grpc.aio.Server) -> grpc.aio.Server:
    """What to give to ``add_..._to_server`` in the server's place.

    For each call, grpc.aio looks at every method that is registered by its name: with 25 of them that takes longer than
    all else that gRPC does for a call.
    """
    return cast("grpc.aio.Server", _OneDoor(server))
