"""A call to the server: under which id it is known, and what was found out about it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from dragoman_server.errors import Overloaded

REQUEST_ID_KEY = "x-request-id"
"""Of the metadata in which a caller may name its call."""
ANSWERED_ID_KEY = "dragoman-request-id"
"""Of the trailing metadata."""
Metadata = tuple[tuple[str, str], ...]
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


_random = random.Random()  # from the system's source, once


def _new_id() -> str:
    # No secret. The system's source, asked each time, would let go of the interpreter's lock for every call.
    return f"{_random.getrandbits(128):032x}"


@dataclass(slots=True)
class Call:
    """One call, from its arrival to its end. Neither texts nor tokens are kept, only how many tokens there were."""

    rpc: str
    """The method's name, or UNKNOWN; over HTTP "POST /v1/translate" and the like."""
    request_id: str = field(default_factory=_new_id)
    began: float = field(default_factory=time.monotonic)
    model: str = ""
    """That answered; empty before."""
    version: str = ""
    source_tokens: int = 0
    target_tokens: int = 0
    refused: str = ""
    """Why the call was refused, in a word; empty: it was not."""
    given_up: bool = False
    """Whether its reader took nothing for too long."""
    items: dict[str, int] = field(default_factory=dict)
    """Answered items of a bulk call, by status."""
    http: bool = False
    """It came over HTTP."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Of the caller: what says to which trace the call belongs."""
    queued: float = 0.0
    """When it came to the engine; 0 where the answer needed none, or there is none."""
    phases: list[tuple[str, float]] = field(default_factory=list)
    """What it went through from then on, in order, with the seconds of each."""

    def answered(self, queued: float, queue: float, encode: float) -> None:
        """Note what its receipt says, in seconds; it was decoded from then until now."""
        if queued:
            self.queued = queued
            decode = time.monotonic() - queued - queue - encode
            self.phases = [("queue", queue), ("encode", encode), ("decode", max(0.0, decode))]


CALL: ContextVar[Call | None] = ContextVar("CALL", default=None)
"""The one that is being handled; None outside of calls."""


def request_id(values: Sequence[object]) -> str:
    """The one that was given if there is just one, of 1 to 128 letters, digits and ``._:-``; else a new one."""
    if len(values) == 1 and isinstance(values[0], str) and _REQUEST_ID.fullmatch(values[0]):
        return values[0]
    return _new_id()


def call_metadata(error: Exception | None = None) -> Metadata:
    """What the trailing metadata say of the call that is being handled, which has failed with ``error`` if given."""
    call = CALL.get()
    if call is None:
        return ()
    if isinstance(error, Overloaded):
        call.refused = error.reason
    return ((ANSWERED_ID_KEY, call.request_id),)
