"""Between Python values and the messages that describe models: pure functions, for both clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dragoman import wire
from dragoman.errors import InvalidArgument
from dragoman.faults import string_faults
from dragoman.values import Model, ModelDetails
from dragoman_protos.v1 import bundle_pb2, models_pb2


def get_model_request(name: str | None) -> models_pb2.GetModelRequest:
    """The message that asks for one model, or for the default one."""
    if faults := string_faults("name", name or ""):
        raise InvalidArgument(faults)
    return models_pb2.GetModelRequest(name=name or "")


def models(
    response: models_pb2.ListModelsResponse | models_pb2.LoadModelResponse, _: wire.Metadata
) -> tuple[Model, ...]:
    """What a ListModels or LoadModel call returned."""
    return tuple(
        Model(
            name=m.name,
            version=m.version,
            family=_word(bundle_pb2.Bundle.Family.Name, m.family, "FAMILY_"),
            tasks=tuple(_word(bundle_pb2.Bundle.Task.Name, task, "TASK_") for task in m.tasks),
            languages=tuple(m.languages),
            precision=m.precision,
            provider=m.provider,
            lanes=m.lanes,
            max_rows=m.max_rows,
            default=m.default,
            # A server that does not tell states lists what is ready alone.
            state=_word(models_pb2.Model.State.Name, m.state or models_pb2.Model.STATE_READY, "STATE_"),
            failure=m.failure,
        )
        for m in response.models
    )


def model_details(response: models_pb2.GetModelResponse, trailing: wire.Metadata) -> ModelDetails:
    """What a GetModel call returned."""
    (model,) = models(models_pb2.ListModelsResponse(models=[response.model]), trailing)
    return ModelDetails(**{name: getattr(model, name) for name in Model.__slots__}, bundle=response.bundle)


def _word(name_of: Callable[[Any], str], value: int, prefix: str) -> str:
    """An enum value in lower case with hyphens; "unspecified" for one that a newer server may send."""
    try:
        return name_of(value).removeprefix(prefix).lower().replace("_", "-")
    except ValueError:
        return "unspecified"
