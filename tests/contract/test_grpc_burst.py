"""More calls at one moment than the event loop can look at: they wait, or are told when to come back; none is lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import grpc

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from tests.contract.conftest import Harness

CHANNELS, CALLS = 5, 900
"""More together than gRPC's core lets wait by itself: 1,000 to 3,000, of which it drops some as CANCELLED."""
REQUEST = inference_pb2.TranslateRequest(text="abc", target_language="de")


async def test_a_burst_while_the_loop_is_busy_is_answered(serving: Harness) -> None:
    def burst() -> Counter[grpc.StatusCode]:
        options = (("grpc.use_local_subchannel_pool", 1),)
        channels = [grpc.insecure_channel(serving.address, options) for _ in range(CHANNELS)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(60)
        ready.set()
        stubs = [inference_pb2_grpc.InferenceServiceStub(channel) for channel in channels]
        futures = [stub.Translate.future(REQUEST, timeout=120) for _ in range(CALLS) for stub in stubs]
        codes = Counter(future.code() for future in futures)
        for channel in channels:
            channel.close()
        return codes

    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    calling = loop.run_in_executor(None, burst)
    while not ready.is_set():  # set by another thread
        await asyncio.sleep(0.01)
    time.sleep(3)  # the loop sees nothing of what comes
    assert await calling == {grpc.StatusCode.OK: CHANNELS * CALLS}
