"""The containers of docker-compose.yml as plain processes: their own commands and environments, on ports that are free.

What a container reaches by a service's name or under /run/secrets is put in its place here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from dragoman import TLS, Client
from tests.integration.server_process import SERVE
from tests.system.programs import free_port

ROOT = Path(__file__).parents[2]
COMPOSED: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PATIENCE = 120.0
_DRAGOMAN = SERVE[:-1]


class Composed:
    """Secrets by deploy/prepare.sh, two replicas, and a balancer in front of them."""

    def __init__(self, folder: Path, haproxy: str) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: (free_port(), free_port()) for name in ("replica-1", "replica-2")}
        """gRPC and HTTP."""
        self.grpc = f"localhost:{free_port()}"
        self.https = f"localhost:{free_port()}"
        self.status = f"127.0.0.1:{free_port()}"
        """The balancer's own page for Prometheus."""
        self._haproxy = haproxy
        command = " ".join(f"'{part}'" for part in _DRAGOMAN)
        script = folder / "dragoman"
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        script.chmod(0o755)
        environment = {**os.environ, "DRAGOMAN": str(script)}
        subprocess.run(
            [ROOT / "deploy" / "prepare.sh", folder], env=environment, check=True, capture_output=True, timeout=60
        )

    def secret(self, name: str) -> Path:
        """Where a secret of the compose file was made."""
        return self.folder / Path(COMPOSED["secrets"][name]["file"]).name

    def token(self, name: str) -> str:
        return (self.folder / f"{name}.token").read_text().strip()

    def client(self) -> Client:
        """A user's, through the balancer."""
        return Client(self.grpc, token=self.token("you"), tls=TLS(ca=self.secret("authority")), timeout=60)

    def start_replica(self, name: str) -> None:
        service = COMPOSED["services"][name]
        grpc, http = self.ports[name]
        moved = {"DRAGOMAN_PORT": str(grpc), "DRAGOMAN_HTTP_PORT": str(http), "DRAGOMAN_LANES": "1"}
        self._start(name, [*_DRAGOMAN, *service["command"]], {**self._environment(service), **moved})

    def start_balancer(self) -> None:
        hosts = {
            f"{name.upper().replace('-', '_')}{suffix}": f"127.0.0.1:{port}"
            for name, (grpc, http) in self.ports.items()
            for suffix, port in (("", grpc), ("_WEB", http))
        }
        checks = {f"{name.upper().replace('-', '_')}_HTTP": str(http) for name, (_, http) in self.ports.items()}
        moved = {
            **hosts,
            **checks,
            "REPLICA_GPU": "127.0.0.1:1",
            "REPLICA_GPU_WEB": "127.0.0.1:1",
            "GRPC_BIND": f"127.0.0.1:{self.grpc.partition(':')[2]}",
            "HTTPS_BIND": f"127.0.0.1:{self.https.partition(':')[2]}",
            "STATUS_BIND": self.status,
        }
        environment = {**self._environment(COMPOSED["services"]["balancer"]), **moved}
        config = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
        self._start("balancer", [self._haproxy, "-W", "-db", "-f", str(config)], environment)

    def start_prometheus(self, program: str) -> str:
        """Its address; the targets of its own file are where the replicas are."""
        config = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
        for name, (_, http) in self.ports.items():
            config = config.replace(f"{name}:8080", f"127.0.0.1:{http}")
        config = config.replace("balancer:8404", self.status)
        config = config.replace("/run/secrets/metrics_token", str(self.secret("metrics_token")))
        config = config.replace("scrape_interval: 5s", "scrape_interval: 1s")
        (self.folder / "prometheus.yml").write_text(config)
        (self.folder / "alerts.yml").write_text((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
        address = f"127.0.0.1:{free_port()}"
        storage = f"--storage.tsdb.path={self.folder / 'prometheus'}"
        command = [program, f"--config.file={self.folder / 'prometheus.yml'}", storage]
        self._start("prometheus", [*command, f"--web.listen-address={address}"], {})
        return address

    def run_load(self, seconds: int) -> subprocess.CompletedProcess[str]:
        """The load's container without its page: a few users for a moment; exit status 0 if no answer was wrong."""
        service = COMPOSED["services"]["load"]
        entry = re.search(r"ENTRYPOINT (\[\"locust.*?\])", (ROOT / "deploy" / "Dockerfile").read_text())
        assert entry is not None
        _, *arguments = json.loads(entry[1])
        environment = {**self._environment(service), "DRAGOMAN_SERVER": self.grpc}
        flags = ["--headless", "--users", "4", "--spawn-rate", "4", "--run-time", f"{seconds}s"]
        return subprocess.run(
            [sys.executable, "-m", "locust", *arguments, *flags],
            env={**os.environ, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def wait_ready(self, name: str) -> None:
        """Until the replica takes requests."""
        wait(lambda: _answers(f"http://127.0.0.1:{self.ports[name][1]}/readyz"), f"{name} is not ready")

    def wait_balanced(self, *names: str) -> None:
        """Until the balancer gives the replicas calls: it asks them every second whether they are ready."""
        wait(lambda: all(self._is_up(name) for name in names), f"the balancer does not see all of {names}")

    def _is_up(self, name: str) -> bool:
        try:
            return self.seen("status", name, state="UP") == 1
        except OSError:  # it is starting
            return False

    def seen(self, metric: str, name: str, **labels: str) -> float:
        """What the balancer says of a replica."""
        with urllib.request.urlopen(f"http://{self.status}/metrics", timeout=10) as response:
            text = response.read().decode()
        wanted = ",".join(f'{key}="{value}"' for key, value in {"proxy": "grpc", "server": name, **labels}.items())
        found = re.search(rf"^haproxy_server_{metric}{{{re.escape(wanted)}}} (\S+)$", text, re.MULTILINE)
        assert found is not None, f"the balancer says no {metric} of {name}"
        return float(found[1])

    def logs(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(30)

    def _environment(self, service: dict[str, Any]) -> dict[str, str]:
        environment = {key: str(value) for key, value in service.get("environment", {}).items()}
        for name in service.get("secrets", []):
            for key, value in environment.items():
                environment[key] = value.replace(f"/run/secrets/{name}", str(self.secret(name)))
        return environment

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("DRAGOMAN_")}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env={**inherited, **environment}, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )


def wait(happened: Any, otherwise: str) -> None:
    """Until ``happened()``, at most two minutes."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False
