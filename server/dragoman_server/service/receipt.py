"""The receipt of an answered request: as trailing metadata, and as a message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import grpc

from dragoman_protos.v1 import inference_pb2
from dragoman_server.model_host import ModelHost
from dragoman_server.request import Receipt
from dragoman_server.telemetry.calls import CALL, call_metadata

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]


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


class Served(NamedTuple):
    """What an answered request went through, and the model that answered."""

    receipt: Receipt
    host: ModelHost


def conclude(context: Context, served: Served, usage: inference_pb2.Usage) -> None:
    """A call is answered: its receipt goes into the trailing metadata, and what it used to whoever measures."""
    receipt, host = served
    context.set_trailing_metadata((*receipt_metadata(receipt, host), *call_metadata()))
    if (call := CALL.get()) is not None:
        call.model, call.version = host.name, host.version
        call.answered(receipt.arrived, receipt.queue_ms / 1e3, receipt.encode_ms / 1e3)
        call.source_tokens, call.target_tokens = usage.source_tokens, usage.target_tokens


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


def count_items(outcomes: Iterable[inference_pb2.TranslateOutcome]) -> None:
    """Items of a bulk call are answered: whoever measures is told how, and what they used."""
    if (call := CALL.get()) is None:
        return
    for outcome in outcomes:
        code = _CODES.get(outcome.error.code, "UNKNOWN") if outcome.HasField("error") else "OK"
        call.items[code] = call.items.get(code, 0) + 1
        call.source_tokens += outcome.response.usage.source_tokens
        call.target_tokens += outcome.response.usage.target_tokens
