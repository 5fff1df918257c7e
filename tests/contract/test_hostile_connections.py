"""Peers that say nothing, too much, or come in crowds: real sockets, and what the server does within its time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
import pytest
from hyperframe.frame import PingFrame, SettingsFrame

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from dragoman_server.settings import Settings
from tests.contract.raw_http2 import PATIENCE, raw_connection
from tests.fuzz.http2_wire import PREFACE, wire
from tests.unit.client.tcp_proxy import TcpProxy, tcp_proxy

if TYPE_CHECKING:
    from tests.contract.conftest import Harness

REQUEST = inference_pb2.TranslateRequest(text="hello", target_language="de")
CONNECTIONS = 6
ENHANCE_YOUR_CALM = 11


@pytest.fixture
def settings() -> Settings:
    return Settings(
        port=0,
        keepalive_seconds=0.3,
        keepalive_timeout_seconds=0.3,
        handshake_timeout_seconds=0.5,
        max_connections=CONNECTIONS,
    )


async def under_way(harness: Harness, proxy: TcpProxy) -> asyncio.Task[None]:
    """A call through the proxy that the engine has taken, and will not answer; its caller."""

    async def call() -> None:
        async with grpc.aio.insecure_channel(proxy.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await inference_pb2_grpc.InferenceServiceStub(channel).Translate(REQUEST, timeout=PATIENCE)

    harness.engine.behave = lambda submitted: None
    return asyncio.create_task(call())


@pytest.mark.parametrize("how", ["vanishes", "is killed"])
async def test_what_a_peer_has_left_is_given_up(serving: Harness, how: str) -> None:
    with tcp_proxy(serving.address) as proxy:
        caller = await under_way(serving, proxy)
        submitted = await serving.engine.submitted.get()
        if how == "vanishes":
            proxy.vanish()
        else:
            proxy.reset()
        async with asyncio.timeout(PATIENCE):
            while not submitted.cancelled:
                await asyncio.sleep(0.01)
        proxy.reset()
        await caller


@pytest.mark.parametrize(
    "said",
    [b"", PREFACE[:9], PREFACE, PREFACE + SettingsFrame(0).serialize()],
    ids=["nothing", "half a preface", "a preface", "no acknowledgement"],
)
async def test_a_handshake_that_does_not_come_to_an_end_is_ended(serving: Harness, said: bytes) -> None:
    host, _, port = serving.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(said)
    async with asyncio.timeout(PATIENCE):
        while await reader.read(1 << 16):  # what the server says of itself
            pass
    writer.close()


async def test_no_more_connections_than_there_may_be(serving: Harness) -> None:
    # Connections come and go by themselves here, so room is looked for again until it is there.
    host, _, port = serving.address.rpartition(":")
    await serving.inference.Translate(REQUEST)  # has one of its own, which stays
    crowd = [await asyncio.open_connection(host, int(port)) for _ in range(4 * CONNECTIONS)]
    began = time.monotonic()
    assert (await serving.inference.Translate(REQUEST)).hypotheses[0].text == "HELLO"
    ended = await asyncio.gather(*(asyncio.wait_for(reader.read(), PATIENCE) for reader, _ in crowd))
    assert sum(not said for said in ended) >= 3 * CONNECTIONS  # closed without a word
    assert time.monotonic() - began < PATIENCE
    for _, writer in crowd:
        writer.close()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with raw_connection(serving.address) as connection:
                    stream = await connection.call("/dragoman.v1.InferenceService/Translate", REQUEST)
                    call = await connection.finish(stream)
                    if call.headers.get("grpc-status") == "0":
                        break
            except ConnectionError:
                await asyncio.sleep(0.05)


async def test_pings_in_a_flood_end_the_connection(serving: Harness) -> None:
    async with wire(serving.address) as to:
        await to.begin()
        # Two are too many too soon, and one more ends it. What still lay unread then would turn the end into a reset,
        # which overtakes the reason.
        await to.send(*[PingFrame(0, b"12345678")] * 4)
        reaction = await to.listen(PATIENCE, quiet=PATIENCE)  # until it is closed
    assert reaction.goaways == [ENHANCE_YOUR_CALM]
    assert (await serving.inference.Translate(REQUEST)).hypotheses[0].text == "HELLO"
