from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from tests.unit.server import tiny

SERVE = [sys.executable, "-c", "from dragoman.cli.main import main; main()", "serve"]
REQUEST = inference_pb2.TranslateRequest(text="The old town.", target_language="de")
SECONDS = 60.0


class ServerProcess:
    """``dragoman serve`` in a process of its own; usable once it has said that it is ready."""

    def __init__(self, repository: Path, *options: str) -> None:
        command = [*SERVE, str(repository), "--port", "0", "--precision", "fp32", "--log-format", "json", *options]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DRAGOMAN_")}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.logs: list[str] = []
        self._reader = threading.Thread(target=self._read_logs, daemon=True)
        self._reader.start()
        self.announcement: list[str] = []

    def wait_ready(self) -> str:
        """The address, from what is printed to stdout."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.announcement.append(line)
            if re.match(r"  en -> de", line):  # the last line of the announcement
                break
        found = re.search(r"gRPC +(\S+)", "".join(self.announcement))
        assert found, "".join(self.logs)
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


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    tiny.write_bundle(root / "tiny" / "1")
    return root


@pytest.fixture
def serve(repository: Path) -> Iterator[Callable[..., ServerProcess]]:
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> ServerProcess:
            server = ServerProcess(repository, *options)
            stack.callback(_reap, server.process)
            return server

        yield start


def _reap(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def test_announces_itself_translates_and_ends_well(serve: Callable[..., ServerProcess]) -> None:
    server = serve("--lanes", "2")
    address = server.wait_ready()
    shown = "".join(server.announcement)
    assert re.search(r"ready after \d+\.\d s", shown)
    assert "tiny version 1 (default): German (de), English (en); fp32 on CPUExecutionProvider, 2 lanes" in shown
    assert "Wo ist der Bahnhof? -> " in shown
    with grpc.insecure_channel(address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        first, again = (stub.Translate(REQUEST, timeout=SECONDS) for _ in range(2))
        assert first == again
        assert (first.model, first.model_version) == ("tiny", "1")
        assert first.usage.target_tokens >= 1
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == 0
    # What was translated is in no log.
    assert not any("old town" in line or "Bahnhof" in line for line in server.logs)
    assert any('"stopped"' in line for line in server.logs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_finished_before_it_ends(
    serve: Callable[..., ServerProcess], number: signal.Signals
) -> None:
    server = serve("--lanes", "1", "--max-rows", "1")
    with grpc.insecure_channel(server.wait_ready()) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        # One row and many requests: most of them wait or run when the signal comes. The first answer tells that the
        # server is at work.
        calls = [stub.Translate.future(REQUEST, timeout=SECONDS) for _ in range(300)]
        calls[20].result()
        server.process.send_signal(number)
        outcomes = [call.code() for call in calls]
    assert server.end() == 0
    # Those that had arrived were answered, those that came later were told to go elsewhere; none hung or broke.
    assert set(outcomes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert outcomes.count(grpc.StatusCode.OK) >= 1


STUCK = """
import asyncio, threading
from dragoman_server import lifecycle, logs
from dragoman_server.settings import Settings

def load(settings):
    threading.Event().wait()

logs.configure("info", "json")
asyncio.run(lifecycle.run(Settings(port=0), load, print))
"""


def test_a_second_signal_ends_it_at_once() -> None:
    # Loading hangs, so that nothing but the second signal can end it within the test's time.
    process = subprocess.Popen([sys.executable, "-c", STUCK], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for event in ("listening", "stopping"):
            assert any(event in line for line in process.stderr), process.wait(SECONDS)
            process.terminate()
        assert process.wait(SECONDS) == 128 + signal.SIGTERM
    finally:
        _reap(process)
