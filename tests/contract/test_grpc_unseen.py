"""A call that a server has not looked at when it ends is tried again: nobody has cancelled it."""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio
import pytest

from dragoman import AsyncClient, Client, Retry, Unavailable
from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc

ONCE = Retry(attempts=1)
WORDS = "ended before it answered"


async def test_a_call_that_waits_in_the_core_of_a_server_that_ends_is_unavailable() -> None:
    server = grpc.aio.server()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()

    def plain() -> None:
        with grpc.insecure_channel(address) as channel:
            request = inference_pb2.TranslateRequest(text="abc", target_language="de")
            call = inference_pb2_grpc.InferenceServiceStub(channel).Translate.future(request, timeout=60)
            # What gRPC says; if it says something else one day, so must Failure.told.
            assert (call.code(), call.details()) == (grpc.StatusCode.CANCELLED, "CANCELLED")
            assert not call.trailing_metadata()

    def blocking() -> None:
        with Client(address, retry=ONCE) as client, pytest.raises(Unavailable, match=WORDS):
            client.translate("abc", target="de", timeout=60)

    async def call() -> None:
        async with AsyncClient(address, retry=ONCE) as client:
            with pytest.raises(Unavailable, match=WORDS):
                await client.translate("abc", target="de", timeout=60)

    def asynchronous() -> None:
        asyncio.run(call())

    loop = asyncio.get_running_loop()
    calls = [loop.run_in_executor(None, one) for one in (plain, blocking, asynchronous)]
    time.sleep(3)  # this loop, the server's, sees nothing of what comes
    await server.stop(1.0)
    await asyncio.gather(*calls)
