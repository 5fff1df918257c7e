"""What a server may say to a message that it cannot use: a status of the list, and nothing of its inside."""

from __future__ import annotations

import re

import grpc

ALLOWED = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""INTERNAL is not among them: no message may find a fault of ours."""

INSIDE = re.compile(
    r"Traceback|File \"|, line \d+|\b\w*(?:Error|Exception)\b\s*[:(]|<class|object at 0x|site-packages|\.py\b"
    r"|(?:^|[\s'\"(])/(?:home|usr|opt|tmp|var|root|work|app|etc)/|onnxruntime|google\.protobuf|grpc\._cython",
    re.MULTILINE,
)
"""What no status text may show: traces, types of exceptions, addresses, files and libraries."""


def fault(code: grpc.StatusCode, details: str) -> str | None:
    """What is wrong with an answer; None: nothing."""
    if code not in ALLOWED:
        return f"status {code.name}: {details[:200]}"
    if shown := INSIDE.search(details):
        return f"{code.name} shows {shown.group()!r}: {details[:200]}"
    return None
