"""The wheel carries the default model: installed anywhere, ``dragoman serve`` needs no repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dragoman import Client
from dragoman_server.kernels.build import compiler
from tests.integration.server_process import SECONDS, ServerProcess

ROOT = Path(__file__).parents[2]
PLAYGROUND = ROOT / "server" / "dragoman_server" / "web" / "playground"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=280)
    (wheel,) = folder.glob("dragoman-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_what_is_in_it(unpacked: Path) -> None:
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    for expected in (
        "dragoman/py.typed",
        "dragoman_server/models/deu-eng/1/bundle.json",
        "dragoman_protos/v1/inference_pb2.py",
        *(f"dragoman_server/web/playground/{path.name}" for path in PLAYGROUND.iterdir()),
    ):
        assert expected in names
    library = "dragoman_server/kernels/compiled/libdragoman_kernels.so"
    assert (library in names) == (compiler() is not None)
    licences = {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}
    assert not any(name.startswith("tests/") for name in names)


def test_it_serves_outside_the_repository(unpacked: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    with ServerProcess(None, folder=tmp_path, environment=environment) as server, Client(server.wait_ready()) as client:
        assert "Bahnhof" in client.translate("Where is the station?", target="de", timeout=SECONDS).text
        assert client.model().bundle.name == "deu-eng"
