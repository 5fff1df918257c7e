"""``dragoman serve`` as a real process, for tests."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

SERVE = [sys.executable, "-c", "from dragoman.cli.main import main; main()", "serve"]
SECONDS = 60.0


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class ServerProcess:
    """``dragoman serve`` in a process of its own; usable once it has said that it is ready."""

    def __init__(
        self,
        repository: Path | None,
        *options: str,
        folder: Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """``repository`` None: the default one, as seen from ``folder``, where the process runs."""
        models = [] if repository is None else [str(repository)]
        self.process = subprocess.Popen(
            [*SERVE, *models, "--port", "0", "--log-format", "json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={key: value for key, value in environment.items() if not key.startswith("DRAGOMAN_")},
        )
        self.logs: list[str] = []
        self._reader = threading.Thread(target=self._read_logs, daemon=True)
        self._reader.start()
        self.announcement: list[str] = []
        self.address = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.end()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def wait_ready(self) -> str:
        """The address, from what is printed to stdout."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.announcement.append(line)
            if re.match(r"  en -> de", line):  # the last line of the announcement
                break
        found = re.search(r"gRPC +(\S+)", "".join(self.announcement))
        assert found, "".join(self.logs)
        self.address = found[1]
        return self.address

    @property
    def http_url(self) -> str:
        """Of the HTTP port, from what is printed to stdout."""
        found = re.search(r"HTTP +(\S+)", "".join(self.announcement))
        assert found, "".join(self.announcement)
        return found[1]

    def end(self) -> int:
        """Wait for the end; returns the exit status."""
        status = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return status

    def _read_logs(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.logs.append(line)
