"""What each registered method needs of its caller. A method that is not here is denied to everybody."""

from __future__ import annotations

from enum import Enum

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2

from dragoman_protos.open_inference import open_inference_pb2
from dragoman_protos.v1 import inference_pb2, models_pb2
from dragoman_server.security.principal import Permission

_REFLECTION = ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",)


class Open(Enum):
    """Marks a method that nobody needs a permission for."""

    OPEN = "open"


Need = Permission | Open


def _all(service: ServiceDescriptor, need: Need) -> dict[str, Need]:
    return {f"/{service.full_name}/{method.name}": need for method in service.methods}


METHODS: dict[str, Need] = {
    **_all(health_pb2.DESCRIPTOR.services_by_name["Health"], Open.OPEN),
    **_all(inference_pb2.DESCRIPTOR.services_by_name["InferenceService"], Permission.INFER),
    "/dragoman.v1.ModelService/ListModels": Permission.INFER,
    "/dragoman.v1.ModelService/GetModel": Permission.INFER,
    "/dragoman.v1.ModelService/LoadModel": Permission.ADMIN,
    "/dragoman.v1.ModelService/UnloadModel": Permission.ADMIN,
    **_all(open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"], Permission.INFER),
    **{f"/inference.GRPCInferenceService/{name}": Open.OPEN for name in ("ServerLive", "ServerReady")},
    **{f"/{name}": Permission.INFER for name in _REFLECTION},
}
"""By full name. Methods of ModelService are named one by one: a new one may change what is served."""

_SERVICES = (models_pb2.DESCRIPTOR.services_by_name["ModelService"],)
assert {name for service in _SERVICES for name in _all(service, Permission.ADMIN)} <= METHODS.keys()
