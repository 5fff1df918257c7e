"""ModelService: which models there are, and what their bundles say."""

from __future__ import annotations

from typing import Any

import grpc

from dragoman_protos.v1 import models_pb2, models_pb2_grpc
from dragoman_server.errors import InvalidArgument
from dragoman_server.gate import Gate
from dragoman_server.service.validation import model_name_violations


class ModelService(models_pb2_grpc.ModelServiceServicer):
    """Answers from the catalogue."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def ListModels(  # noqa: N802  (gRPC's name)
        self, request: models_pb2.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> models_pb2.ListModelsResponse:
        """Every model, the default one first."""
        with self._gate.enter() as catalogue:
            models = [host.summary(default=host.name == catalogue.default) for host in catalogue]
        models.sort(key=lambda model: (not model.default, model.name))
        return models_pb2.ListModelsResponse(models=models)

    async def GetModel(  # noqa: N802  (gRPC's name)
        self, request: models_pb2.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> models_pb2.GetModelResponse:
        """One model, with its bundle's facts."""
        with self._gate.enter() as catalogue:
            if violations := model_name_violations("name", request.name):
                raise InvalidArgument(violations)
            host = catalogue.resolve(request.name)
            return models_pb2.GetModelResponse(
                model=host.summary(default=host.name == catalogue.default), bundle=host.bundle
            )
