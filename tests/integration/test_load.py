"""Load on a real server with the shipped models: our own generator and locust's users, both checking every answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dragoman.cli.load import load
from dragoman.cli.main import GROUP, guarded
from dragoman.load.result import from_json
from dragoman_protos.v1 import bundle_pb2, inference_pb2, models_pb2
from tests.integration.server_process import ServerProcess
from tests.unit.client.conftest import FakeServer, reversal

ROOT = Path(__file__).parents[2]
LOCUST_SECONDS = 120

command = typer.Typer()
command.command()(guarded(EntryPoint("bench load", "dragoman.cli.load:load", GROUP), load))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ServerProcess(ROOT / "models", "--max-rows", "16") as server:
        yield server.wait_ready()


def test_a_tiny_day_from_the_command_line(address: str, tmp_path: Path) -> None:
    loads = ("--concurrency", "2,8", "--rate", "50%", "--duration", "1", "--warm-up", "0.2", "--requests", "6")
    limits = ("--objective-p99-ms", "60000", "--objective-ttft-ms", "60000", "--objective-tpot-ms", "60000")
    options = ("--server", address, "--workload", "day", *loads, *limits)
    shown = CliRunner().invoke(command, [*options, "--output", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    found = from_json(json.loads((tmp_path / "day.json").read_text()))
    assert {model.name for model in found.models} == {"deu-eng", "intents", "shakespeare"}
    assert [point.mode for point in found.points] == ["closed", "closed", "open"]
    assert sum(point.requests for point in found.points) > 0
    assert all(point.kept == 1.0 for point in found.points)  # so all answers are the same to the bit
    assert any(point.first_token is not None and point.gap is not None for point in found.points)
    assert any(point.tokens > 0 for point in found.points)
    assert "Answers that differ from the request's own alone: 0 of" in shown.output


def locust(address: str, seconds: int, report: Path, *users: str) -> tuple[int, dict[tuple[str, str], dict[str, Any]]]:
    """Exit status, and the statistics by type and name."""
    command = [sys.executable, "-m", "locust", "-f", "tests/load/locustfile.py", "--host", address, "--headless"]
    options = ["-u", "4", "-r", "4", "-t", f"{seconds}s", "--json-file", str(report), "--only-summary", *users]
    run = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=LOCUST_SECONDS
    )
    assert report.with_suffix(".json").is_file(), run.stderr
    rows = json.loads(report.with_suffix(".json").read_text())
    return run.returncode, {(row["method"], row["name"]): row for row in rows}


def test_users_of_locust(address: str, tmp_path: Path) -> None:
    status, rows = locust(address, 2, tmp_path / "report", "Stream", "Classify")
    assert status == 0
    assert {("gRPC", "stream"), ("TTFT", "stream"), ("TPOT", "stream"), ("ITL", "stream")} <= set(rows)
    assert ("gRPC", "classify") in rows
    assert ("TTFT", "classify") not in rows
    assert not any(row["num_failures"] for row in rows.values())
    streams = rows["gRPC", "stream"]["num_requests"]
    assert 0 < rows["TTFT", "stream"]["num_requests"] <= streams < rows["ITL", "stream"]["num_requests"]


def test_to_locust_a_wrong_answer_is_a_failure(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def another_one_later(request: inference_pb2.TranslateRequest, context: Any) -> inference_pb2.TranslateResponse:
        asked[request.text] += 1
        return reversal(request.text if asked[request.text] == 1 else request.text.upper())

    fake = FakeServer()
    fake.answer = another_one_later
    task = bundle_pb2.Bundle.TASK_TRANSLATE
    fake.served = models_pb2.ListModelsResponse(
        models=[models_pb2.Model(name="deu-eng", version="1", tasks=[task], languages=["de"], precision="int8")]
    )
    try:
        status, rows = locust(fake.address, 1, tmp_path / "report", "Short")
    finally:
        fake.stop()
    assert status == 1
    row = rows["gRPC", "short"]
    assert row["num_failures"] == row["num_requests"] > 0
