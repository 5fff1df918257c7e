"""The programs that the documentation's commands name, in a workplace: ``shims.py PROGRAM ARGUMENT...``.

``dragoman`` is the real command; what serves goes into the background, and is ready when this returns. What would
change the machine, or needs what is not here, is held to something that says the same: a make target to ``make -n``, an
extra to pyproject.toml, a chart to ``helm template``.
"""

from __future__ import annotations

import argparse
import itertools
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
CAMPAIGNS = {"tests.robustness", "tests.load", "tests.load.report", "tests.soak", "tests.fuzz", "tests.bench.planning"}
"""Take minutes to hours: that they know their arguments must do here."""
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
        "locust": locust,
    }
    return runs[program](arguments)


def dragoman(arguments: list[str]) -> int:
    if arguments[0] == "serve":
        return serve(arguments[1:])
    if arguments[:2] == ["bench", "independence"]:
        arguments = [*arguments, "--sentences", "24"]  # a thousand are proven elsewhere
    if arguments[:2] == ["bench", "load"]:
        arguments = [*arguments, "--duration", "1", "--warm-up", "0.5"]
    environment = dict(os.environ)
    if _PORTS.exists():
        environment["DRAGOMAN_SERVER"] = placed(["127.0.0.1:50051"])[0]
        if "--tls" in arguments:
            environment["DRAGOMAN_TLS_CA"] = "authority.pem"
        arguments = placed(arguments)
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


def placed(arguments: list[str]) -> list[str]:
    """Addresses of the pages, as those of the server that runs."""
    grpc, http = _PORTS.read_text().split()
    ports = {"50051": grpc, "8080": http}
    return [
        re.sub(
            r"(translate\.example\.org|localhost|127\.0\.0\.1):(50051|8080)", lambda m: f"127.0.0.1:{ports[m[2]]}", one
        )
        for one in arguments
    ]


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
    if arguments[:1] == ["-m"] and arguments[1] in CAMPAIGNS:
        return subprocess.run([sys.executable, *arguments, "--help"], cwd=ROOT, check=False).returncode
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
    """Of the server that runs: GET, or POST with ``-d``."""
    known = argparse.ArgumentParser()
    known.add_argument("url")
    known.add_argument("-H", dest="headers", action="append", default=[])
    known.add_argument("-d", dest="data")
    given = known.parse_args(arguments)
    url = placed([given.url])[0]
    request = urllib.request.Request(url, data=given.data.encode() if given.data else None)
    for header in given.headers:
        name, _, value = header.partition(":")
        request.add_header(name, value.strip())
    with urllib.request.urlopen(request, timeout=60) as answer:
        sys.stdout.write(answer.read().decode())
    return 0


def locust(arguments: list[str]) -> int:
    """A few users, for a moment."""
    shorter = {"--users": "4", "--spawn-rate": "4", "--run-time": "3s"}
    arguments = [shorter.get(before, one) for before, one in itertools.pairwise(["", *placed(arguments)])]
    return subprocess.run([sys.executable, "-m", "locust", *arguments], cwd=ROOT, check=False).returncode


def docker(arguments: list[str]) -> int:
    """In the place of the balancer, one server with its certificate and tokens; tests/system runs the real one."""
    text = (ROOT / "docker-compose.yml").read_text()
    profiles = [one for before, one in itertools.pairwise(arguments) if before == "--profile"]
    if not all(f"profiles: [{profile}]" in text for profile in profiles):
        return 1
    secrets = Path("deploy") / "secrets"
    pair = ["--tls-certificate", f"{secrets / 'balancer.pem'}", "--tls-key", f"{secrets / 'balancer.pem'}"]
    return serve([*pair, "--tokens", f"{secrets / 'tokens.toml'}"])


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
