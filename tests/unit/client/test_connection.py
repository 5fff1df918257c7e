"""Addresses, tokens and TLS, without a connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman import TLS, InvalidArgument, Unavailable
from dragoman.connection import connection


@pytest.mark.parametrize("address", ["localhost:50051", "10.0.0.1:1", "[::1]:65535", "unix:/run/dragoman.sock"])
def test_one_address_is_left_to_grpc(address: str) -> None:
    assert connection(address, None, tls=False).target == address


def test_several_addresses_become_one_balanced_target() -> None:
    how = connection(["10.0.0.1:50051", "10.0.0.2:50052", "10.0.0.1:50051"], None, tls=False)
    assert how.target == "ipv4:10.0.0.1:50051,10.0.0.2:50052"
    assert "round_robin" in str(dict(how.options)["grpc.service_config"])


def test_both_ip_versions_share_a_target() -> None:
    assert connection(["127.0.0.1:1", "[::1]:2"], None, tls=False).target == "ipv6:[::ffff:127.0.0.1]:1,[::1]:2"


def test_names_in_a_list_are_resolved() -> None:
    assert connection(["localhost:1", "127.0.0.1:2"], None, tls=False).target == "ipv4:127.0.0.1:1,127.0.0.1:2"
    with pytest.raises(Unavailable, match=r"nowhere\.invalid"):
        connection(["nowhere.invalid:1", "127.0.0.1:2"], None, tls=False)


@pytest.mark.parametrize(
    "address", ["", "localhost", "localhost:", ":50051", "localhost:0", "localhost:65536", "a b:1"]
)
def test_addresses_that_cannot_work(address: str) -> None:
    with pytest.raises(InvalidArgument, match="address"):
        connection(address, None, tls=False)


def test_all_faults_are_told_at_once_and_the_token_never() -> None:
    with pytest.raises(InvalidArgument) as caught:
        connection(["here", "unix:/there"], "se cret", tls=False)
    assert [v.field for v in caught.value.violations] == ["address", "address", "token", "token"]
    assert "cret" not in str(caught.value)
    with pytest.raises(InvalidArgument, match="at least one"):
        connection([], None, tls=False)


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.2:1", "[::1]:1", "unix:/run/x"])
def test_a_token_may_go_to_this_machine_in_the_clear(address: str) -> None:
    how = connection(address, "secret", tls=False)
    assert how.metadata == (("authorization", "Bearer secret"),)
    assert ("grpc.enable_http_proxy", 0) in how.options


@pytest.mark.parametrize("address", ["example.org:1", "10.0.0.1:1", "localhost.example.org:1"])
def test_a_token_goes_elsewhere_only_over_tls(address: str) -> None:
    with pytest.raises(InvalidArgument, match="only over TLS"):
        connection(address, "secret", tls=False)
    assert connection(address, "secret", tls=True).credentials is not None


def test_one_remote_address_is_enough_to_refuse_the_token() -> None:
    with pytest.raises(InvalidArgument, match="only over TLS"):
        connection(["127.0.0.1:1", "10.0.0.1:1"], "secret", tls=False)


def test_tls_files_that_cannot_be_read_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        TLS(ca=tmp_path / "ca.pem", certificate=tmp_path / "client.pem").credentials()
    assert [v.field for v in caught.value.violations] == ["tls", "tls.ca", "tls.certificate"]
