"""Messages that must be refused: too large, malformed, out of range, of somebody unknown."""

from __future__ import annotations

import asyncio
import random
from typing import Any, ClassVar

import grpc

from dragoman_protos.v1 import inference_pb2
from tests.robustness import profiles
from tests.robustness.driving import Driver
from tests.robustness.faults.fault import Fault
from tests.robustness.traffic import Traffic
from tests.robustness.world import World

SERVICE = "/dragoman.v1.InferenceService"
_TIMES = 40
_LEAKS = ("Traceback", 'File "', "Error:", "Exception", ".py")


async def refused(  # noqa: PLR0917  (a table's columns)
    driver: Driver,
    world: World,
    name: str,
    method: str,
    payload: bytes,
    may: str,
    metadata: tuple[tuple[str, str], ...] = (),
) -> None:
    """Send these bytes as a message: they must be refused with ``may``, and without a word of the server's insides."""
    request = world.history.begin(name, "call", "standing", {may})
    channel: Any = driver.channel  # the stubs know typed messages alone
    try:
        if method == "TranslateMany":
            call = channel.stream_stream(f"{SERVICE}/{method}")(iter([payload]), timeout=30, metadata=metadata)
            async for _ in call:
                pass
        else:
            await channel.unary_unary(f"{SERVICE}/{method}")(payload, timeout=30, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        details = error.details() or ""
        world.history.end(request, error.code().name, detail=details)
        world.history.expect(not any(leak in details for leak in _LEAKS), f"{name}: told {details!r}")
    else:
        world.history.end(request, "OK", detail="was not refused")


class Hostile(Fault):
    """Something that is refused, again and again, between requests that are answered."""

    quick: ClassVar = True

    async def provoke(self, driver: Driver, world: World, rng: random.Random) -> None:
        """Once."""
        raise NotImplementedError

    async def inject(self, world: World, rng: random.Random) -> None:
        async def keep_on(traffic: Traffic) -> None:
            async with world.channels(world.standing) as (driver,), asyncio.TaskGroup() as group:
                for number in range(_TIMES):
                    await traffic.reached(number / _TIMES)
                    group.create_task(self.provoke(driver, world, rng))
                    world.history.injected(self.name)

        await world.under_load(profiles.DAY, keep_on)


class OversizedMessage(Hostile):
    """Beyond 4 MiB."""

    name: ClassVar = "oversized-message"
    injects: ClassVar = "messages of 5 MiB"

    async def provoke(self, driver: Driver, world: World, rng: random.Random) -> None:
        message = inference_pb2.TranslateRequest(text="a" * (5 << 20), target_language="de").SerializeToString()
        await refused(driver, world, self.name, "Translate", message, "RESOURCE_EXHAUSTED")


class OversizedMetadata(Hostile):
    """Beyond 16 KiB."""

    name: ClassVar = "oversized-metadata"
    injects: ClassVar = "24 KiB of metadata"

    async def provoke(self, driver: Driver, world: World, rng: random.Random) -> None:
        message = inference_pb2.TranslateRequest(text="The house.", target_language="de").SerializeToString()
        metadata = (("x-large", "a" * (24 << 10)),)
        await refused(driver, world, self.name, "Translate", message, "RESOURCE_EXHAUSTED", metadata)


class MalformedMessage(Hostile):
    """Bytes that are no message."""

    name: ClassVar = "malformed-message"
    injects: ClassVar = "bytes that are no protobuf, to calls and streams"

    async def provoke(self, driver: Driver, world: World, rng: random.Random) -> None:
        method = rng.choice(("Translate", "StreamTranslate", "Generate", "Classify", "TranslateMany"))
        payload = b"\x0a\xff\xff\xff\x0f" + rng.randbytes(rng.randint(0, 64))  # a string longer than the message
        await refused(driver, world, self.name, method, payload, "INVALID_ARGUMENT")


class InvalidRequests(Hostile):
    """Fields out of range, and models that are not there."""

    name: ClassVar = "invalid-requests"
    injects: ClassVar = "options out of range, texts too long, unknown models and methods"

    async def provoke(self, driver: Driver, world: World, rng: random.Random) -> None:
        wide = inference_pb2.DecodingOptions(beam_size=99, top_p=7.0)
        request, method, status = rng.choice(
            (
                (inference_pb2.TranslateRequest(text="a", target_language="de", options=wide), "Translate", _INVALID),
                (inference_pb2.TranslateRequest(text="a", target_language="xx"), "Translate", _INVALID),
                (inference_pb2.TranslateRequest(text="a", target_language="de", model="../x"), "Translate", _INVALID),
                (inference_pb2.TranslateRequest(text="a", target_language="de", model="nobody"), "Translate", _NOBODY),
                (inference_pb2.TranslateRequest(text="a " * 60_000, target_language="de"), "Translate", _INVALID),
                (inference_pb2.TranslateRequest(text="a", target_language="de"), "NoSuchMethod", "UNIMPLEMENTED"),
            )
        )
        await refused(driver, world, self.name, method, request.SerializeToString(), status)


_INVALID, _NOBODY = "INVALID_ARGUMENT", "NOT_FOUND"
