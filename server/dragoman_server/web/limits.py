"""What one caller over HTTP may take of the server's memory and time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HttpLimits:
    """Sizes in bytes, times in seconds."""

    body_bytes: int = 4 << 20
    head_bytes: int = 16 << 10
    """Of the request's line and headers."""
    head_seconds: float = 10.0
    """From the connection, or the first byte of a further request, to the end of the headers."""
    body_seconds: float = 30.0
    """From the headers to the end of the body."""
    send_seconds: float = 30.0
    """How long a caller may take none of its answer."""
    idle_seconds: int = 5
    """Between two requests of one connection."""
    connections: int = 1024
    """At one time; whoever comes beyond them is answered with 503."""
