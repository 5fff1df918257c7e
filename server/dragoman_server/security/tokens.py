"""Bearer tokens: a file that holds their hashes, read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dragoman_server.errors import Unauthenticated, Violation
from dragoman_server.security.principal import Permission, Principal, Quota
from dragoman_server.settings import SettingsError

_PREFIX = "dgm_"
"""Lets scanners for leaked secrets know one."""
_BYTES = 32
_LOOK_EVERY = 1.0
"""Seconds between two looks at the file."""
_MOST = 10_000

_log = structlog.get_logger(__name__)


class TokenEntry(BaseModel):
    """One ``[[tokens]]`` of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Appears in logs and metrics."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    permissions: frozenset[Permission] = Field(default=frozenset({Permission.INFER}), min_length=1)
    requests_per_minute: int | None = Field(default=None, ge=1, le=10_000_000)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: list[TokenEntry] = Field(min_length=1, max_length=_MOST)


def new_token() -> str:
    """A token that nobody can guess: 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def digest(token: str) -> str:
    """What the file holds of a token: its SHA-256, hexadecimal.

    A token is random and long, so that a slow hash, which guards passwords, would guard nothing more.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def read_tokens(path: Path) -> list[TokenEntry]:
    """The file's entries; SettingsError lists everything that is wrong with it."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([Violation("tokens", str(path), f"a readable file: {error.strerror}")]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([Violation("tokens", str(path), f"a TOML file: {error}")]) from error
    try:
        entries = _File.model_validate(raw).tokens
    except ValidationError as error:
        # The input is not shown: it might be a token that was put where its hash belongs.
        faults = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors()]
        raise SettingsError([Violation(f"{path}: {where}", "(not shown)", limit) for where, limit in faults]) from None
    names = [entry.name for entry in entries]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise SettingsError([Violation(f"{path}: name", name, "one entry each") for name in doubled])
    return entries


class TokenFile:
    """Knows callers by their tokens. Belongs to the event loop's thread.

    The file is looked at again at most once a second; where it has become faulty, what was read before holds on, and
    the fault is logged. A principal whose entry stays the same keeps its quota. ``clock`` tells the seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._stamp = self._faulty = _stamp(path)
        self._principals: dict[TokenEntry, Principal] = {}
        self._adopt(read_tokens(path))

    def principal(self, token: str) -> Principal:
        """Whose token it is; raises Unauthenticated for one that is nobody's."""
        self._look()
        presented = digest(token)
        found: Principal | None = None
        for entry, principal in self._principals.items():  # all of them: the time taken tells nothing
            if hmac.compare_digest(entry.sha256, presented):
                found = principal
        if found is None:
            raise Unauthenticated("the token is not known")
        return found

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            self._adopt(read_tokens(self._path))
        except SettingsError as error:
            # Tried again at the next look, since it may have been unreadable for a moment alone; but logged once.
            if stamp != self._faulty:
                faults = [violation.field for violation in error.violations]
                _log.error("the tokens were not read again: the old ones hold", faults=faults)
            self._faulty = stamp
        else:
            self._stamp = self._faulty = stamp
            _log.info("the tokens were read again", tokens=len(self._principals))

    def _adopt(self, entries: list[TokenEntry]) -> None:
        before = self._principals
        self._principals = {
            entry: before.get(entry) or Principal(entry.name, entry.permissions, Quota(entry.requests_per_minute))
            for entry in entries
        }


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
