"""A reader that stands still, on a real socket: what its stream holds is freed, and others notice nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
import structlog

from dragoman_protos.v1 import inference_pb2
from dragoman_server.request import Progress, Request
from dragoman_server.settings import Settings
from tests.contract.conftest import echo
from tests.contract.generating import generating
from tests.contract.generating import request as generate_request
from tests.contract.raw_http2 import PATIENCE, raw_connection

if TYPE_CHECKING:
    from tests.contract.conftest import Harness

SERVICE = "/dragoman.v1.InferenceService"
CANCELLED = str(grpc.StatusCode.CANCELLED.value[0])


@pytest.fixture
def settings() -> Settings:
    return Settings(port=0, slow_reader_seconds=0.2, stream_window=4)


def translate_request(text: str = "hello") -> inference_pb2.TranslateRequest:
    return inference_pb2.TranslateRequest(text=text, target_language="de")


def without_end(submitted: Request) -> None:
    """Tells of one token, and goes on until somebody asks that it ends."""
    if submitted.progress is not None:
        submitted.progress(Progress([65], []))


async def until_cancelled(submitted: Request) -> None:
    async with asyncio.timeout(PATIENCE):
        while not submitted.cancelled:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("window", [0, 6])
async def test_a_stream_that_nobody_reads_is_given_up(serving: Harness, window: int) -> None:
    serving.engine.behave = without_end
    async with raw_connection(serving.address, window=window) as connection:
        stream = await connection.call(f"{SERVICE}/StreamTranslate", translate_request())
        submitted = await serving.engine.submitted.get()
        await until_cancelled(submitted)  # the connection is there, and answers pings
        await connection.take(stream, 1 << 16)
        call = await connection.finish(stream)
    assert call.headers["grpc-status"] == CANCELLED
    assert "0.2 seconds" in call.headers["grpc-message"]
    assert "dragoman-request-id" in call.headers


async def test_a_drain_does_not_wait_for_a_reader_that_stands_still(serving: Harness) -> None:
    serving.engine.behave = without_end
    async with raw_connection(serving.address, window=0) as connection:
        await connection.call(f"{SERVICE}/StreamTranslate", translate_request())
        await until_cancelled(await serving.engine.submitted.get())
        async with asyncio.timeout(PATIENCE):
            await serving.server.drain(600)


async def test_a_bulk_call_that_nobody_reads_is_given_up(serving: Harness) -> None:
    held: list[Request] = []

    def behave(submitted: Request) -> None:
        """The first is answered, the others never."""
        if held:
            held.append(submitted)
            return
        held.append(submitted)
        threading.Thread(target=lambda: submitted.finish(echo(submitted))).start()

    serving.engine.behave = behave
    items = [inference_pb2.TranslateItem(id=number, request=translate_request()) for number in range(8)]
    async with raw_connection(serving.address, window=0) as connection:
        request = inference_pb2.TranslateManyRequest(items=items)
        stream = await connection.call(f"{SERVICE}/TranslateMany", request, end=False)
        async with asyncio.timeout(PATIENCE):
            for _ in range(4):  # the window: no more are taken while nothing is read
                await serving.engine.submitted.get()
        for submitted in held[1:]:
            await until_cancelled(submitted)
        assert serving.engine.submitted.empty()
        await connection.take(stream, 1 << 16)
        call = await connection.finish(stream)
    assert call.headers["grpc-status"] == CANCELLED


async def test_a_reader_that_is_slow_but_reads_gets_everything(serving: Harness) -> None:
    def behave(submitted: Request) -> None:
        assert submitted.progress is not None
        for count in range(1, 5):
            submitted.progress(Progress([65] * count, []))
        submitted.finish(echo(submitted))

    serving.engine.behave = behave
    async with raw_connection(serving.address, window=0) as connection:
        stream = await connection.call(f"{SERVICE}/StreamTranslate", translate_request("aaaaa"))
        while not connection.calls[stream].over:
            await connection.take(stream, 1 << 10)
            await connection.read()
    assert connection.calls[stream].headers["grpc-status"] == "0"
    assert b"AAAAA" in connection.calls[stream].data


async def test_a_text_that_nobody_reads_gives_its_row_back() -> None:
    gate = threading.Semaphore(0)
    options = inference_pb2.DecodingOptions(max_length=18, min_length=17)
    async with generating(gate, Settings(port=0, slow_reader_seconds=0.2)) as serving:
        with structlog.testing.capture_logs() as logs:
            async with raw_connection(serving.address, window=0) as connection:
                await connection.call(f"{SERVICE}/Generate", generate_request("hello", options=options))
                gate.release(5)  # a prefill, and a few of 18 steps
                async with asyncio.timeout(PATIENCE):
                    while not any(entry["log_level"] == "warning" for entry in logs):
                        await asyncio.sleep(0.005)
                    while serving.engine.state().rows_used:
                        gate.release()
                        await asyncio.sleep(0.02)
        assert sum(event.startswith("step") for event in serving.runtime.events) < 17
