"""Where a client connects to and how: addresses, balancing, TLS and the token; pure but for name resolution."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import grpc

from dragoman.errors import InvalidArgument, Unavailable, Violation

DEFAULT_ADDRESS = "localhost:50051"

_HOST_PORT = re.compile(r"^(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\],]+):(?P<port>\d{1,5})$")
_TOKEN = re.compile(r"^[\x21-\x7e]+$")
_OPTIONS: tuple[tuple[str, str | int], ...] = (
    # Tried again by our own rules (retry.py).
    ("grpc.enable_retries", 0),
    # A server that came back is found within a second or so, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # What a server may be set to send at most, beyond gRPC's 4 MiB: explanations are large.
    ("grpc.max_receive_message_length", 64 << 20),
    # A peer that vanished without a word is noticed while calls are under way.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


_BALANCED: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
_WATCHED = _BALANCED | {"healthCheckConfig": {"serviceName": ""}}
"""Each server is asked to tell whether it serves (grpc.health.v1): one that drains or starts gets no new calls. One
that has no health service is taken to serve."""


@dataclass(frozen=True, slots=True)
class TLS:
    """Files (PEM) for an encrypted connection.

    ``ca`` holds the authorities to trust, None for those that come with gRPC; ``certificate`` and ``key`` are the
    client's own, for servers that ask for one (mutual TLS).
    """

    ca: str | PathLike[str] | None = None
    certificate: str | PathLike[str] | None = None
    key: str | PathLike[str] | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files; raises InvalidArgument naming every one that cannot be read."""
        faults: list[Violation] = []
        if (self.certificate is None) != (self.key is None):
            faults.append(Violation("tls", "certificate or key alone", "both or neither"))
        ca = _contents("tls.ca", self.ca, faults)
        certificate = _contents("tls.certificate", self.certificate, faults)
        key = _contents("tls.key", self.key, faults)
        if faults:
            raise InvalidArgument(faults)
        return grpc.ssl_channel_credentials(ca, key, certificate)


@dataclass(frozen=True, slots=True)
class Connection:
    """All that is needed to open a channel, sync or async."""

    target: str
    options: tuple[tuple[str, str | int], ...]
    credentials: grpc.ChannelCredentials | None
    metadata: tuple[tuple[str, str], ...]
    """Sent with every call."""


def connection(address: str | Sequence[str], token: str | None, tls: bool | TLS) -> Connection:
    """Check and gather; raises InvalidArgument listing all faults, Unavailable when a name does not resolve.

    One address is left to gRPC, which resolves its name again whenever connections are lost. Several must be
    HOST:PORT; their names are resolved here, once.
    """
    addresses = [address] if isinstance(address, str) else list(address)
    faults = [
        Violation("address", repr(a), "HOST:PORT or [IPV6]:PORT" + (", or unix:PATH" if len(addresses) == 1 else ""))
        for a in addresses
        if not (_is_host_port(a) or (len(addresses) == 1 and a.startswith("unix:")))
    ]
    if not addresses:
        faults.append(Violation("address", "none", "at least one"))
    loopback = all(_is_loopback(a) for a in addresses)
    if token is not None and not _TOKEN.match(token):
        faults.append(Violation("token", "(not shown)", "printable ASCII without spaces, not empty"))
    if token is not None and not tls and not loopback:
        faults.append(Violation("token", "(not shown)", "only over TLS, or to this machine: it would be readable"))
    if faults:
        raise InvalidArgument(faults)

    # One address of this machine is one server, and says by itself that it does not serve.
    watched = len(addresses) > 1 or not (loopback or _is_ip(addresses[0]))
    options = [*_OPTIONS, ("grpc.service_config", json.dumps(_WATCHED if watched else _BALANCED))]
    if loopback:  # else http_proxy in the environment would catch calls that never leave the machine
        options.append(("grpc.enable_http_proxy", 0))
    if tls and len(addresses) > 1:  # replicas share one certificate, in the name of the first
        options.append(("grpc.default_authority", addresses[0].rpartition(":")[0]))
    return Connection(
        target=addresses[0] if len(addresses) == 1 else _list_target(addresses),
        options=tuple(options),
        credentials=(TLS() if tls is True else tls).credentials() if tls else None,
        metadata=() if token is None else (("authorization", f"Bearer {token}"),),
    )


def _is_host_port(address: str) -> bool:
    match = _HOST_PORT.match(address)
    return match is not None and 0 < int(match["port"]) < 65536


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _list_target(addresses: list[str]) -> str:
    """gRPC's target for a list of servers, such as "ipv4:10.0.0.1:50051,10.0.0.2:50051"."""
    found = list(dict.fromkeys(endpoint for address in addresses for endpoint in _resolve(address)))
    if all(ip.version == 4 for ip, _ in found):
        return "ipv4:" + ",".join(f"{ip}:{port}" for ip, port in found)
    # The scheme holds one version only, so the others travel as IPv4-mapped addresses.
    return "ipv6:" + ",".join(f"[{ip}]:{port}" if ip.version == 6 else f"[::ffff:{ip}]:{port}" for ip, port in found)


def _resolve(address: str) -> list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    host, _, port = address.rpartition(":")
    try:
        answers = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"no address is known for {host!r}: {error}") from None
    endpoints = [(ipaddress.ip_address(str(answer[4][0]).partition("%")[0]), int(port)) for answer in answers]
    # One server often answers on both versions: one of them is enough.
    version = min(ip.version for ip, _ in endpoints)
    return [endpoint for endpoint in endpoints if endpoint[0].version == version]


def _contents(field: str, path: str | PathLike[str] | None, faults: list[Violation]) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        faults.append(Violation(field, str(path), f"a file that can be read ({error.strerror})"))
        return None
