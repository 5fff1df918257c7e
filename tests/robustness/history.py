"""What happened under one fault, in order: every request from its beginning to its end, as JSON lines."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Begun:
    """A request was sent. ``may``: the statuses that it may end with under this fault."""

    at: float
    request: str
    ask: str
    way: str
    server: str
    may: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """A chunk of a stream has come; the ``last`` one brings the answer."""

    at: float
    request: str
    delta: str
    provisional: str
    last: bool


@dataclass(frozen=True)
class Ended:
    """A request has ended; with an answer if the status is OK."""

    at: float
    request: str
    status: str
    fingerprint: str = ""
    text: str = ""
    version: str = ""
    detail: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class Reading:
    """What a server holds: rows and requests of all its engines, calls inside, and what the process has.

    ``resident`` is in MiB; ``errors`` counts the lines of its log at level error.
    """

    rows_used: int
    rows_free: int
    waiting: int
    running: int
    in_flight: int
    resident: float
    descriptors: int
    threads: int
    errors: int = 0


@dataclass(frozen=True)
class Observed:
    """A server was looked at while nothing was asked of it, before the fault and after it.

    ``resident_bound`` is the growth that the fault may leave, in MiB; ``errors_allowed``: the fault is one that a
    server logs.
    """

    at: float
    server: str
    moment: Literal["before", "after"]
    reading: Reading
    resident_bound: float
    errors_allowed: bool = False


@dataclass(frozen=True)
class Injected:
    """The fault was done to something."""

    at: float
    what: str


@dataclass(frozen=True)
class Unexpected:
    """Something that only this fault looks at was not as it should be."""

    at: float
    what: str


Event = Begun | Piece | Ended | Observed | Injected | Unexpected
KINDS: tuple[type[Event], ...] = (Begun, Piece, Ended, Observed, Injected, Unexpected)


class History:
    """The events of one fault. Written by one event loop's thread."""

    def __init__(self, fault: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.fault = fault
        self.events: list[Event] = []
        self._clock = clock

    def begin(self, ask: str, way: str, server: str, may: Iterable[str]) -> str:
        """A request is about to be sent; returns its name."""
        request = f"{ask}#{next(_numbers)}"
        self.events.append(Begun(self._clock(), request, ask, way, server, tuple(sorted(may))))
        return request

    def piece(self, request: str, delta: str, provisional: str, *, last: bool) -> None:
        self.events.append(Piece(self._clock(), request, delta, provisional, last))

    def end(
        self,
        request: str,
        status: str,
        *,
        fingerprint: str = "",
        text: str = "",
        version: str = "",
        detail: str = "",
        retry_after: float | None = None,
    ) -> None:
        self.events.append(Ended(self._clock(), request, status, fingerprint, text, version, detail, retry_after))

    def observe(
        self,
        server: str,
        moment: Literal["before", "after"],
        reading: Reading,
        *,
        resident_bound: float,
        errors_allowed: bool = False,
    ) -> None:
        self.events.append(Observed(self._clock(), server, moment, reading, resident_bound, errors_allowed))

    def injected(self, what: str) -> None:
        self.events.append(Injected(self._clock(), what))

    def expect(self, holds: bool, what: str) -> None:
        """Something that only this fault looks at: where it does not hold, it is a violation."""
        if not holds:
            self.events.append(Unexpected(self._clock(), what))

    def ends(self) -> list[Ended]:
        """The ends so far."""
        return [event for event in self.events if isinstance(event, Ended)]

    def write(self, path: Path) -> None:
        """One event a line; the time in seconds since the first."""
        first = self.events[0].at if self.events else 0.0
        with path.open("w", encoding="utf-8") as file:
            for event in self.events:
                fields = {**asdict(event), "at": round(event.at - first, 6)}
                file.write(json.dumps({"event": type(event).__name__.lower(), **fields}, ensure_ascii=False) + "\n")


def read(path: Path) -> list[Event]:
    """The events of a file that ``History.write`` wrote."""
    kinds = {kind.__name__.lower(): kind for kind in KINDS}
    events: list[Event] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        kind = kinds[fields.pop("event")]
        if kind is Begun:
            fields["may"] = tuple(fields["may"])
        if kind is Observed:
            fields["reading"] = Reading(**fields["reading"])
        events.append(kind(**fields))
    return events
