"""Programs of Debian's packages, for tests that need the real thing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest


def installed(program: str, package: str | None = None) -> str:
    """The program's path; installed where that is possible, and where it is not the test is skipped with the reason."""
    package = package or program
    if shutil.which(program) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-q", *step], env=environment, capture_output=True, check=False, timeout=600)
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not there and could not be installed: as root, apt-get install {package}")
    return found


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
