from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings, SettingsError
from tests.contract.raw_http2 import raw_connection

if TYPE_CHECKING:
    from tests.contract.conftest import Harness

LIMIT = 64 << 10


@pytest.fixture
def settings() -> Settings:
    return Settings(port=0, max_message_bytes=LIMIT)


def whole(text: str) -> inference_pb2.TranslateRequest:
    none = inference_pb2.SEGMENTATION_NONE
    return inference_pb2.TranslateRequest(text=text, target_language="de", segmentation=none)


async def code(harness: Harness, text: str, **call: object) -> grpc.StatusCode:
    request = inference_pb2.TranslateRequest(text=text, target_language="de")
    return await harness.inference.Translate(request, **call).code()  # type: ignore[arg-type]


async def test_a_message_over_the_limit_is_refused(serving: Harness) -> None:
    assert await code(serving, "a" * (LIMIT + 1)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await code(serving, "a") is grpc.StatusCode.OK


async def test_a_message_that_only_compresses_under_the_limit_is_refused(serving: Harness) -> None:
    bomb = "a" * (LIMIT * 64)
    assert await code(serving, bomb, compression=grpc.Compression.Gzip) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await code(serving, "a") is grpc.StatusCode.OK


async def test_metadata_over_the_limit_is_refused(serving: Harness) -> None:
    metadata = (("padding", "x" * (17 << 10)),)
    assert await code(serving, "a", metadata=metadata) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await code(serving, "a", metadata=(("padding", "x" * (12 << 10)),)) is grpc.StatusCode.OK


async def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenised(serving: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="4001 characters: at most 4000 characters"):
        await serving.inference.Translate(whole("a" * 4001))


async def test_a_text_over_the_token_limit_is_refused_with_its_count(serving: Harness) -> None:
    for length in (41, 2000):  # tokenised here, and in another thread
        with pytest.raises(grpc.aio.AioRpcError, match=f"{length + 2} tokens: at most 42 tokens"):
            await serving.inference.Translate(whole("a" * length))
    assert await code(serving, "a" * 40) is grpc.StatusCode.OK


async def test_a_second_server_cannot_take_the_port(serving: Harness) -> None:
    port = int(serving.address.rpartition(":")[2])
    second = DragomanServer(Settings(port=port))
    with pytest.raises(SettingsError, match="free"):
        await second.start()
    await second.drain(0)


@pytest.mark.parametrize(("size", "status"), [(12 << 10, "0"), (17 << 10, "8"), (1 << 20, "8")])
async def test_metadata_of_a_peer_that_acknowledges_nothing(serving: Harness, size: int, status: str) -> None:
    """gRPC's core holds a peer to the limit only once it has acknowledged the server's settings."""
    entries = [(f"x-{number}", "y" * 1000) for number in range(size // 1000)]
    async with raw_connection(serving.address) as connection:
        stream = await connection.call("/dragoman.v1.InferenceService/Translate", whole("a"), headers=entries)
        call = await connection.finish(stream)
    assert call.headers["grpc-status"] == status
    if status != "0":
        # Where the core comes first after all, its own message lists the metadata, and is too long for it to send.
        ours = "the metadata are too large: at most 16384 bytes"
        assert call.headers.get("grpc-message", ours) == ours
    assert await code(serving, "a") is grpc.StatusCode.OK
