"""What settings a server may listen with: nothing that others can reach goes unencrypted or unauthenticated."""

from __future__ import annotations

import ipaddress

from dragoman_server.errors import Violation
from dragoman_server.security.methods import METHODS, Need
from dragoman_server.security.principal import ADMINISTRATOR, ANONYMOUS, Permission, Principal
from dragoman_server.settings import Settings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name other than localhost may lead anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def policy_violations(settings: Settings) -> list[Violation]:
    """What is missing or does not go together; none: the server may listen."""
    violations = []
    encrypted = settings.tls_certificate is not None and settings.tls_key is not None
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        violations.append(Violation("tls_certificate and tls_key", "one of them", "both, or neither"))
    if settings.tls_client_ca is not None and not encrypted:
        violations.append(Violation("tls_client_ca", str(settings.tls_client_ca), "together with tls_certificate"))
    if settings.admin and settings.tokens is None and not is_loopback(settings.host):
        violations.append(Violation("admin", "true", "with tokens, or on a loopback address"))
    if is_loopback(settings.host) or settings.insecure:
        return violations
    needs = []
    if not encrypted:
        needs.append("tls_certificate and tls_key")
    if settings.tokens is None and settings.tls_client_ca is None:
        needs.append("tokens (or tls_client_ca)")
    if needs:
        limit = f"others can reach this address: it needs {' and '.join(needs)}, or insecure (--insecure)"
        violations.append(Violation("host", settings.host, limit))
    return violations


def methods(settings: Settings) -> dict[str, Need]:
    """The methods that are open at all, and what each needs: none that changes what is served, unless it may be."""
    return {name: need for name, need in METHODS.items() if settings.admin or need is not Permission.ADMIN}


def stranger(settings: Settings) -> Principal:
    """Whoever calls where no tokens are asked for: on this machine alone they may do all that is open."""
    return ADMINISTRATOR if settings.admin and is_loopback(settings.host) else ANONYMOUS
