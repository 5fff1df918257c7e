"""A real Prometheus scrapes a real server: every query of the dashboard and every alert finds what it asks for.

Run by ``make test-system``. Prometheus is Debian's package; see ``programs``.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import Client
from tests.integration.server_process import ServerProcess
from tests.system.programs import free_port, installed

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dragoman.json"
SENTENCE = "Where is the station?"
PATIENCE = 120.0


@pytest.fixture(scope="session")
def prometheus() -> str:
    return installed("prometheus")


def asked(base: str, path: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{base}{path}?{urllib.parse.urlencode(parameters)}", timeout=20) as answer:
        return json.load(answer)["data"]


def found_in(base: str, expression: str) -> list[Any]:
    result: list[Any] = asked(base, "/api/v1/query", query=expression)["result"]
    return result


@pytest.fixture(scope="module")
def scraping(prometheus: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that has seen a server with some load."""
    folder = tmp_path_factory.mktemp("prometheus")
    with ServerProcess(None, "--http-port", "0", "--lanes", "1", folder=ROOT) as server:
        address = server.wait_ready()
        (line,) = (line for line in server.logs if "listening for HTTP" in line)
        http = json.loads(line)["address"].removeprefix("http://")
        rules = folder / "alerts.yml"
        rules.write_text(ALERTS.read_text())
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: ['{rules}']\n"
            f"scrape_configs: [{{job_name: dragoman, static_configs: [{{targets: ['{http}']}}]}}]\n"
        )
        base = f"http://127.0.0.1:{free_port()}"
        output = (folder / "log").open("w")
        process = subprocess.Popen(
            [
                prometheus,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={base.removeprefix('http://')}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            load(address, base)
            yield base
        finally:
            process.terminate()
            process.wait(30)
            output.close()


def load(address: str, base: str) -> None:
    """Translate until Prometheus has seen the count grow over several scrapes."""
    end = time.monotonic() + PATIENCE
    with Client(address) as client:
        while time.monotonic() < end:
            client.translate(SENTENCE, target="de")
            try:
                if found_in(base, 'rate(dragoman_rpcs_total{rpc="Translate"}[30s]) > 0') and found_in(
                    base, "count_over_time(dragoman_ready[1m]) >= 3"
                ):
                    return
            except OSError:  # it is starting
                pass
            time.sleep(0.2)
    raise AssertionError("Prometheus has not seen the load")


def test_every_query_of_the_dashboard_finds_something(scraping: str) -> None:
    queries = [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert queries
    assert [query for query in queries if not found_in(scraping, query)] == []


def test_every_alert_is_read_and_evaluated_and_none_fires(scraping: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        rules = asked(scraping, "/api/v1/rules")["groups"][0]["rules"]
        if all(rule["health"] != "unknown" for rule in rules) or time.monotonic() > end:
            break
        time.sleep(0.5)
    assert {rule["name"]: rule["health"] for rule in rules} == {rule["name"]: "ok" for rule in rules}
    assert len(rules) == ALERTS.read_text().count("alert: ")
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_every_metric_of_an_alert_is_there(scraping: str) -> None:
    names = set(re.findall(r"\b(?:dragoman|process)_[a-z_]+|\bup\b", ALERTS.read_text()))
    assert len(names) > 5
    assert [name for name in sorted(names) if not found_in(scraping, name)] == []
