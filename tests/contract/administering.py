"""A server whose models come from a loader of the test's making, and a repository of empty bundles for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import grpc

from dragoman import AsyncClient, Retry
from dragoman_protos.v1 import inference_pb2_grpc
from dragoman_server.catalogue import Catalogue
from dragoman_server.model_host import ModelHost
from dragoman_server.repository import ModelVersion
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings
from tests.contract.conftest import FakeEngine, model

READY = "ready"
"""The state of a version that answers."""


def put(root: Path, name: str, version: int) -> Path:
    """A version appears in the repository, all at once."""
    beside = root / f".{name}-{version}"
    beside.mkdir(parents=True)
    (beside / "bundle.json").write_text("{}")
    (root / name).mkdir(exist_ok=True)
    return beside.rename(root / name / str(version))


@dataclass
class FakeLoader:
    """Makes models with fake engines; ``before`` may refuse or wait first."""

    before: Callable[[ModelVersion], None] = lambda entry: None
    engines: WeakValueDictionary[str, FakeEngine] = field(default_factory=WeakValueDictionary)
    """The newest of each version, as NAME@VERSION; the server alone keeps them."""
    stopped: dict[str, list[float]] = field(default_factory=dict)
    """What they were stopped with, when they are gone too."""
    loads: list[str] = field(default_factory=list)
    at_once: int = 0
    """Most loads at one time."""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, entry: ModelVersion) -> ModelHost:
        reference = f"{entry.name}@{entry.version}"
        with self._lock:
            self.loads.append(reference)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        try:
            self.before(entry)
        finally:
            with self._lock:
                self._now -= 1
        engine = self.engines[reference] = FakeEngine()
        self.stopped[reference] = engine.stopped_with
        return replace(model(engine, entry.name), version=str(entry.version))


@dataclass
class Administered:
    """A server that serves, and a client of it."""

    root: Path
    loader: FakeLoader
    client: AsyncClient
    inference: inference_pb2_grpc.InferenceServiceAsyncStub
    address: str

    async def version(self, reference: str | None = None) -> str:
        """The version that answers."""
        return (await self.client.translate("abc", target="de", model=reference)).model_version

    async def states(self) -> list[tuple[str, str, str]]:
        """Names, versions and states as they are listed."""
        return [(m.name, m.version, m.state) for m in await self.client.models()]

    async def until(self, *states: tuple[str, str, str]) -> None:
        """Wait for the list to be this."""
        async with asyncio.timeout(30):
            while await self.states() != list(states):
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def administered(root: Path, *served: str, **settings: Any) -> AsyncIterator[Administered]:
    """Serve these versions, NAME@VERSION, of the repository at ``root``; the first one's model is the default."""
    loader = FakeLoader()
    hosts = []
    for reference in served:
        name, _, version = reference.partition("@")
        hosts.append(loader.load(ModelVersion(name, int(version), put(root, name, int(version)))))
    loader.loads.clear()
    values: dict[str, Any] = {"port": 0, "models": root, "admin": True} | settings
    server = DragomanServer(Settings(**values))
    address = await server.start()
    await server.open(Catalogue(hosts, hosts[0].name), loader)
    del hosts
    try:
        async with (
            AsyncClient(address, retry=Retry(attempts=1)) as client,
            grpc.aio.insecure_channel(address) as channel,
        ):
            yield Administered(root, loader, client, inference_pb2_grpc.InferenceServiceStub(channel), address)
    finally:
        await server.drain(0)
