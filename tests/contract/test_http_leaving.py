"""Callers of the HTTP port that go away, over real sockets: what was begun for them ends, and its rows are free."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from dragoman_server.errors import Cancelled
from dragoman_server.web.faults import Fault
from dragoman_server.web.replies import Reply
from tests.contract.web import SECONDS, Web, until, web

FEW_STEPS = 2_000
ENDLESS = {
    "prompt": "hello",
    "model": "toy",
    "context_overflow": "CONTEXT_OVERFLOW_SLIDE",
    "options": {"max_length": 60_000, "min_length": 59_999},
}
"""Takes far more steps than the test lets the model do: it ends early, or not at all."""


async def opened(here: Web, path: str, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which this was asked."""
    host, _, port = here.http.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {here.http}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
    return reader, writer


@pytest.mark.parametrize("body", [ENDLESS, ENDLESS | {"stream": False}], ids=["stream", "one answer"])
async def test_a_caller_that_goes_away_frees_its_rows(body: dict[str, Any]) -> None:
    gate = threading.Semaphore(0)
    async with web(gate=gate) as here:
        reader, writer = await opened(here, "/v1/generate", body)
        gate.release(10)
        await until(lambda: here.prompts.state().rows_used == 1)
        if body is ENDLESS:
            first = await asyncio.wait_for(reader.readuntil(b"\n\n"), SECONDS)
            assert b" 200 " in first
        writer.close()
        gate.release(FEW_STEPS)
        await until(lambda: here.prompts.state().rows_used == 0)
        lines = (await here.counted()).splitlines()
        ended = [line for line in lines if line.startswith("dragoman_rpcs_total") and "/v1/generate" in line]
        assert ended
        assert all('code="CANCELLED"' in line for line in ended)


async def test_each_choice_of_a_caller_that_goes_away_ends() -> None:
    gate = threading.Semaphore(0)
    async with web(gate=gate) as here:
        asked = {"model": "toy", "prompt": ["hello", "jolly"], "max_tokens": 18, "n": 2, "seed": 1}
        _, writer = await opened(here, "/v1/completions", asked)
        await until(lambda: _under_way(here) == 4)
        writer.close()
        lines: list[str] = []
        async with asyncio.timeout(SECONDS):
            while not lines:
                found = (await here.counted()).splitlines()
                lines = [line for line in found if line.startswith("dragoman_rpcs_total") and "completions" in line]
        assert all('code="CANCELLED"' in line for line in lines)
        gate.release(FEW_STEPS)
        await until(lambda: _under_way(here) == 0)
        assert not [line for line in (await here.counted()).splitlines() if _completed(line)]


def _under_way(here: Web) -> int:
    state = here.prompts.state()
    return state.waiting + state.running


def _completed(line: str) -> bool:
    """Whether the line counts requests that the toy has answered."""
    wanted = ("dragoman_requests_total", 'model="toy"', 'outcome="completed"')
    return all(part in line for part in wanted) and not line.endswith(" 0.0")


async def test_a_caller_that_reads_nothing_is_given_up() -> None:
    never = asyncio.Event()

    async def stuck(_: object) -> None:
        await never.wait()

    reply = Reply(stuck, "1", 0.05)
    with pytest.raises(Cancelled, match="reads nothing"):
        await reply.event({})
    await reply.fault(Fault(500, "INTERNAL", ""), {})  # returns at once: there is nobody to tell
