"""``dragoman serve`` as a process that faults are done to, and a look at what it holds."""

from __future__ import annotations

import asyncio
import json
import math
import os
import resource
import signal
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.server_process import ServerProcess
from tests.robustness.history import Reading

_MIB = 1 << 20
_LOOK_SECONDS = 10.0


class Observable(Protocol):
    """Anything that answers requests, and whose insides can be looked at."""

    name: str
    address: str

    async def reading(self) -> Reading:
        """What it holds now."""


class Server:
    """One process of ``dragoman serve`` over ``repository``, from ``start`` to ``stop``.

    ``tls`` is what its HTTP port is asked with, ``scraper`` the token for it.
    """

    def __init__(
        self,
        name: str,
        repository: Path,
        *options: str,
        environment: Mapping[str, str] = os.environ,
        tls: ssl.SSLContext | None = None,
        scraper: str | None = None,
    ) -> None:
        self.name = name
        self.address = ""
        self._repository = repository
        self._options = ("--http-port", "0", *options)
        self._environment = environment
        self._tls = tls
        self._headers = {} if scraper is None else {"authorization": f"Bearer {scraper}"}
        self._served: ServerProcess | None = None
        self._http = ""

    @property
    def process(self) -> ServerProcess:
        """The process that runs."""
        assert self._served is not None, "not started"
        return self._served

    @property
    def pid(self) -> int:
        return self.process.process.pid

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    async def start(self, *options: str) -> None:
        """Start it, and wait until it answers. ``options`` come after those that it was made with."""
        self._served = ServerProcess(self._repository, *self._options, *options, environment=self._environment)
        try:
            self.address = await asyncio.to_thread(self._served.wait_ready)
        except BaseException:
            self.kill()
            raise
        found = [json.loads(line) for line in self._served.logs if "listening for HTTP" in line]
        self._http = str(found[0]["address"])

    def signal(self, number: signal.Signals) -> None:
        self.process.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end; the exit status, negative for a signal."""
        return await asyncio.to_thread(self.process.end)

    def kill(self) -> None:
        """End it without any order, if it runs."""
        if self._served is not None:
            self._served.__exit__()
            self._served = None

    @property
    def running(self) -> bool:
        """Whether the process is there, as far as one knows."""
        return self._served is not None and self._served.process.poll() is None

    def limit_descriptors(self, most: int | None) -> None:
        """Let the process have so many file descriptors from now on; None: as many as before."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (hard if most is None else most, hard))

    async def reading(self) -> Reading:
        """What it holds now, by its metrics and by what the kernel says of the process."""
        verify: ssl.SSLContext | bool = True if self._tls is None else self._tls
        async with httpx.AsyncClient(verify=verify, headers=self._headers, timeout=_LOOK_SECONDS) as http:
            response = await http.get(f"{self._http}/metrics")
        response.raise_for_status()
        sums = _sums(response.text)
        process = psutil.Process(self.pid)
        return Reading(
            rows_used=sums.get("dragoman_rows used", 0),
            rows_free=sums.get("dragoman_rows free", 0),
            waiting=sums.get("dragoman_waiting", 0),
            running=sums.get("dragoman_running", 0),
            in_flight=sums.get("dragoman_rpcs_in_flight", 0),
            resident=process.memory_info().rss / _MIB,
            descriptors=process.num_fds(),
            threads=process.num_threads(),
            errors=sum('"level": "error"' in line for line in self.process.logs),
        )


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _sums(text: str) -> dict[str, int]:
    """Gauges summed over models and lanes; rows by their state."""
    sums: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = " ".join(filter(None, (sample.name, sample.labels.get("state", ""))))
            if math.isfinite(sample.value):
                sums[key] = sums.get(key, 0) + int(sample.value)
    return sums
