"""Dragoman's client: translations and more from a Dragoman server, over gRPC.

>>> from dragoman import Client
>>> with Client("localhost:50051") as client:
...     print(client.translate("Where is the station?", target="de").text)
"""

from dragoman.async_client import AsyncClient
from dragoman.client import Client
from dragoman.connection import TLS
from dragoman.decoding import Decoding
from dragoman.errors import (
    Cancelled,
    DeadlineExceeded,
    DragomanError,
    InternalError,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Violation,
)
from dragoman.retry import Retry
from dragoman.values import (
    Chunk,
    FinishReason,
    Hypothesis,
    Model,
    ModelDetails,
    Receipt,
    Score,
    Segment,
    Translation,
    Usage,
)

__all__ = [
    "TLS",
    "AsyncClient",
    "Cancelled",
    "Chunk",
    "Client",
    "DeadlineExceeded",
    "Decoding",
    "DragomanError",
    "FinishReason",
    "Hypothesis",
    "InternalError",
    "InvalidArgument",
    "Model",
    "ModelDetails",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Receipt",
    "Retry",
    "Score",
    "Segment",
    "Translation",
    "Unauthenticated",
    "Unavailable",
    "Usage",
    "Violation",
]
