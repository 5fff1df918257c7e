"""How commands reach the server: address, token and TLS, from options and the environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme
from typer.testing import CliRunner

from dragoman.cli.main import app

if TYPE_CHECKING:
    from tests.unit.client.conftest import FakeServer


def run(address: str, *args: str, env: dict[str, str] | None = None) -> Any:
    command = ["translate", "--target", "de", "--server", address, "--timeout", "10", "abc"]
    return CliRunner().invoke(app, [*command, *args], env=env)


def test_the_token_comes_from_a_file_or_the_environment(fake: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    for args, env, expected in [
        ((), {}, None),
        ((), {"DRAGOMAN_TOKEN": "from-environment"}, "Bearer from-environment"),
        (("--token-file", str(file)), {"DRAGOMAN_TOKEN": "from-environment"}, "Bearer from-file"),
    ]:
        fake.metadata.clear()
        assert run(fake.address, *args, env=env).stdout == "cba\n"
        assert fake.metadata[0].get("authorization") == expected


def test_a_token_file_that_cannot_be_read(tmp_path: Path) -> None:
    result = run("localhost:1", "--token-file", str(tmp_path / "none"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("dragoman translate: --token-file = ")


def test_tls_with_an_authority_of_ones_own(secure: FakeServer, authority: trustme.CA, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    address = f"localhost:{secure.port}"
    assert run(address, "--tls-ca", str(ca)).stdout == "cba\n"
    assert run(address, env={"DRAGOMAN_TLS_CA": str(ca)}).stdout == "cba\n"
    for args in ((), ("--tls",), ("--tls-ca", str(ca), "--no-tls")):
        result = run(address, "--timeout", "2", *args)
        assert (result.exit_code, result.stdout) == (1, "")
    missing = run(address, "--tls-ca", str(tmp_path / "none"), "--tls-key", "x")
    assert missing.exit_code == 1
    assert len(missing.stderr.splitlines()) >= 2
