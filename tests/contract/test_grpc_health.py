from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dragoman_protos.v1 import inference_pb2
from dragoman_server import errors
from dragoman_server.decoding.hypothesis import Answer, FinishReason
from dragoman_server.request import Completion
from dragoman_server.settings import Settings

if TYPE_CHECKING:
    from tests.contract.conftest import Harness

NAMES = ["", "dragoman.v1.InferenceService", "dragoman.v1.ModelService"]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REQUEST = inference_pb2.TranslateRequest(text="hello", target_language="de")


async def health(harness: Harness, name: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(harness.channel)
    status: int = (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status
    return status


@pytest.mark.parametrize("name", NAMES)
async def test_not_serving_until_the_models_are_warm(starting: Harness, name: str) -> None:
    assert await health(starting, name) == NOT_SERVING
    await starting.open()
    assert await health(starting, name) == SERVING


async def test_an_unknown_service_is_not_found(serving: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await health(serving, "dragoman.v1.Nothing")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_calls_are_unavailable_until_the_models_are_warm(starting: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await starting.inference.Translate(REQUEST)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "starting" in (raised.value.details() or "")
    await starting.open()
    await starting.inference.Translate(REQUEST)


async def test_a_watcher_hears_of_every_change(starting: Harness) -> None:
    watch = health_pb2_grpc.HealthStub(starting.channel).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == NOT_SERVING
    await starting.open()
    assert (await watch.read()).status == SERVING
    drain = asyncio.create_task(starting.server.drain(5))
    assert (await watch.read()).status == NOT_SERVING
    await asyncio.wait_for(drain, 10)  # a watcher does not hold up the end


async def test_draining_finishes_what_is_inside_and_refuses_what_comes(serving: Harness) -> None:
    serving.engine.behave = lambda request: None
    call = serving.inference.Translate(REQUEST)
    inside = await asyncio.wait_for(serving.engine.submitted.get(), 10)
    drain = asyncio.create_task(serving.server.drain(30))
    while await health(serving) != NOT_SERVING:
        await asyncio.sleep(0.005)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await serving.inference.Translate(REQUEST)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "shutting down" in (raised.value.details() or "")
    assert serving.engine.stopped_with == []
    inside.finish(Completion([Answer([65], [-1.0, -1.0], FinishReason.STOP, -1.0)], inside.receipt()))
    assert (await call).hypotheses[0].text == "A"
    await asyncio.wait_for(drain, 10)
    assert len(serving.engine.stopped_with) == 1


async def test_what_outlives_the_grace_is_ended_with_unavailable(serving: Harness) -> None:
    serving.engine.behave = lambda request: None
    call = serving.inference.Translate(REQUEST)
    inside = await asyncio.wait_for(serving.engine.submitted.get(), 10)
    drain = asyncio.create_task(serving.server.drain(0.1))
    while not serving.engine.stopped_with:
        await asyncio.sleep(0.005)
    assert serving.engine.stopped_with == [0.0]
    inside.finish(errors.Unavailable("the server is shutting down"))  # as the engine does when it stops
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    await asyncio.wait_for(drain, 10)


async def listed_services(harness: Harness) -> list[str]:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection_pb2_grpc.ServerReflectionStub(harness.channel).ServerReflectionInfo(iter([request]))
    return [service.name async for answer in call for service in answer.list_services_response.service]


async def test_reflection_is_off_by_default(serving: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await listed_services(serving)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestReflection:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(port=0, reflection=True)

    async def test_lists_the_services_when_on(self, serving: Harness) -> None:
        assert set(NAMES[1:]) <= set(await listed_services(serving))

    async def test_malformed_bytes_in_a_stream_are_the_callers_fault(self, serving: Harness) -> None:
        method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        call = serving.channel.stream_stream(method, None, None)(iter([b"\xff\xff\xff"]))
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
