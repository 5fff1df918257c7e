"""A server's life: listen, load, serve, and on SIGTERM or SIGINT drain and end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable

import structlog

from dragoman_server.heap import bound_heap
from dragoman_server.loading import Loaded
from dragoman_server.server import DragomanServer
from dragoman_server.settings import Settings

_OVERTIME_SECONDS = 10.0
"""How long after the grace the process is ended even if something in it hangs."""

_log = structlog.get_logger(__name__)


async def run(
    settings: Settings, load: Callable[[Settings], Loaded], ready: Callable[[str, str | None, Loaded], None]
) -> None:
    """Serve until a signal; returns when everything has been stopped in order.

    ``load`` runs in a thread and gives models whose engines run; ``ready`` is told the bound address, the URL of the
    HTTP port where there is one, and the models, once requests are answered. A second signal ends the process at once,
    with exit status 128 + its number.
    Raises SettingsError when the port cannot be had, and whatever ``load`` raises.
    """
    bound_heap()
    stopping = _Stopping(settings.grace)
    server = DragomanServer(settings)
    try:
        address = await server.start()
        _log.info("listening; the models are loading", address=address)
        loaded = await asyncio.to_thread(load, settings)
        await server.open(loaded.catalogue, loaded.loader)
        if not stopping.asked.is_set():
            ready(address, server.http_url, loaded)
        del loaded  # it would keep models that are unloaded later
        await stopping.asked.wait()
    finally:
        await server.drain(settings.grace)
        stopping.done()
    _log.info("stopped")


class _Stopping:
    """Hears the signals: the first asks for an orderly end, the second ends at once."""

    def __init__(self, grace: float) -> None:
        self.asked = asyncio.Event()
        self._grace = grace
        self._watchdog = threading.Timer(grace + _OVERTIME_SECONDS, _give_up)
        self._watchdog.daemon = True
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._hear, number)

    def _hear(self, number: signal.Signals) -> None:
        if self.asked.is_set():
            os._exit(128 + number)  # asked twice: not even the lanes' threads are waited for
        _log.info("stopping", signal=number.name, grace_seconds=self._grace)
        self.asked.set()
        self._watchdog.start()

    def done(self) -> None:
        self._watchdog.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)


def _give_up() -> None:
    _log.error("something hangs after the grace: ending without it")
    os._exit(1)
