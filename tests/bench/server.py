"""``dragoman serve`` in a process of its own, and what processor time it takes."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from dragoman import Client, DragomanError
from tests.bench.ours import OurSettings

_SERVE = [sys.executable, "-c", "from dragoman.cli.main import main; main()", "serve"]
_SECONDS = 120.0


class Server:
    """Serves a repository on a free port of this machine; a context manager that waits until it answers."""

    def __init__(self, repository: Path, settings: OurSettings) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        options = ["--lanes", str(settings.lanes), "--max-rows", str(settings.max_rows)]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (as long as the process)
        command = [*_SERVE, str(repository), "--port", str(port), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._log)
        self._watched = psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def cpu_seconds(self) -> float:
        """Processor time of the process so far, in the program and in the kernel."""
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    def _wait(self) -> None:
        last = time.monotonic() + _SECONDS
        with Client(self.address) as client:
            while time.monotonic() < last and self._process.poll() is None:
                try:
                    client.models(timeout=1.0)
                except DragomanError:
                    time.sleep(0.2)
                else:
                    return
        self._log.seek(0)
        raise RuntimeError(f"the server does not answer: {self._log.read()[-2000:]}")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
