"""The API's routes."""

from __future__ import annotations

from starlette.routing import BaseRoute

from dragoman_server.security.authentication import Callers
from dragoman_server.service.inference import InferenceService
from dragoman_server.service.models import ModelService
from dragoman_server.telemetry.call_record import CallRecord
from dragoman_server.web.bodies import Bodies
from dragoman_server.web.calls import Calls
from dragoman_server.web.inference_routes import inference_routes
from dragoman_server.web.limits import HttpLimits
from dragoman_server.web.model_routes import model_routes
from dragoman_server.web.openai_completions import completion_routes
from dragoman_server.web.openai_embeddings import embedding_routes
from dragoman_server.web.openapi import openapi_route


def api_routes(
    record: CallRecord, callers: Callers, inference: InferenceService, models: ModelService, limits: HttpLimits
) -> list[BaseRoute]:
    """The services' methods as JSON, what OpenAI's clients call, and the document that says so."""
    bodies = Bodies(limits.body_bytes, limits.body_seconds)
    calls = Calls(record, callers, bodies, send_seconds=limits.send_seconds)
    return [
        *inference_routes(calls, inference),
        *model_routes(calls, models),
        *completion_routes(calls, inference),
        *embedding_routes(calls, inference),
        openapi_route(),
    ]
