"""Services register all that they have, and no method has a door of its own."""

from __future__ import annotations

from typing import Any, cast

import grpc

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.service.registering import one_door


class Registered:
    """Stands for the server."""

    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        self.handlers += handlers


class Details:
    """Of a call."""

    def __init__(self, method: str) -> None:
        self.method = method


def test_every_method_is_found_and_none_is_registered_by_its_name() -> None:
    registered = Registered()
    door = one_door(cast("grpc.aio.Server", registered))
    nothing = cast("Any", inference_pb2_grpc.InferenceServiceServicer)()  # abstract to the stubs alone
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(nothing, door)
    (handler,) = registered.handlers
    service = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"]
    for method in service.methods:
        assert handler.service(Details(f"/{service.full_name}/{method.name}")) is not None
    assert handler.service(Details(f"/{service.full_name}/Other")) is None
