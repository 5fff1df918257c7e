"""What a server is installed with is pinned, hashed, and audited where somebody knows of weaknesses."""

from __future__ import annotations

import re
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.audit import LOCKED, main, pins

ROOT = Path(__file__).parents[2]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_is_pinned_with_hashes_to_the_version_of_all_environments() -> None:
    blocks = re.split(r"\n(?=\S)", LOCKED.read_text(encoding="utf-8").strip())
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), block
    constraints = pins(ROOT / "constraints.txt")
    everywhere = {normalized(name): version for name, version in constraints.items()}
    for name, version in pins(LOCKED).items():
        assert everywhere[normalized(name)] == version, name


def test_all_that_a_server_needs_is_among_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    names = {normalized(re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]) for requirement in needed}
    assert len(names) > 10
    assert names <= {normalized(name) for name in pins(LOCKED)}


@pytest.fixture
def index(request: pytest.FixtureRequest) -> Iterator[str]:
    """An index that answers everything with the parameter, or with 404 for None."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if request.param is None else 200)
            self.end_headers()
            self.wfile.write(request.param or b"")

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("index", [None, b"{}", b"no JSON", b'{"vulnerabilities": null}'], indirect=True)
def test_what_was_not_audited_is_not_called_sound(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(index, audit=[sys.executable, "-c", "raise SystemExit(7)"]) == 0
    assert "was NOT audited" in capsys.readouterr().out


@pytest.mark.parametrize("index", [b'{"vulnerabilities": []}'], indirect=True)
def test_where_somebody_knows_the_audit_decides(index: str) -> None:
    strict = "import sys; sys.exit(7 if '--strict' in sys.argv and '--require-hashes' in sys.argv else 0)"
    assert main(index, audit=[sys.executable, "-c", strict]) == 7
