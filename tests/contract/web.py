"""A server with an HTTP port and a client of it: a model that translates by a fake engine, and a toy that generates."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from dragoman_server.catalogue import Catalogue
from dragoman_server.prompt_engine import PromptEngine
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from dragoman_server.telemetry.tracing import Tracing
from dragoman_server.web.limits import HttpLimits
from tests.contract.conftest import FakeEngine, LetterCodec, model
from tests.contract.generating import WINDOW, LettersCodec, generator
from tests.unit.server.prompt_reference import ToyPromptRuntime
from tests.unit.server.toy_model import EOS

SECONDS = 60.0


@dataclass
class Web:
    """Where it listens, what stands behind it, and a client of the HTTP port."""

    server: DragomanServer
    address: str
    """Of gRPC."""
    http: str
    """HOST:PORT."""
    engine: FakeEngine
    """Of deu-eng, the default model."""
    prompts: PromptEngine
    """Of toy."""
    client: httpx.AsyncClient

    async def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, json=body, headers=given)

    async def events(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The data of all events of a stream."""
        response = await self.post(path, body)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        return events_of(response.text)

    async def counted(self) -> str:
        """What /metrics says."""
        return (await self.client.get("/metrics")).text


def events_of(text: str) -> list[dict[str, Any]]:
    blocks = [block for block in text.split("\n\n") if block]
    return [json.loads(block.rpartition("data: ")[2]) for block in blocks]


def error_of(response: httpx.Response) -> dict[str, Any]:
    """What stands in a refusal, which holds nothing else."""
    assert response.headers["content-type"] == "application/json"
    (name, error), *others = response.json().items()
    assert (name, others) == ("error", [])
    found: dict[str, Any] = error
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def web(
    *,
    gate: threading.Semaphore | None = None,
    opened: bool = True,
    limits: HttpLimits | None = None,
    tracing: Tracing | None = None,
    toy: FakeEngine | None = None,
    **settings: Any,
) -> AsyncIterator[Web]:
    """``gate``: each step of the toy's needs a permit. ``toy``: this one stands behind the toy instead."""
    runtime = ToyPromptRuntime(16, capacity=WINDOW, chunk=4, gate=gate)
    prompts, engine = PromptEngine([runtime], eos=EOS, max_waiting=1000, max_waiting_tokens=100_000), FakeEngine()
    prompts.start()
    server = DragomanServer(Settings(port=0, http_port=0, **settings), http_limits=limits, tracing=tracing)
    address = await server.start()
    try:
        if opened:
            second = generator(prompts, LettersCodec()) if toy is None else generator(toy, LetterCodec())
            await server.open(Catalogue([model(engine), second], "deu-eng"))
        assert server.http_address
        async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=SECONDS) as client:
            yield Web(server, address, server.http_address, engine, prompts, client)
    finally:
        if gate is not None:
            gate.release(10_000)
        await server.drain(5)
        if not opened or toy is not None:
            prompts.stop(0)
