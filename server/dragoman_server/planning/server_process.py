"""A server of one model in a process of its own, so that it and its callers share nothing but the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dragoman_server.settings import Settings

_SERVE = "import typer; from dragoman_server.commands import serve; typer.run(serve)"
_ADDRESS = re.compile(r"  gRPC +(\S+)")
_END_SECONDS = 30.0
_SHOWN = 2000


class ServerFailed(Exception):
    """The server did not start; the message has the end of its log."""


@contextmanager
def serving(bundle: Path, name: str, settings: Settings) -> Iterator[str]:
    """Serve the one bundle on a free port of this machine; yields the address. Raises ServerFailed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DRAGOMAN_")}
    environment |= {
        "DRAGOMAN_MAX_WAITING": str(settings.max_waiting),
        "DRAGOMAN_MAX_WAITING_TOKENS": str(settings.max_waiting_tokens),
        "DRAGOMAN_LOG_LEVEL": "error",
    }
    options = ["--port", "0", "--lanes", str(settings.lanes), "--max-rows", str(settings.max_rows)]
    options += ["--precision", settings.precision, "--grace", "0"]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        shutil.copytree(bundle, Path(folder) / name / "1")
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, folder, *options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        try:
            found = next((match for line in process.stdout if (match := _ADDRESS.match(line))), None)
            if found is None:
                log.seek(0)
                raise ServerFailed(f"the server did not start: {log.read()[-_SHOWN:]}")
            yield found[1]
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
