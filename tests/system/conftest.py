"""A Chromium, a server with the models that come with Dragoman and one that tags, and a visit to its playground."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from dragoman import Client
from tests.integration.server_process import ServerProcess
from tests.system.browser import PATIENCE_MS, Visit, found_chromium, opened_browser, visited
from tests.unit.server import tiny_encoder

ROOT = Path(__file__).parents[2]

expect.set_options(timeout=PATIENCE_MS)


@dataclass(frozen=True)
class Served:
    """A server's two addresses."""

    http: str
    grpc: str


def http_address(server: ServerProcess) -> str:
    (line,) = (line for line in server.logs if "listening for HTTP" in line)
    address: str = json.loads(line)["address"]
    return address


# Not of the session: while it is open, an event loop runs in this thread, and no test of asyncio could.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = found_chromium()
    if program is None:
        pytest.skip("chromium is not there and could not be installed: as root, apt-get install chromium")
    with opened_browser(program) as found:
        yield found


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "models", repository, dirs_exist_ok=True)
    # Of float32 by another name: one precision is asked of all models.
    precisions = {"int8": {"encoder": "fp32/encoder.onnx"}}
    tiny_encoder.write_bundle(repository / "tiny-tagger" / "1", name="tiny-tagger", precisions=precisions)
    with ServerProcess(repository, "--http-port", "0", "--lanes", "1") as server:
        address = server.wait_ready()
        yield Served(http_address(server), address)


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.grpc) as found:
        yield found


@pytest.fixture
def visit(browser: Browser, served: Served, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """The playground; at the end nothing has gone wrong that nobody has seen."""
    panel = getattr(request, "param", "translate")
    with visited(browser, served.http, panel) as found:
        yield found
        assert found.faults() == []
