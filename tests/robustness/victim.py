"""A client that is there to be killed: streams and a bulk call without end. Says on stdout when they have begun."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator

import grpc

from dragoman_protos.v1 import inference_pb2
from dragoman_protos.v1.inference_pb2_grpc import InferenceServiceStub

_STREAMS = 8


async def main(address: str) -> None:
    """Ask without end; nothing but a signal ends it."""
    begun = asyncio.Barrier(_STREAMS + 2)
    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as group:
        for number in range(_STREAMS):
            group.create_task(_generate(channel, number, begun))
        group.create_task(_translate(channel, begun))
        await begun.wait()
        print("begun", flush=True)


async def _generate(channel: grpc.aio.Channel, seed: int, begun: asyncio.Barrier) -> None:
    options = inference_pb2.DecodingOptions(max_length=200, min_length=199, seed=seed, temperature=0.9)
    request = inference_pb2.GenerateRequest(prompt="ROMEO:", model="shakespeare", options=options)
    waits = True
    while True:
        async for _ in InferenceServiceStub(channel).Generate(request):
            if waits:
                waits = False
                await begun.wait()


async def _translate(channel: grpc.aio.Channel, begun: asyncio.Barrier) -> None:
    request = inference_pb2.TranslateRequest(text="Where is the station?", target_language="de", model="deu-eng")

    async def items() -> AsyncIterator[inference_pb2.TranslateManyRequest]:
        for number in itertools.count(1):
            item = inference_pb2.TranslateItem(id=number, request=request)
            yield inference_pb2.TranslateManyRequest(items=[item])

    waits = True
    async for _ in InferenceServiceStub(channel).TranslateMany(items()):
        if waits:
            waits = False
            await begun.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
