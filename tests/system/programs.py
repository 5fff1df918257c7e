"""Programs of Debian's packages, for tests that need the real thing."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess

import pytest


def found(program: str, package: str | None = None) -> str | None:
    """The program's path; installed first where that is possible, and None where it is not."""
    if shutil.which(program) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["update"], ["install", "-y", "--no-install-recommends", package or program]):
            subprocess.run(["apt-get", "-q", *step], env=environment, capture_output=True, check=False, timeout=900)
    return shutil.which(program)


def installed(program: str, package: str | None = None) -> str:
    """The same; where there is none, the test is skipped with the reason."""
    path = found(program, package)
    if path is None:
        pytest.skip(f"{program} is not there and could not be installed: as root, apt-get install {package or program}")
    return path


# Below those that the kernel gives to outgoing connections: one of them could take a port before its server does.
_PORTS = iter(random.sample(range(15_000, 32_000), 1_000))


def free_port() -> int:
    """One that nobody listens on now, and a different one each time."""
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # taken
                continue
            return port
    raise AssertionError("no port is free")
