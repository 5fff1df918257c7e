from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from dragoman_protos.v1 import inference_pb2, inference_pb2_grpc
from tests.integration.server_process import SECONDS, ServerProcess
from tests.unit.server import tiny

REQUEST = inference_pb2.TranslateRequest(text="The old town.", target_language="de")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    tiny.write_bundle(root / "tiny" / "1")
    return root


@pytest.fixture
def serve(repository: Path) -> Iterator[Callable[..., ServerProcess]]:
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> ServerProcess:
            return stack.enter_context(ServerProcess(repository, "--precision", "fp32", *options))

        yield start


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_it_does_not_listen_where_others_reach_it_without_tls_and_tokens(repository: Path, host: str) -> None:
    with ServerProcess(repository, "--precision", "fp32", "--host", host) as server:
        assert server.end() == 1
        assert not any("listening" in line for line in server.logs)
        said = "\n".join(server.logs)
    for word in (f"host = {host}", "tls_certificate and tls_key", "tokens (or tls_client_ca)", "--insecure"):
        assert word in said


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
    with subprocess.Popen([sys.executable, "-c", STUCK], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for event in ("listening", "stopping"):
                assert any(event in line for line in process.stderr), process.wait(SECONDS)
                process.terminate()
            assert process.wait(SECONDS) == 128 + signal.SIGTERM
        finally:
            process.kill()
