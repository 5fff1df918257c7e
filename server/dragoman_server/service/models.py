"""ModelService: which models there are, what their bundles say, and how others come and go."""

from __future__ import annotations

from typing import Any

import grpc
import structlog

from dragoman_protos.v1 import models_pb2, models_pb2_grpc
from dragoman_server.errors import FailedPrecondition, InvalidArgument
from dragoman_server.gate import Gate
from dragoman_server.model_manager import ModelManager
from dragoman_server.security.principal import CALLER
from dragoman_server.service.validation import model_name_violations, version_violations

_log = structlog.get_logger(__name__)


class ModelService(models_pb2_grpc.ModelServiceServicer):
    """Answers from what is served. ``follows``: the repository alone says what is to be served."""

    def __init__(self, gate: Gate, manager: ModelManager, *, follows: bool) -> None:
        self._gate = gate
        self._manager = manager
        self._follows = follows

    async def ListModels(  # noqa: N802  (gRPC's name)
        self, request: models_pb2.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> models_pb2.ListModelsResponse:
        """Every model, the default one first."""
        with self._gate.attend():
            return models_pb2.ListModelsResponse(models=self._manager.models())

    async def GetModel(  # noqa: N802  (gRPC's name)
        self, request: models_pb2.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> models_pb2.GetModelResponse:
        """One model, with its bundle's facts."""
        with self._gate.enter() as catalogue:
            if violations := model_name_violations("name", request.name):
                raise InvalidArgument(violations)
            host = catalogue.resolve(request.name)
            return models_pb2.GetModelResponse(
                model=host.summary(default=catalogue.is_default(host)), bundle=host.bundle
            )

    async def LoadModel(  # noqa: N802  (gRPC's name)
        self, request: models_pb2.LoadModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> models_pb2.LoadModelResponse:
        """Serve a model of the repository."""
        with self._gate.attend():
            name, version = self._checked(request, "load")
            return models_pb2.LoadModelResponse(models=await self._manager.load(name, version))

    async def UnloadModel(  # noqa: N802  (gRPC's name)
        self, request: models_pb2.UnloadModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> models_pb2.UnloadModelResponse:
        """Serve a model no more."""
        with self._gate.attend():
            name, version = self._checked(request, "unload")
            await self._manager.unload(name, version)
            return models_pb2.UnloadModelResponse()

    def _checked(
        self, request: models_pb2.LoadModelRequest | models_pb2.UnloadModelRequest, what: str
    ) -> tuple[str, int | None]:
        if violations := version_violations(request.name, request.version):
            raise InvalidArgument(violations)
        if self._follows:
            limit = "put a version's folder there, or take it away"
            raise FailedPrecondition([f"the server follows its repository (repository_mode = poll): {limit}"])
        caller = CALLER.get().name
        _log.info("a caller changes what is served", caller=caller, what=what, model=request.name, to=request.version)
        return request.name, int(request.version) if request.version else None
