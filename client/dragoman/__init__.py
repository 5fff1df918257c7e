"""Dragoman's client: translations and more from a Dragoman server, over gRPC.

>>> from dragoman import Client
>>> with Client("localhost:50051") as client:
...     print(client.translate("Where is the station?", target="de").text)
"""

from dragoman.async_client import AsyncClient
from dragoman.client import Client
from dragoman.connection import TLS
from dragoman.decoding import Decoding, GenerationOptions
from dragoman.errors import (
    Cancelled,
    DeadlineExceeded,
    DragomanError,
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Violation,
)
from dragoman.explaining_values import AlignmentLink, AttentionMaps, ExplainedToken, Explanation
from dragoman.generation import GeneratedChunk, GeneratedText
from dragoman.health import Health
from dragoman.retry import Retry
from dragoman.understanding_values import (
    Classification,
    Embeddings,
    FilledMask,
    FilledMasks,
    Label,
    MaskCandidate,
    Span,
    Tagging,
)
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
    "AlignmentLink",
    "AsyncClient",
    "AttentionMaps",
    "Cancelled",
    "Chunk",
    "Classification",
    "Client",
    "DeadlineExceeded",
    "Decoding",
    "DragomanError",
    "Embeddings",
    "ExplainedToken",
    "Explanation",
    "FailedPrecondition",
    "FilledMask",
    "FilledMasks",
    "FinishReason",
    "GeneratedChunk",
    "GeneratedText",
    "GenerationOptions",
    "Health",
    "Hypothesis",
    "InternalError",
    "InvalidArgument",
    "Label",
    "MaskCandidate",
    "Model",
    "ModelDetails",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Receipt",
    "Retry",
    "Score",
    "Segment",
    "Span",
    "Tagging",
    "Translation",
    "Unauthenticated",
    "Unavailable",
    "Usage",
    "Violation",
]
