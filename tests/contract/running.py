"""A server over real engines, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dragoman_server.catalogue import Catalogue
from dragoman_server.loading import load
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings


@dataclass
class Running:
    """Where it listens, and what it serves."""

    address: str
    catalogue: Catalogue

    @property
    def rows_used(self) -> int:
        (host,) = self.catalogue
        return host.engine.state().rows_used


@contextmanager
def serving(settings: Settings) -> Iterator[Running]:
    """Serve the repository that the settings name, until the context ends."""
    ready, over = threading.Event(), threading.Event()
    servers: list[Running] = []
    failures: list[Exception] = []

    async def serve() -> None:
        loaded = await asyncio.to_thread(load, settings)
        server = DragomanServer(settings)
        address = await server.start()
        await server.open(loaded.catalogue)
        servers.append(Running(address, loaded.catalogue))
        ready.set()
        await asyncio.to_thread(over.wait)
        await server.drain(5)

    def run() -> None:
        try:
            asyncio.run(serve())
        except Exception as error:
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(60)
    if failures:
        raise failures[0]
    try:
        yield servers[0]
    finally:  # or a test that fails would leave the server running, and pytest would never end
        over.set()
        thread.join(60)
