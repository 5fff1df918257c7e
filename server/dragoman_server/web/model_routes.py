"""GET /v1/models and /v1/models/NAME: which models there are, in the form of OpenAI's list, and all about each."""

from __future__ import annotations

from datetime import datetime

from starlette.routing import Route

from dragoman_protos.v1 import bundle_pb2, models_pb2
from dragoman_server.errors import NotFound
from dragoman_server.service.models import ModelService
from dragoman_server.web.calls import Asked, Calls
from dragoman_server.web.json_messages import Json, written
from dragoman_server.web.local_context import LocalContext
from dragoman_server.web.replies import Reply

_SERVICE = models_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
LIST_PATH, ONE_PATH = "/v1/models", "/v1/models/{name}"
LIST_METHOD, ONE_METHOD = f"/{_SERVICE}/ListModels", f"/{_SERVICE}/GetModel"
_OWNER = "dragoman"


def model_routes(calls: Calls, service: ModelService) -> list[Route]:
    """Both routes."""

    async def listed(asked: Asked, reply: Reply) -> None:
        context = LocalContext(asked.deadline).as_grpc()
        answer = await service.ListModels(models_pb2.ListModelsRequest(), context)
        entries, named = [], set[str]()
        for model in answer.models:
            versioned = f"{model.name}@{model.version}"
            ready = model.state == models_pb2.Model.STATE_READY
            name = model.name if ready and model.name not in named else versioned
            if ready:
                named.add(model.name)
            entries.append(_entry(name, model, await _bundle(versioned) if ready else None))
        await reply.json({"object": "list", "data": entries})

    async def _bundle(name: str) -> bundle_pb2.Bundle | None:
        try:
            found = await service.GetModel(models_pb2.GetModelRequest(name=name), LocalContext(None).as_grpc())
        except NotFound:  # it went while the list was made
            return None
        return found.bundle

    async def one(asked: Asked, reply: Reply) -> None:
        name = asked.parameters["name"]
        context = LocalContext(asked.deadline).as_grpc()
        answer = await service.GetModel(models_pb2.GetModelRequest(name=name), context)
        await reply.json(_entry(name, answer.model, answer.bundle) | {"bundle": written(answer.bundle)})

    return [
        Route(LIST_PATH, calls.endpoint(f"GET {LIST_PATH}", LIST_METHOD, listed), methods=["GET"]),
        Route(ONE_PATH, calls.endpoint(f"GET {ONE_PATH}", ONE_METHOD, one), methods=["GET"]),
    ]


def _entry(name: str, model: models_pb2.Model, bundle: bundle_pb2.Bundle | None) -> Json:
    """``name`` is what a request names the model by: without a version, that is the newest one that is served."""
    return {
        "id": name,
        "object": "model",
        "created": 0 if bundle is None else _seconds(bundle.certificate.measured_at),
        "owned_by": _OWNER,
        "dragoman": written(model),
    }


def _seconds(moment: str) -> int:
    """Since 1970; 0 for a bundle that does not say when it was made."""
    try:
        return int(datetime.fromisoformat(moment).timestamp())
    except ValueError:
        return 0
