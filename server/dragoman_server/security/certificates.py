"""TLS of the listening port: files that may be replaced while the server runs, and clients' certificates."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from dragoman_server.errors import Violation
from dragoman_server.settings import Settings, SettingsError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files. ``client_ca`` holds the authorities that must have signed a client's certificate; None: none is asked
    for.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Changes when a file is replaced."""
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.client_ca) if path is not None)

    def read(self) -> grpc.ServerCertificateConfiguration:
        """The files' content, if key and certificate belong together; SettingsError lists every fault."""
        faults: list[Violation] = []
        contents = {
            name: _contents(name, path, faults)
            for name, path in (
                ("tls_certificate", self.certificate),
                ("tls_key", self.key),
                ("tls_client_ca", self.client_ca),
            )
        }
        if not faults:
            faults = self._faults()
        if faults:
            raise SettingsError(faults)
        chain, key, authorities = contents.values()
        assert chain is not None
        assert key is not None
        return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)

    def _faults(self) -> list[Violation]:
        faults = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password="")  # empty: never asked for on a terminal
        except (OSError, ValueError) as error:
            limit = f"a PEM certificate and its own unencrypted key: {_reason(error)}"
            faults.append(Violation("tls_certificate and tls_key", f"{self.certificate} and {self.key}", limit))
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ValueError) as error:
                faults.append(Violation("tls_client_ca", str(self.client_ca), f"PEM certificates: {_reason(error)}"))
        return faults


class Certificates:
    """Gives gRPC the certificates, and the new ones once the files were replaced, to connections made from then on.

    A replacement that is faulty or half there leaves the old ones in use, and is logged.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._stamp = self._faulty = files.stamp()
        self._lock = threading.Lock()
        self.first = files.read()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """New certificates, or None where nothing has changed. Called for each handshake, in gRPC's threads."""
        with self._lock:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            try:
                read = self._files.read()
            except SettingsError as error:
                # Tried again at the next handshake, since files may be unreadable for a moment alone; but logged once.
                if stamp != self._faulty:
                    faults = [violation.limit for violation in error.violations]
                    _log.error("the certificate was not read again: the old one holds", faults=faults)
                self._faulty = stamp
                return None
            self._stamp = self._faulty = stamp
        _log.info("the certificate was read again")
        return read

    def credentials(self) -> grpc.ServerCredentials:
        """For a port."""
        return grpc.dynamic_ssl_server_credentials(
            self.first,
            self.changed,  # type: ignore[arg-type]  # None is "as before": the stubs do not say so
            require_client_authentication=self._files.client_ca is not None,
        )


def certificate_files(settings: Settings) -> CertificateFiles | None:
    """The files that the settings name; None where they name none."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return CertificateFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


def _contents(name: str, path: Path | None, faults: list[Violation]) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        faults.append(Violation(name, str(path), f"a readable file: {error.strerror}"))
        return None


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
