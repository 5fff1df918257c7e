"""The receipt of an answered request: as trailing metadata, and as a message."""

from __future__ import annotations

from dragoman_protos.v1 import inference_pb2
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


def receipt_message(receipt: Receipt, host: ModelHost) -> inference_pb2.Receipt:
    """The same for an answer among others; the model's name and version stand in the answer itself."""
    return inference_pb2.Receipt(
        queue_ms=receipt.queue_ms,
        encode_ms=receipt.encode_ms,
        steps=receipt.steps,
        batch_mean=receipt.batch_mean,
        precision=host.precision,
        lane=receipt.lane,
    )
