"""The programs that the documentation's commands name, in a workplace: ``shims.py PROGRAM ARGUMENT...``.

``dragoman`` is the real command; what serves goes into the background, and is ready when this returns. What would
change the machine, or needs what is not here, is held to something that says the same: a make target to ``make -n``, an
extra to pyproject.toml, a chart to ``helm template``.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.request
from pathlib import Path

ROOT, STATE = Path(os.environ["DOCS_ROOT"]), Path(os.environ["DOCS_STATE"])
DRAGOMAN = [sys.executable, "-c", "from dragoman.cli.main import main; main()"]
PATIENCE = 120.0
_PID, _PORTS, _LOG = STATE / "server.pid", STATE / "server.ports", STATE / "server.log"


def main(program: str, arguments: list[str]) -> int:
    """The program's exit status."""
    runs = {
        "dragoman": dragoman,
        "make": make,
        "python": python,
        "pip": pip,
        "curl": curl,
        "docker": docker,
        "helm": helm,
    }
    return runs[program](arguments)


def dragoman(arguments: list[str]) -> int:
    if arguments[0] == "serve":
        return serve(arguments[1:])
    if arguments[:2] == ["bench", "independence"]:
        arguments = [*arguments, "--sentences", "24"]  # a thousand are proven elsewhere
    environment = dict(os.environ)
    if _PORTS.exists():
        grpc, http = _PORTS.read_text().split()
        environment["DRAGOMAN_SERVER"] = f"127.0.0.1:{grpc}"
        ports = {"50051": grpc, "8080": http}
        if "--tls" in arguments:
            environment["DRAGOMAN_TLS_CA"] = "authority.pem"
        arguments = [
            re.sub(
                r"(translate\.example\.org|localhost|127\.0\.0\.1):(50051|8080)",
                lambda m: f"127.0.0.1:{ports[m[2]]}",
                one,
            )
            for one in arguments
        ]
    return subprocess.run([*DRAGOMAN, *arguments], env=environment, check=False).returncode


def serve(arguments: list[str]) -> int:
    """Start it in the place of the one that runs; wait until it is ready."""
    if _PID.exists():
        stop(int(_PID.read_text()))
    grpc, http = free_port(), free_port()
    with_http = "--http-port" in arguments
    if with_http:
        place = arguments.index("--http-port")
        arguments = [*arguments[:place], *arguments[place + 2 :], "--http-port", str(http)]
    with _LOG.open("w") as log:
        server = subprocess.Popen(
            [*DRAGOMAN, "serve", *arguments, "--port", str(grpc), "--lanes", "1", "--log-format", "json"],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    _PID.write_text(str(server.pid))
    _PORTS.write_text(f"{grpc} {http}")
    end = time.monotonic() + PATIENCE
    while "is ready after" not in _LOG.read_text():
        if server.poll() is not None or time.monotonic() > end:
            print(_LOG.read_text())
            return 1
        time.sleep(0.05)
    return 0


def stop(pid: int) -> None:
    try:
        os.kill(pid, 9)
        while True:
            os.kill(pid, 0)
            time.sleep(0.02)
    except ProcessLookupError:
        pass


def make(arguments: list[str]) -> int:
    if arguments == ["serve"]:
        return serve([])
    return subprocess.run(
        ["/usr/bin/env", "-S", "make", "-n", *arguments], cwd=ROOT, env=plain(), check=False
    ).returncode


def python(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, *arguments], check=False).returncode


def pip(arguments: list[str]) -> int:
    """Every extra that is to be installed is one of ours."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for one in arguments for extra in re.findall(r"\[([\w,-]+)\]", one)}
    unknown = {part for group in named for part in group.split(",")} - extras.keys()
    missing = [one for one in arguments if one.endswith(".txt") and not (ROOT / one).exists()]
    print(f"unknown: {unknown}, missing: {missing}")
    return 1 if unknown or missing else 0


def curl(arguments: list[str]) -> int:
    """A plain GET, of the server that runs."""
    (url,) = (one for one in arguments if one.startswith("http"))
    _, http = _PORTS.read_text().split()
    with urllib.request.urlopen(
        re.sub(r"(localhost|127\.0\.0\.1):8080", f"127.0.0.1:{http}", url), timeout=60
    ) as answer:
        sys.stdout.write(answer.read().decode())
    return 0


def docker(arguments: list[str]) -> int:
    """The compose file holds what the command names; what its containers run is run by tests/system."""
    text = (ROOT / "docker-compose.yml").read_text()
    profiles = [arguments[place + 1] for place, one in enumerate(arguments) if one == "--profile"]
    return 0 if all(f"profiles: [{profile}]" in text for profile in profiles) else 1


def helm(arguments: list[str]) -> int:
    """What would be installed is rendered."""
    real = str(Path(sysconfig.get_path("scripts")) / "helm")
    return subprocess.run(
        [real, "template", *arguments[1:]], cwd=ROOT, stdout=subprocess.DEVNULL, check=False
    ).returncode


def plain() -> dict[str, str]:
    """The environment without these programs on the path."""
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if one != str(STATE))
    return {**os.environ, "PATH": path}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
