"""The receipt of an answered request, as trailing metadata."""

from __future__ import annotations

from dragoman_server.model_host import ModelHost
from dragoman_server.request import Receipt


def receipt_metadata(receipt: Receipt, host: ModelHost) -> tuple[tuple[str, str], ...]:
    """What the request went through and what served it; times in milliseconds."""
    return (
        ("dragoman-queue-ms", f"{receipt.queue_ms:.3f}"),
        ("dragoman-encode-ms", f"{receipt.encode_ms:.3f}"),
        ("dragoman-steps", str(receipt.steps)),
        ("dragoman-batch-mean", f"{receipt.batch_mean:.2f}"),
        ("dragoman-precision", host.precision),
        ("dragoman-model", host.name),
        ("dragoman-model-version", host.version),
        ("dragoman-lane", str(receipt.lane)),
    )
