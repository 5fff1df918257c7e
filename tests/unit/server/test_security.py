"""Who may call what: tokens, quotas, certificates, and what a server refuses to listen with."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typer.testing import CliRunner

from dragoman.cli.main import app
from dragoman_server.errors import Overloaded, Unauthenticated
from dragoman_server.security.certificates import CertificateFiles, Certificates
from dragoman_server.security.policy import policy_violations
from dragoman_server.security.principal import Permission, Quota
from dragoman_server.security.tokens import TokenFile, digest, new_token, read_tokens
from dragoman_server.settings import Settings, SettingsError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def entry(name: str, token: str, more: str = "") -> str:
    return f'[[tokens]]\nname = "{name}"\nsha256 = "{digest(token)}"\n{more}\n'


def write(path: Path, text: str, number: int = 0) -> None:
    """Replace the file; its time is set, since two writes may fall into one tick of the file system's clock."""
    path.write_text(text)
    os.utime(path, ns=(number, number))


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["token", *args])


def test_the_command_makes_a_token_that_the_file_knows(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    first = run("web", "--file", str(path))
    second = run("ops", "--file", str(path), "--permission", "admin", "--permission", "infer")
    third = run("batch", "--file", str(path), "--requests-per-minute", "5")
    tokens = TokenFile(path)
    assert tokens.principal(first.stdout.strip()).name == "web"
    assert tokens.principal(second.stdout.strip()).permissions == {Permission.ADMIN, Permission.INFER}
    assert tokens.principal(third.stdout.strip()).permissions == {Permission.INFER}
    assert path.stat().st_mode & 0o077 == 0
    text = path.read_text()
    assert not any(result.stdout.strip() in text for result in (first, second, third))


def test_the_command_refuses_what_would_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    assert run("web", "--file", str(path)).exit_code == 0
    before = path.read_text()
    for args, word in [
        (("web",), "an entry of this name"),
        (("a b",), "name = a b"),
        (("ok", "--requests-per-minute", "0"), "requests_per_minute = 0"),
    ]:
        result = run(*args, "--file", str(path))
        assert result.exit_code == 1
        assert word in result.stderr
        assert result.stdout == ""
    assert path.read_text() == before
    assert "file = " in run("web", "--file", str(tmp_path / "no" / "folder")).stderr


def test_every_fault_of_the_file_is_told_and_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    write(path, '[[tokens]]\nname = "a"\nsha256 = "dgm_secret"\npermissions = ["all"]\n[[tokens]]\nnam = "b"\n')
    with pytest.raises(SettingsError) as raised:
        read_tokens(path)
    told = str(raised.value)
    for field in ("tokens.0.sha256", "tokens.0.permissions", "tokens.1.name", "tokens.1.sha256", "tokens.1.nam"):
        assert field in told
    assert "dgm_secret" not in told
    for text, word in [
        ("", "tokens"),
        ("tokens = 3", "tokens"),
        ("[[tokens", "a TOML file"),
        (entry("a", "x") + entry("a", "y"), "one entry each"),
    ]:
        write(path, text)
        with pytest.raises(SettingsError, match=word):
            read_tokens(path)
    with pytest.raises(SettingsError, match="a readable file"):
        read_tokens(tmp_path / "missing")


def test_the_file_is_read_again_and_a_faulty_one_is_not(tmp_path: Path) -> None:
    path, clock = tmp_path / "tokens.toml", Clock()
    old, new = new_token(), new_token()
    write(path, entry("web", old, "requests_per_minute = 1"), 1)
    tokens = TokenFile(path, clock)
    tokens.principal(old).quota.charge()
    with pytest.raises(Unauthenticated):
        tokens.principal(new)
    write(path, entry("web", old, "requests_per_minute = 1") + entry("more", new), 2)
    with pytest.raises(Unauthenticated):  # not looked at so soon
        tokens.principal(new)
    clock.now = 2.0
    assert tokens.principal(new).name == "more"
    with pytest.raises(Overloaded):  # an entry that stays keeps its quota
        tokens.principal(old).quota.charge()
    for number, text in enumerate(["[[tokens", ""], start=3):
        write(path, text, number)
        clock.now += 2.0
        assert tokens.principal(new).name == "more"
    path.unlink()
    clock.now += 2.0
    assert tokens.principal(new).name == "more"
    write(path, entry("more", new), 9)
    clock.now += 2.0
    with pytest.raises(Unauthenticated):
        tokens.principal(old)


@contextlib.contextmanager
def no_file_can_be_opened() -> Iterator[None]:
    """As when a process has run out of descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_could_not_be_read_for_a_moment_is_read_later(tmp_path: Path) -> None:
    path, clock = tmp_path / "tokens.toml", Clock()
    old, new = new_token(), new_token()
    write(path, entry("web", old), 1)
    tokens = TokenFile(path, clock)
    write(path, entry("web", new), 2)
    with no_file_can_be_opened(), capture_logs() as logs:
        for _ in range(3):
            clock.now += 2.0
            assert tokens.principal(old).name == "web"
    assert [line["log_level"] for line in logs] == ["error"]
    clock.now += 2.0
    assert tokens.principal(new).name == "web"


def test_certificates_that_could_not_be_read_for_a_moment_are_read_later(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = pem(tmp_path, authority.issue_cert("localhost"))
    certificates = Certificates(files)
    pem(tmp_path, authority.issue_cert("localhost"))
    os.utime(files.certificate, ns=(1, 1))
    with no_file_can_be_opened(), capture_logs() as logs:
        assert [certificates.changed() for _ in range(3)] == [None] * 3
    assert [line["log_level"] for line in logs] == ["error"]
    assert certificates.changed() is not None
    assert certificates.changed() is None


@pytest.mark.parametrize("token", ["", "x", "ü", "\0", "a" * 10_000])
def test_a_token_of_nobody(tmp_path: Path, token: str) -> None:
    write(tmp_path / "tokens.toml", entry("web", new_token()))
    with pytest.raises(Unauthenticated, match="not known"):
        TokenFile(tmp_path / "tokens.toml").principal(token)


@given(
    per_minute=st.integers(1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 300)), max_size=60),
)
def test_a_quota_lets_in_a_minutes_worth_and_what_time_brings(per_minute: int, steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    quota = Quota(per_minute, clock)
    taken = largest = 0
    waits: list[float] = []
    for seconds, requests in steps:
        clock.now += seconds
        try:
            quota.charge(requests)
        except Overloaded as refusal:
            waits.append(refusal.retry_after)
            clock.now += refusal.retry_after + 1e-6
            quota.charge(requests)
        taken, largest = taken + requests, max(largest, requests)
        # A call of more than a minute's worth is let in by a full bucket, and owed for.
        assert taken <= per_minute * (1 + clock.now / 60.0) + max(0, largest - per_minute) + 1e-6
    assert all(0 < wait <= 60.0 * (1 + largest / per_minute) + 1e-6 for wait in waits)
    Quota(None, clock).charge(10**9)


def pem(folder: Path, issued: trustme.LeafCert) -> CertificateFiles:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return CertificateFiles(certificate, key)


def test_new_certificates_are_noticed_and_faulty_ones_left(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = pem(tmp_path, authority.issue_cert("localhost"))
    certificates = Certificates(files)
    assert certificates.changed() is None
    other = authority.issue_cert("localhost")
    files.certificate.write_bytes(other.cert_chain_pems[0].bytes())  # half of a replacement
    os.utime(files.certificate, ns=(1, 1))
    assert certificates.changed() is None
    pem(tmp_path, other)
    os.utime(files.certificate, ns=(2, 2))
    assert certificates.changed() is not None
    assert certificates.changed() is None
    files.key.unlink()
    assert certificates.changed() is None


def test_every_fault_of_the_certificates_is_told(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = pem(tmp_path, authority.issue_cert("localhost"))
    with pytest.raises(SettingsError) as raised:
        CertificateFiles(tmp_path / "a", tmp_path / "b", tmp_path / "c").read()
    assert [v.field for v in raised.value.violations] == ["tls_certificate", "tls_key", "tls_client_ca"]
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    with pytest.raises(SettingsError) as raised:
        CertificateFiles(files.certificate, junk, junk).read()
    assert [v.field for v in raised.value.violations] == ["tls_certificate and tls_key", "tls_client_ca"]
    pem(tmp_path, authority.issue_cert("localhost"))
    junk.write_bytes(authority.issue_cert("localhost").private_key_pem.bytes())
    with pytest.raises(SettingsError, match="its own"):
        CertificateFiles(files.certificate, junk).read()


FILE = Path("file")


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({}, []),
        ({"host": "::1"}, []),
        ({"host": "localhost", "tokens": FILE}, []),
        ({"host": "0.0.0.0"}, ["host"]),
        ({"host": "::"}, ["host"]),
        ({"host": "example.org", "tokens": FILE}, ["host"]),
        ({"host": "10.0.0.1", "tls_certificate": FILE, "tls_key": FILE}, ["host"]),
        ({"host": "10.0.0.1", "tls_certificate": FILE, "tls_key": FILE, "tokens": FILE}, []),
        ({"host": "10.0.0.1", "tls_certificate": FILE, "tls_key": FILE, "tls_client_ca": FILE}, []),
        ({"host": "10.0.0.1", "insecure": True}, []),
        ({"tls_key": FILE, "tls_client_ca": FILE}, ["tls_certificate and tls_key", "tls_client_ca"]),
    ],
)
def test_what_a_server_refuses_to_listen_with(settings: dict[str, Any], fields: list[str]) -> None:
    assert [violation.field for violation in policy_violations(Settings(**settings))] == fields
